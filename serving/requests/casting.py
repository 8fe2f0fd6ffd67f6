"""Columns of any form as arrays of the dtypes that a model declares, if that keeps their values."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from c2al_tf.protocol.tensors import TensorSpec, dtype_name, encode_strings


class Frame(Protocol):
    """A pandas DataFrame or a pyarrow Table, known by its `columns` or `column_names`: neither package is imported."""

    def __getitem__(self, name: str, /) -> Any: ...


Rows: TypeAlias = Mapping[str, NDArray[Any] | Sequence[Any]] | Frame


def named_columns(rows: Rows) -> Mapping[str, Any]:
    """Columns by name, as they are, or a ValueError if the names are no strings, or not each column's own."""
    if isinstance(rows, Mapping):
        return rows
    # Of the class: a DataFrame has its columns as attributes, too.
    found = next((name for name in ("column_names", "columns") if hasattr(type(rows), name)), None)
    if found is None:
        raise ValueError(f"columns must be a dict of lists, a DataFrame or a Table. Received: {type(rows).__name__}")
    names = list(getattr(rows, found))
    if not all(isinstance(name, str) and names.count(name) == 1 for name in names):
        raise ValueError(f"each column must have a string of its own as its name. Received: {names}")
    return {name: rows[name] for name in names}


def cast_columns(columns: Mapping[str, Any], specs: Mapping[str, TensorSpec]) -> dict[str, NDArray[Any]]:
    """Casts each column to the dtype of its input: integers to others that hold them, numbers to floats, strings.

    Raises:
        ValueError: If names differ, or a column has another kind of values than declared; the message names the column.
    """
    if columns.keys() != specs.keys():
        raise ValueError(
            f"columns must be the model's inputs. Unknown: {_names(columns.keys() - specs.keys())}. "
            f"Missing: {_names(specs.keys() - columns.keys())}. Inputs: {_names(specs)}"
        )
    return {name: _cast(name, as_array(name, columns[name]), spec.dtype) for name, spec in specs.items()}


def as_array(name: str, column: Any) -> NDArray[Any]:
    """A column as an array, strings as `bytes`, rows of lists as further dimensions.

    Raises:
        ValueError: If a value is missing, or no string or number, or rows differ in length; it names column and row.
    """
    try:
        array = _as_rows(_values_of(column))
        return encode_strings(array) if array.dtype.kind in "OSUT" else array
    except ValueError as error:
        raise ValueError(f"column {name!r}: {error}") from error


def _values_of(column: Any) -> Any:
    """The values of a DataFrame's or Table's column, none missing, as an array; any other column as it is."""
    if isinstance(column, np.ndarray) or not hasattr(column, "to_numpy"):
        return column
    dtype = getattr(column, "dtype", None)
    find = getattr(column, "isna", None) or getattr(column, "is_null", None)
    missing = np.asarray(find()) if find and not (isinstance(dtype, np.dtype) and dtype.kind != "O") else np.zeros(1)
    if missing.any():
        raise ValueError(f'row {missing.argmax()}: no value; fill it in first, a string with "", a float with NaN')
    return column.to_numpy()


def _as_rows(values: Any) -> NDArray[Any]:
    if not isinstance(values, np.ndarray):
        try:
            array = np.asarray(values)
        except ValueError:  # rows of several lengths
            array = np.asarray(values, object)
        # As NumPy's own strings they would lose a NUL at their end, and take in numbers among them.
        values = np.asarray(values, object) if array.dtype.kind in "SU" else array
    if values.dtype != object or values.ndim != 1 or not len(values) or not _is_list(values[0]):
        return values
    length = len(values[0])
    for row, value in enumerate(values):
        if not _is_list(value) or len(value) != length:
            raise ValueError(f"row {row}: must have {length} values, as row 0 has; pad short ones. Received: {value}")
    return _as_rows(values.tolist())


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple) or (isinstance(value, np.ndarray) and value.ndim > 0)


def _cast(name: str, array: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    kinds = {"O": "O", "f": "fiu", "i": "iu", "u": "iu", "b": "b"}.get(dtype.kind, "")
    if array.dtype.kind not in kinds and array.size > 0:
        wanted, received = dtype_name(dtype), dtype_name(array.dtype)
        raise ValueError(f"column {name!r} must hold {wanted}. Received: {received}, first {array.item(0)!r}")
    with np.errstate(over="ignore"):
        cast = array.astype(dtype)
    # Rounding a float is meant, and NaN stays NaN: only a number that becomes infinite, or an integer another, is lost.
    lost = np.isinf(cast) & np.isfinite(array.astype(np.float64)) if dtype.kind == "f" else cast != array
    if np.any(lost):
        wanted, received = dtype_name(dtype), array[lost].item(0)
        raise ValueError(f"column {name!r} has a value beyond the range of {wanted}. Received: {received!r}")
    return cast


def _names(names: Any) -> str:
    return ", ".join(sorted(names)) or "none"
