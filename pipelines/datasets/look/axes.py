"""Which columns `c2al init` proposes to cut cohorts along: those by which the positive rate differs most."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from c2al_tf.types import Array

from .choices import Choice
from .column_names import TRAITS

_MOST_AXES = 10
_MOST_VALUES = 50
_CUTS = (0.05, 0.25, 0.75, 0.95)  # where `c2al run` cuts numbers by default
_SMALL = 0.005  # share of the rows below which discovery refuses a cohort


@dataclass(frozen=True)
class AxisChoice:
    """An axis, and what the labels of the rows in its cells are.

    Args:
        columns: One column, or two to be crossed.
        explained: Share of the label's variance between the cells, beyond chance.
        lowest: Lowest positive rate of a cell that is no smaller than a cohort may be.
        highest: The highest one.
        proposed: Whether it is among those that differ most, or one of the people's traits that are looked at anyway.
    """

    columns: tuple[str, ...]
    explained: float
    lowest: float
    highest: float
    proposed: bool = True


def choose_axes(choices: Sequence[Choice], columns: Mapping[str, pa.Array], label: str) -> list[AxisChoice]:
    """Ranks the columns that can be axes by what their cells tell of the label, with at most two crosses.

    Args:
        choices: What each column is for.
        columns: The training rows that were read.
        label: The label's column.

    Raises:
        ValueError: If no column can be an axis.
    """
    labels = columns[label].cast(pa.float64()).to_numpy(zero_copy_only=False)
    cells = {c.column.name: _cells(c, columns[c.column.name]) for c in choices if _can_be_axis(c)}
    found = {name: _measure((name,), of_column, labels) for name, of_column in cells.items()}
    ranked = sorted((axis for axis in found.values() if axis), key=lambda axis: -axis.explained)
    if not ranked:
        raise ValueError(
            "At least one feature must be an axis that cohorts are cut along: a number, or categories of 2 to "
            f"{_MOST_VALUES} values. Add a column to the files, such as a country or how often the item is shown. "
            f"Received: {[(c.column.name, c.role) for c in choices][:20]}"
        )
    numbers = [a.columns[0] for a in ranked if _kind(choices, a) == "numeric"]
    names = [a.columns[0] for a in ranked if _kind(choices, a) == "categorical"]
    crosses = []
    for pair in [pair[:2] for pair in (numbers[:1] + names[:1], names[:2]) if len(pair) == 2]:
        crossed = _measure(tuple(pair), _cross(cells[pair[0]], cells[pair[1]]), labels)
        crosses += [crossed] if crossed else []
    others = [replace(axis, proposed=axis.columns[0].lower() in TRAITS) for axis in ranked[_MOST_AXES:]]
    return [*ranked[:_MOST_AXES], *crosses, *others]


def gives_answer_away(values: pa.Array, labels: pa.Array, distinct: int) -> bool:
    """Whether each value of a column goes with one label."""
    if not 2 <= distinct <= _MOST_VALUES or pa.types.is_list(values.type):
        return False
    ones = labels.cast(pa.float64()).to_numpy(zero_copy_only=False)
    axis = _measure(("",), _codes(values), ones)
    return axis is not None and axis.explained > 0.98


def _kind(choices: Sequence[Choice], axis: AxisChoice) -> str:
    return next(str(c.spec["kind"]) for c in choices if c.column.name == axis.columns[0])


def _can_be_axis(choice: Choice) -> bool:
    column = choice.column
    if choice.role != "feature" or column.lengths is not None:
        return False
    return choice.spec["kind"] == "numeric" or 2 <= column.distinct <= _MOST_VALUES


def _cells(choice: Choice, values: pa.Array) -> Array:
    """The cell of each row, -1 where there is none."""
    if choice.spec["kind"] == "categorical":
        return _codes(values)
    numbers = values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    present = numbers[~np.isnan(numbers)]
    if len(present) == 0:
        return np.full(len(numbers), -1)
    edges = np.unique(np.quantile(present, _CUTS, method="higher"))
    return np.where(np.isnan(numbers), -1, np.searchsorted(edges, numbers, side="right"))


def _codes(values: pa.Array) -> Array:
    return pc.fill_null(values.dictionary_encode().indices, -1).to_numpy(zero_copy_only=False).astype(np.int64)


def _cross(first: Array, second: Array) -> Array:
    return np.where((first < 0) | (second < 0), -1, first * (second.max(initial=0) + 1) + second)


def _measure(columns: tuple[str, ...], cells: Array, labels: Array) -> AxisChoice | None:
    """What cells tell of labels; None without two of them that are large enough."""
    cells, labels = cells[cells >= 0], labels[cells >= 0]
    rows = np.bincount(cells)
    rates = np.bincount(cells, labels) / np.maximum(rows, 1)
    large = rows >= max(_SMALL * len(labels), 1)
    if np.count_nonzero(large) < 2:
        return None
    between = float(((rates - labels.mean()) ** 2 * rows).sum() / len(labels))
    variance = max(float(labels.var()), 1e-12)
    # Many small cells differ by chance: each adds the variance of one row.
    explained = between / variance - (np.count_nonzero(rows) - 1) / len(labels)
    return AxisChoice(columns, explained, float(rates[large].min()), float(rates[large].max()))
