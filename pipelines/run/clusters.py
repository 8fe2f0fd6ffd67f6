"""Cohorts without axes: clusters of the baseline's representation, described by raw columns."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from c2al_tf.cohorts import Cohort, Condition, Interval, Values, raw_columns
from c2al_tf.schema import CategoricalFeature
from c2al_tf.types import MISSING_INT, MISSING_STRING, Array, Columns

from .arms import BASELINE
from .folder import RunFolder
from .representation import represent
from .rows import read_split

_MOST_ROWS = 50_000
_MOST_VALUES = 64
"""Distinct values of a category above which no description reads its column: ids describe nobody."""

_LEAST_SHARE = 0.02
_LARGEST = float(np.finfo(np.float32).max)


def describe_baseline(run: RunFolder, clusters: int) -> tuple[Cohort, ...]:
    """Describes clusters of the first baseline's representation h of the first validation rows."""
    h = represent(run, run.seeds[0], BASELINE, ["validation"], _MOST_ROWS)["validation"]
    schema = run.schema
    aside = {*schema.labels, schema.weight, run.config.unit}
    names = [name for name, column in schema.columns.items() if name not in aside and column.length is None]
    categories = [f.name for f in schema.features if isinstance(f, CategoricalFeature)]
    return describe_clusters(h, read_split(run, "validation", names, len(h)), clusters, categories)


def describe_clusters(
    h: Array, columns: Columns, clusters: int, categories: Sequence[str] = (), seed: int = 0
) -> tuple[Cohort, ...]:
    """Clusters rows by h, and describes the clusters by raw columns, so that any row's membership can be computed.

    k-means finds the clusters. A decision tree with at most two leaves a cluster learns them from the columns. Each
    leaf is a cohort: the conditions of its path. The values of a category are ordered by the share of their rows in the
    largest cluster, so that a split separates some values from the others. A row with a missing value is in no cohort
    whose conditions read it.

    Args:
        h: Representation (rows, units).
        columns: Raw columns (rows,).
        clusters: Number of clusters, at least 2.
        categories: Columns of integers that are codes, without an order; strings and booleans are categories too.
        seed: Of k-means.

    Returns:
        Disjoint cohorts with rows, the largest first.

    Raises:
        ValueError: If no column can describe a cluster: all are categories with more than 64 values.
    """
    # Imported here: it takes a second, and most runs do without it.
    from sklearn.cluster import KMeans
    from sklearn.tree import DecisionTreeClassifier

    spread = h.std(axis=0)
    found = KMeans(clusters, n_init=4, random_state=seed).fit_predict(
        (h - h.mean(axis=0)) / np.where(spread, spread, 1)
    )
    largest = found == np.bincount(found).argmax()
    orders = {name: _order(values, largest, name in categories) for name, values in columns.items()}
    read = [name for name, order in orders.items() if order is None or len(order) <= _MOST_VALUES]
    if not read:
        raise ValueError(
            f"Clusters are described by numbers, or by categories of at most {_MOST_VALUES} values. "
            f"Received: {', '.join(columns)}"
        )
    coded = [_Coded.of(name, columns[name], orders[name]) for name in read]
    x = np.stack([column.numbers for column in coded], axis=1)
    least = max(int(_LEAST_SHARE * len(x)), 1)
    tree = DecisionTreeClassifier(max_leaf_nodes=2 * clusters, min_samples_leaf=least, random_state=seed).fit(x, found)
    paths = [conditions for bounds in _leaves(tree.tree_) if (conditions := _conditions(bounds, coded))]
    raw = raw_columns(columns, read)
    rows = {path: int(Cohort("leaf", path).contains(raw).sum()) for path in paths}
    in_order = sorted((path for path in paths if rows[path]), key=lambda path: -rows[path])
    return tuple(Cohort(f"latent_{clusters}_{number}", path) for number, path in enumerate(in_order))


def _order(values: Array, largest: Array, is_category: bool) -> Mapping[Any, int] | None:
    """The values of a category by the share of their rows in a cluster; None for numbers."""
    if values.dtype.kind not in "OUb" and not is_category:
        return None
    distinct, codes = np.unique(values, return_inverse=True)
    shares = np.bincount(codes, largest) / np.bincount(codes)
    rising = np.argsort(shares, kind="stable")
    ordered = [value for value in distinct[rising].tolist() if value not in (MISSING_STRING, MISSING_INT)]
    return {value: place for place, value in enumerate(ordered)}


@dataclass(frozen=True, eq=False)
class _Coded:
    """A raw column as a tree reads it, in float32.

    Args:
        name: Its name.
        numbers: (rows,) places of values, or numbers less `origin`; a missing value is above all others.
        order: Places of a category's values; None for numbers.
        whole: Whether the numbers are whole.
        origin: The lowest number: the tree rounds to float32, which keeps only small differences exactly.
    """

    name: str
    numbers: Array
    order: Mapping[Any, int] | None
    whole: bool = True
    origin: int = 0

    @classmethod
    def of(cls, name: str, values: Array, order: Mapping[Any, int] | None) -> "_Coded":
        if order is not None:
            return cls(name, np.array([order.get(value, len(order)) for value in values.tolist()], np.float32), order)
        whole = values.dtype.kind in "iu"
        missing = values == MISSING_INT if whole else np.isnan(values)
        present = values[~missing]
        origin = int(present.min()) if whole and len(present) else 0
        numbers = np.where(missing, _LARGEST, np.clip(np.where(missing, 0, values - origin), -_LARGEST, _LARGEST / 8))
        return cls(name, numbers.astype(np.float32), None, whole, origin)

    def condition(self, low: float, high: float) -> Condition | None:
        """The condition that the tree's number is in (low, high]; None if no value is."""
        if self.order is None:
            return Interval(self.name, self._edge(low), self._edge(high))
        values = tuple(value for value, place in self.order.items() if low < place <= high)
        return Values(self.name, values) if values else None

    def _edge(self, threshold: float) -> float:
        """Maps a limit of (low, high] to that of an interval [low, high): the least number above it."""
        if np.isinf(threshold) or threshold > _LARGEST / 4:
            return threshold if threshold < 0 else np.inf
        if self.whole:
            return float(np.floor(threshold) + 1 + self.origin)
        edge = np.float32(threshold)
        return float(edge if edge > threshold else np.nextafter(edge, np.float32(np.inf)))


def _leaves(tree: Any) -> Iterator[dict[int, tuple[float, float]]]:
    """Yields for each leaf the columns that its path reads, with the interval (low, high] of each."""
    todo: list[tuple[int, dict[int, tuple[float, float]]]] = [(0, {})]
    while todo:
        node, bounds = todo.pop()
        if tree.children_left[node] == -1:
            yield bounds
            continue
        column, at = int(tree.feature[node]), float(tree.threshold[node])
        low, high = bounds.get(column, (-np.inf, np.inf))
        todo.append((int(tree.children_left[node]), bounds | {column: (low, min(high, at))}))
        todo.append((int(tree.children_right[node]), bounds | {column: (max(low, at), high)}))


def _conditions(bounds: Mapping[int, tuple[float, float]], coded: Sequence[_Coded]) -> tuple[Condition, ...]:
    """The conditions of a path; none if no value that is present is on it."""
    if any(low > _LARGEST / 4 for low, _ in bounds.values()):
        return ()
    conditions = [coded[column].condition(*limits) for column, limits in sorted(bounds.items())]
    return () if None in conditions else tuple(c for c in conditions if c is not None)
