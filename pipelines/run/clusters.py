"""Cohorts without axes: clusters of the baseline's representation, described by raw columns."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from c2al_tf.cohorts import Cohort, Condition, Interval, Values
from c2al_tf.types import MISSING_INT, MISSING_STRING, Array, Columns

from .arms import BASELINE
from .folder import RunFolder
from .representation import represent
from .rows import read_split

_MOST_ROWS = 50_000
_MOST_VALUES = 64
"""Distinct values of a column of strings above which no description reads it: ids describe nobody."""

_LEAST_SHARE = 0.02


def describe_baseline(run: RunFolder, clusters: int) -> tuple[Cohort, ...]:
    """Describes clusters of the first baseline's representation h of validation rows; see `describe_clusters`."""
    h = represent(run, run.seeds[0], BASELINE, "validation", _MOST_ROWS)
    schema = run.schema
    aside = {*schema.labels, schema.weight, run.config.unit}
    names = {name for name, column in schema.columns.items() if name not in aside and column.length is None}
    columns = {name: values[: len(h)] for name, values in read_split(run, "validation", names).items()}
    return describe_clusters(h, columns, clusters)


def describe_clusters(h: Array, columns: Columns, clusters: int, seed: int = 0) -> tuple[Cohort, ...]:
    """Clusters rows by h, and describes the clusters by raw columns, so that any row's membership can be computed.

    k-means finds the clusters. A decision tree with at most two leaves a cluster learns them from the columns, and each
    leaf is a cohort: its path's conditions. Values of strings are ordered by how many of their rows are in the largest
    cluster, so that a split puts some of them aside. A missing value counts as highest; a row with one is in no cohort
    whose conditions read it.

    Args:
        h: Representation (rows, units).
        columns: Raw columns (rows,).
        clusters: Number of clusters, at least 2.
        seed: Of k-means.

    Returns:
        Disjoint cohorts `latent_0`, `latent_1`, and so on, that with largest share first.
    """
    from sklearn.cluster import KMeans  # takes a second, which runs without it are spared
    from sklearn.tree import DecisionTreeClassifier

    spread = h.std(axis=0)
    found = KMeans(clusters, n_init=4, random_state=seed).fit_predict(
        (h - h.mean(axis=0)) / np.where(spread, spread, 1)
    )
    largest = found == np.bincount(found).argmax()
    ordered = {name: _order(values, largest) for name, values in columns.items()}
    read = [name for name, order in ordered.items() if order is None or len(order) <= _MOST_VALUES]
    x = np.stack([_numbers(columns[name], ordered[name]) for name in read], axis=1)
    least = max(int(_LEAST_SHARE * len(x)), 1)
    tree = DecisionTreeClassifier(max_leaf_nodes=2 * clusters, min_samples_leaf=least, random_state=seed).fit(x, found)
    kinds = [(name, columns[name].dtype.kind, ordered[name]) for name in read]
    rows = np.bincount(tree.apply(x), minlength=tree.tree_.node_count)
    leaves = [(leaf, bounds) for leaf, bounds in _leaves(tree.tree_, len(read)).items() if bounds]
    described = [(_conditions(bounds, kinds), rows[leaf]) for leaf, bounds in leaves]
    in_order = sorted((c for c in described if c[0]), key=lambda c: -c[1])
    return tuple(Cohort(f"latent_{number}", conditions) for number, (conditions, _) in enumerate(in_order))


def _order(values: Array, largest: Array) -> Mapping[Any, int] | None:
    """The values of a column of strings or booleans by the share of their rows in a cluster; None for numbers."""
    if values.dtype.kind not in "OUb":
        return None
    distinct, codes = np.unique(values, return_inverse=True)
    shares = np.bincount(codes, largest) / np.bincount(codes)
    rising = np.argsort(shares, kind="stable")
    ordered = [value for value in distinct[rising].tolist() if value != MISSING_STRING]
    return {value: place for place, value in enumerate(ordered)}


def _numbers(values: Array, order: Mapping[Any, int] | None) -> Array:
    """Maps a raw column to float64 (rows,) for the tree."""
    if order is not None:
        return np.array([order.get(value, len(order)) for value in values.tolist()], np.float64)
    numbers = values.astype(np.float64)
    missing = values == MISSING_INT if values.dtype.kind == "i" else np.isnan(numbers)
    highest = numbers[~missing].max(initial=0.0) + 1
    return np.where(missing, highest, np.clip(numbers, None, highest))


def _leaves(tree: Any, num_columns: int) -> dict[int, dict[int, tuple[float, float]]]:
    """Of each leaf the columns that its path reads, with the interval (low, high] of each."""
    found: dict[int, dict[int, tuple[float, float]]] = {}
    todo: list[tuple[int, dict[int, tuple[float, float]]]] = [(0, {})]
    while todo:
        node, bounds = todo.pop()
        if tree.children_left[node] == -1:
            found[node] = bounds
            continue
        column, at = int(tree.feature[node]), float(tree.threshold[node])
        low, high = bounds.get(column, (-np.inf, np.inf))
        todo.append((int(tree.children_left[node]), bounds | {column: (low, min(high, at))}))
        todo.append((int(tree.children_right[node]), bounds | {column: (max(low, at), high)}))
    return found


def _conditions(
    bounds: Mapping[int, tuple[float, float]], kinds: Sequence[tuple[str, str, Mapping[Any, int] | None]]
) -> tuple[Condition, ...]:
    """The conditions of a path; none if it holds missing values alone."""
    conditions: list[Condition] = []
    for column, (low, high) in sorted(bounds.items()):
        name, kind, order = kinds[column]
        if order is None:
            conditions.append(Interval(name, _edge(low, kind), _edge(high, kind)))
            continue
        values = tuple(value for value, place in order.items() if low < place <= high)
        if not values:
            return ()
        conditions.append(Values(name, values))
    return tuple(conditions)


def _edge(threshold: float, kind: str) -> float:
    """Maps a limit of the tree's (low, high] to that of an interval [low, high): the least number above it."""
    if kind == "i":
        return float(np.floor(threshold) + 1)
    edge = np.float32(threshold)
    return float(edge if edge > threshold else np.nextafter(edge, np.float32(np.inf)))
