"""Semantic axes: a column, or a cross of two, cut into disjoint cohorts."""

import itertools
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..types import MISSING_INT, MISSING_STRING, PRIMARY, Array
from .cohort import Cohort
from .conditions import Condition, Interval, Values, format_edge
from .table import RawColumn, Table, raw_columns

GIVEN = "given"
"""Name of the axis whose cohorts a team brought, instead of a column's cuts. They may overlap."""

# "Top 5 % against bottom 5 %" (C2AL, Figure 3), and the middle.
_QUANTILES = (0.0, 0.05, 0.25, 0.75, 0.95, 1.0)


@dataclass(frozen=True)
class Axis:
    """What cohorts are cut along.

    A column of numbers with `edges` is cut into intervals [edge, next edge), any other one at `quantiles` of its
    values: the outermost intervals are open, so that they hold on new data too, and equal edges fall together. A column
    of strings or booleans, or of integers that `categories` names, is cut into its most frequent values. A cross of two
    columns is cut into the combinations of their cohorts. A row with a missing value is in no cohort of the axis.

    Args:
        columns: Names of one raw column, or of two to be crossed.
        edges: Column to two or more rising edges; infinity at either end leaves it open.
        quantiles: Column to two or more rising shares in [0, 1]; 0, 5, 25, 75, 95 and 100 % if not given.
        categories: Columns of integers that are codes, without an order.
        max_cohorts: How many values of a column, and how many combinations of a cross, become cohorts: those with
            the most rows. Intervals are all kept.
        name: Name in the results; the columns' names joined by ` x ` if empty.
    """

    columns: tuple[str, ...]
    edges: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    quantiles: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    categories: tuple[str, ...] = ()
    max_cohorts: int = 20
    name: str = ""

    def __post_init__(self) -> None:
        if isinstance(self.columns, str) or not 1 <= len(set(self.columns)) == len(self.columns) <= 2:
            raise ValueError(
                f"`columns` of an axis must be a tuple of one or two names. Received: columns={self.columns!r}"
            )
        object.__setattr__(self, "columns", tuple(self.columns))
        object.__setattr__(self, "name", self.name or " x ".join(self.columns))
        if self.name == GIVEN:
            raise ValueError(
                f"The axis {GIVEN!r} is that of given cohorts; give yours another `name`. Received: {self}"
            )
        if self.max_cohorts < 2:
            raise ValueError(f"`max_cohorts` must be at least 2. Received: max_cohorts={self.max_cohorts}")
        object.__setattr__(self, "categories", tuple(self.categories))
        given = [*self.edges, *self.quantiles, *self.categories]
        if set(given) - set(self.columns) or len(set(given)) < len(given):
            raise ValueError(
                f"Axis `{self.name}` must name each of its own columns {', '.join(self.columns)} at most once in "
                f"`edges`, `quantiles` and `categories`. Received: edges={dict(self.edges)}, "
                f"quantiles={dict(self.quantiles)}, categories={self.categories}"
            )
        for column, edges in self.edges.items():
            self._check_rising("edges", column, edges, -math.inf, math.inf)
        for column, shares in self.quantiles.items():
            self._check_rising("quantiles", column, shares, 0.0, 1.0)

    def _check_rising(self, what: str, column: str, cuts: Sequence[float], low: float, high: float) -> None:
        rising = all(a < b for a, b in itertools.pairwise(cuts))
        if len(cuts) < 2 or not rising or not low <= cuts[0] <= cuts[-1] <= high:
            raise ValueError(
                f"`{what}` of column `{column}` must be two or more rising numbers in [{low:g}, {high:g}]. "
                f"Received: {what}={tuple(cuts)}"
            )


@dataclass(frozen=True)
class Cut:
    """An axis resolved on data: its cohorts, independent of the rows from here on."""

    axis: str
    cohorts: tuple[Cohort, ...]


def as_axes(axes: Sequence[Axis | str]) -> list[Axis]:
    """Axes; a string is the axis of the column of that name."""
    given = [axes] if isinstance(axes, str) else axes
    return [Axis((axis,)) if isinstance(axis, str) else axis for axis in given]


def cut_axes(axes: Sequence[Axis | str], columns: Table, *, given: Sequence[Cohort] = ()) -> tuple[Cut, ...]:
    """Resolves axes on raw columns; the cohorts' names are unique over all axes.

    Args:
        axes: What to cut along; a string is the axis of the column of that name.
        columns: Raw columns that the axes are on, one value per row; `raw_column` says in which forms.
        given: Cohorts of your own, which become the first axis, `given`, and keep their names.

    Raises:
        ValueError: If two axes or two given cohorts share a name, or a column is absent, multi-valued, without values,
            or of a type that its edges or quantiles do not fit.
    """
    axes = as_axes(axes)
    for what, names in (
        ("Axes", [*([GIVEN] if given else []), *(axis.name for axis in axes)]),
        ("Given cohorts", [cohort.name for cohort in given]),
    ):
        twice = [name for name, count in Counter(names).items() if count > 1]
        if twice:
            raise ValueError(f"{what} must have distinct names; give a `name`. Received twice: {', '.join(twice)}")
    taken = Counter([PRIMARY, *(cohort.name for cohort in given)])
    raw = raw_columns(columns, (name for axis in axes for name in axis.columns))
    cuts = tuple(
        Cut(axis.name, tuple(_named(conditions, taken) for conditions in _conditions(axis, raw))) for axis in axes
    )
    return (Cut(GIVEN, tuple(given)), *cuts) if given else cuts


