"""Columns to the dtypes that a model declares, where nothing but the form of a number or string changes."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .tensors import dtype_name, dtype_of, encode_strings


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
        columns: Arrays or lists, by name.
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
    """A column as an array, strings as `bytes`.

    Raises:
        ValueError: If it has no common shape, or objects that are no strings; the message names the column.
    """
    try:
        array = np.asarray(column)
        return encode_strings(array) if array.dtype.kind in "OSUT" else array
    except ValueError as error:
        raise ValueError(f"column {name!r}: {error}") from error


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
