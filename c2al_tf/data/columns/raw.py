"""Raw columns: their missing values, dtypes and shapes, and batches of another size."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ...feature import Column, DType
from ...types import MISSING_INT, MISSING_STRING, Array, Columns

Mask = NDArray[np.bool_]

MISSING: dict[DType, str | int | float] = {"string": MISSING_STRING, "int64": MISSING_INT, "float32": float("nan")}


class Coded(NamedTuple):
    """A column of strings: its distinct values (n,), and an index into them per row, (rows,) or (rows, length).

    Work on the values serves all rows. Both are arrays, or both tensors.
    """

    values: Any
    codes: Any

    def decode(self) -> Array:
        """Returns the raw column."""
        return self.values[self.codes]


CodedColumns: TypeAlias = Mapping[str, Any]
"""Raw columns; those of strings are `Coded`."""


def take_rows(columns: CodedColumns, rows: Array) -> dict[str, Array | Coded]:
    """Returns some rows of all columns, without a copy where the rows are consecutive."""
    run = slice(rows[0], rows[-1] + 1) if np.all(np.diff(rows) == 1) else rows
    return {name: Coded(x.values, x.codes[run]) if isinstance(x, Coded) else x[run] for name, x in columns.items()}


def is_missing(values: Array | Coded, dtype: DType) -> Mask:
    """Returns where a raw column has no value."""
    if isinstance(values, Coded):
        return is_missing(values.values, dtype)[values.codes]
    return np.isnan(values) if dtype == "float32" else np.asarray(values == MISSING[dtype], bool)


def as_raw(values: Array, column: Column, source: str) -> Array:
    """Returns an array in the form of a raw column: `str` objects, int64 or float32, of the right shape.

    Raises:
        ValueError: If it has another shape or a type that cannot hold the column without loss.
    """
    values = np.asarray(values)
    kinds = {"string": "OUT", "int64": "iub", "float32": "fiub"}
    shape = (len(values),) if column.length is None else (len(values), column.length)
    if values.dtype.kind not in kinds[column.dtype] or values.shape != shape:
        wanted = "(rows,)" if column.length is None else f"(rows, {column.length})"
        raise ValueError(
            f"{source}: column `{column.name}` must be {column.dtype} of shape {wanted}. "
            f"Received: {values.dtype} of shape {values.shape}"
        )
    if column.dtype == "string":
        values = values.astype(object, copy=False)
        for value in values.ravel().tolist():
            if not isinstance(value, str):
                raise ValueError(f'{source}: column `{column.name}` must hold `str`, a null as "". Received: {value!r}')
        return values
    with np.errstate(over="ignore"):
        return values.astype(column.dtype, copy=False)


def rebatch(batches: Iterable[Columns], size: int) -> Iterator[Columns]:
    """Yields the same rows in batches of `size`, the last one smaller."""
    held: list[Columns] = []
    count = 0
    for batch in batches:
        start, rows = 0, num_rows(batch)
        while start < rows:
            stop = min(rows, start + size - count)
            held.append({name: values[start:stop] for name, values in batch.items()})
            count += stop - start
            start = stop
            if count == size:
                yield concatenate(held)
                held, count = [], 0
    if held:
        yield concatenate(held)


def concatenate(batches: Sequence[Columns]) -> Columns:
    """Returns the rows of several batches as one."""
    if len(batches) == 1:
        return batches[0]
    return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}


def num_rows(batch: Columns) -> int:
    """Returns the number of rows of a batch."""
    return len(next(iter(batch.values())))