def _conditions(axis: Axis, columns: Mapping[str, RawColumn]) -> list[tuple[Condition, ...]]:
    parts = [_column_conditions(axis, column, *columns[column]) for column in axis.columns]
    if len(parts) == 1:
        return [(condition,) for condition in parts[0]]
    masks = [[condition.contains(columns) for condition in part] for part in parts]
    rows = {
        (a, b): int(np.count_nonzero(masks[0][i] & masks[1][j]))
        for (i, a), (j, b) in itertools.product(enumerate(parts[0]), enumerate(parts[1]))
    }
    return [pair for pair, count in Counter(rows).most_common(axis.max_cohorts) if count > 0]


def check_axes(axes: Sequence[Axis], columns: Table) -> None:
    """Raises ValueError where an axis does not fit its columns' types; the columns need no rows.

    So a mistake is found before a baseline is trained.
    """
    for axis in axes:
        for name, column in raw_columns(columns, axis.columns).items():
            _check_kind(axis, name, column.kind)


def _check_kind(axis: Axis, name: str, kind: str) -> None:
    if kind in ("string", "boolean") and (name in axis.edges or name in axis.quantiles):
        raise ValueError(
            f"Axis `{axis.name}` must cut column `{name}` into values: it holds {kind} values. Received: "
            f"{'edges' if name in axis.edges else 'quantiles'}"
        )
    if kind == "float" and name in axis.categories:
        raise ValueError(
            f"Axis `{axis.name}` must cut column `{name}` by `edges` or `quantiles`: it holds float values. "
            "Received: categories"
        )


def _column_conditions(axis: Axis, name: str, column: Array, kind: str) -> Sequence[Condition]:
    _check_kind(axis, name, kind)
    if name in axis.edges:
        return [Interval(name, low, high) for low, high in itertools.pairwise(axis.edges[name])]
    present = _present(column, kind)
    if len(present) == 0:
        raise ValueError(f"Axis `{axis.name}` needs values. Received: column `{name}` with missing values only")
    if kind == "float" or (kind == "integer" and name not in axis.categories):
        return _quantile_intervals(name, present, axis.quantiles.get(name, _QUANTILES))
    rows = Counter(present.tolist())
    most_frequent = sorted(rows, key=lambda value: (-rows[value], value))[: axis.max_cohorts]
    return [Values(name, (value,)) for value in most_frequent]


def _present(column: Array, kind: str) -> Array:
    if kind == "boolean":
        return column
    if kind == "float":
        return column[~np.isnan(column)]
    return column[column != (MISSING_STRING if kind == "string" else MISSING_INT)]


def _quantile_intervals(name: str, present: Array, quantiles: Sequence[float]) -> list[Interval]:
    # "higher" takes edges from the data, exact in the column's own type, and leaves 5 of 100 rows in a top 5 %.
    edges = np.quantile(present, np.asarray(quantiles, np.float64), method="higher").astype(np.float64)
    lowest = present.min()
    resolved: dict[float, float] = {}
    for share, edge in zip(quantiles, edges.tolist(), strict=True):
        if share == 1 or edge == math.inf:
            # So many infinite values belong to the outermost interval: no edge lies among them.
            resolved[math.inf] = 1.0
        elif share == 0 or edge <= lowest:
            resolved.setdefault(-math.inf, 0.0)
        else:
            # Of equal edges the first counts: all rows of that value lie above it.
            resolved.setdefault(edge, float(share))
    if list(resolved) == [-math.inf, math.inf]:
        return [Interval(name)]
    return [Interval(name, low, high, (resolved[low], resolved[high])) for low, high in itertools.pairwise(resolved)]


def _named(conditions: tuple[Condition, ...], taken: Counter[str]) -> Cohort:
    name = "_x_".join(map(_slug, conditions))
    while True:
        taken[name] += 1
        if taken[name] == 1:
            return Cohort(name, conditions)
        name = f"{name}_{taken[name]}"


def _slug(condition: Condition) -> str:
    """Returns a short name such as `age_18_25`, `user_value_top_5` or `sex_Female`."""
    if isinstance(condition, Values):
        text = "_".join(map(str, condition.values))
    elif condition.quantiles is not None:
        low, high = (f"{100 * share:.4g}" for share in condition.quantiles)
        top, bottom = f"top_{100 * (1 - condition.quantiles[0]):.4g}", f"bottom_{high}"
        text = top if high == "100" else bottom if low == "0" else f"{low}_{high}"
    else:
        low, high = _edge_slug(condition.low), _edge_slug(condition.high)
        text = f"{low}_{high}" if low and high else f"from_{low}" if low else f"below_{high}" if high else "present"
    return re.sub(r"[^A-Za-z0-9-]+", "_", f"{condition.column}_{text}").strip("_-") or "cohort"


def _edge_slug(edge: float) -> str:
    return "" if math.isinf(edge) else format_edge(edge)
