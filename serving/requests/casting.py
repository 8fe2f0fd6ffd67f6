"""Columns to the dtypes that a model declares, where nothing but the form of a number or string changes."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..protocol.tensors import dtype_name, dtype_of, encode_strings
from .frames import values_of


@dataclasses.dataclass(frozen=True)
class TensorSpec:
    """Dtype (strings: object) and shape of an input or output; `None` for what is free."""

    dtype: np.dtype[Any]
    shape: tuple[int | None, ...] | None


@dataclasses.dataclass(frozen=True)
class Signature:
    """A function of the model, as its server describes it."""

    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]
    method_name: str


def read_signature(definition: Any) -> Signature:
    """A SignatureDef as a value."""
    inputs, outputs = (
        {name: _read_spec(entries[name]) for name in sorted(entries)}
        for entries in (definition.inputs, definition.outputs)
    )
    return Signature(inputs, outputs, definition.method_name)


def _read_spec(info: Any) -> TensorSpec:
    sizes = tuple(dim.size if dim.size >= 0 else None for dim in info.tensor_shape.dim)
    return TensorSpec(dtype_of(info.dtype), None if info.tensor_shape.unknown_rank else sizes)


def cast_columns(columns: Mapping[str, Any], specs: Mapping[str, TensorSpec]) -> dict[str, NDArray[Any]]:
    """Casts each column to the declared dtype: integers to other integers that hold them, numbers to floats, strings.

    Args:
        columns: Arrays, lists, or columns of a DataFrame or Table, by name.
        specs: The signature's inputs.

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
        ValueError: If a value is missing, rows differ in length, or objects are no strings; the message names the
            column, and the row.
    """
    try:
        array = _as_rows(values_of(column))
        return encode_strings(array) if array.dtype.kind in "OSUT" else array
    except ValueError as error:
        raise ValueError(f"column {name!r}: {error}") from error


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
            raise ValueError(
                f"row {row}: must have {length} values, as row 0 has; pad the short ones. Received: {value}"
            )
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
        raise ValueError(
            f"column {name!r} has a value beyond the range of {dtype_name(dtype)}. Received: {array[lost].item(0)!r}"
        )
    return cast


def _names(names: Any) -> str:
    return ", ".join(sorted(names)) or "none"
