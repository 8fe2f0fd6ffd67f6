"""Columns of DataFrames and Tables, pandas' and pyarrow's, which are known by their form: neither is imported."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray


class DataFrame(Protocol):
    """Columns by name, as pandas has them."""

    @property
    def columns(self) -> Iterable[Any]:
        """The names."""

    def __getitem__(self, name: str, /) -> Any: ...


class Table(Protocol):
    """Columns by name, as pyarrow has them."""

    @property
    def column_names(self) -> Iterable[str]:
        """The names."""

    def __getitem__(self, name: str, /) -> Any: ...


Rows: TypeAlias = Mapping[str, NDArray[Any] | Sequence[Any]] | DataFrame | Table


def named_columns(rows: Rows) -> Mapping[str, Any]:
    """Columns by name, as they are.

    Raises:
        ValueError: If there are no names, or they are no strings, or not each column's own.
    """
    if isinstance(rows, Mapping):
        return rows
    # Of the class: a DataFrame has its columns as attributes, too.
    found = next((name for name in ("column_names", "columns") if hasattr(type(rows), name)), None)
    if found is None:
        raise ValueError(
            "columns must be a dict of arrays or lists, a pandas DataFrame or a pyarrow Table. "
            f"Received: {type(rows).__name__}"
        )
    names = list(getattr(rows, found))
    for name in names:
        if not isinstance(name, str) or names.count(name) > 1:
            raise ValueError(f"each column must have a string of its own as its name. Received: {names}")
    return {name: rows[name] for name in names}


def values_of(column: Any) -> Any:
    """The values of a DataFrame's or Table's column as an array; any other column as it is.

    Raises:
        ValueError: If a value is missing; the message names the row. NaN of a NumPy dtype is a number like others.
    """
    if isinstance(column, np.ndarray) or not hasattr(column, "to_numpy"):
        return column
    dtype = getattr(column, "dtype", None)
    find = getattr(column, "isna", None) or getattr(column, "is_null", None)
    if find is not None and (not isinstance(dtype, np.dtype) or dtype.kind == "O"):
        missing = np.asarray(find())
        if missing.any():
            raise ValueError(f'row {missing.argmax()}: no value; fill it in first, a string with "", a float with NaN')
    return column.to_numpy()
