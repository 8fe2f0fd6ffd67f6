"""Arrow arrays to raw columns and back: nulls, lists and types."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ...feature import Column, DType
from ...types import Array
from .raw import MISSING, Coded, is_missing

ARROW_TYPES = {"string": pa.string(), "int64": pa.int64(), "float32": pa.float32()}


def check_type(stored: pa.DataType, column: Column, source: str) -> None:
    """Raises ValueError unless a column of type `stored` can be read as `column`.

    Strings are read as strings alone, integers and booleans as `"int64"`, these and floats as `"float32"`, and lists
    of them where the column has a length.
    """
    is_list = pa.types.is_list(stored) or pa.types.is_large_list(stored) or pa.types.is_fixed_size_list(stored)
    fits = is_list == (column.length is not None) and _fits(stored.value_type if is_list else stored, column.dtype)
    if not fits:
        wanted = column.dtype if column.length is None else f"list of {column.dtype}"
        raise ValueError(f"{source}: column `{column.name}` must be of type {wanted}. Received: {stored}")


def _fits(stored: pa.DataType, dtype: DType) -> bool:
    if pa.types.is_dictionary(stored):
        stored = stored.value_type
    whole = pa.types.is_integer(stored) or pa.types.is_boolean(stored)
    fits = {
        "string": pa.types.is_string(stored) or pa.types.is_large_string(stored),
        "int64": whole,
        "float32": whole or pa.types.is_floating(stored),
    }
    return fits[dtype] or pa.types.is_null(stored)


def from_arrow(array: pa.Array | pa.ChunkedArray, column: Column) -> Array:
    """Returns an Arrow array as a raw column of shape (rows,) or (rows, length); values beyond `length` are cut off.

    Raises:
        pa.ArrowInvalid: If a value does not fit the column's type.
    """
    values = coded_from_arrow(array, column)
    return values.decode() if isinstance(values, Coded) else values


def coded_from_arrow(array: pa.Array | pa.ChunkedArray, column: Column) -> Array | Coded:
    """As `from_arrow`, with strings coded."""
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    if column.length is None:
        return _from_flat(array, column.dtype)
    lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    flat = _from_flat(pc.list_flatten(array), column.dtype)
    if isinstance(flat, Coded):
        return Coded(flat.values, _pad(flat.codes, lengths, column.length, _NULL))
    return _pad(flat, lengths, column.length, MISSING[column.dtype])


def _pad(values: Array, lengths: Array, length: int, missing: str | int | float) -> Array:
    rows = np.repeat(np.arange(len(lengths)), lengths)
    places = np.arange(len(values)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    padded = np.full((len(lengths), length), missing, values.dtype)
    kept = places < length
    padded[rows[kept], places[kept]] = values[kept]
    return padded


# The code of a null and of padding.
_NULL = 0


def _from_flat(array: pa.Array, dtype: DType) -> Array | Coded:
    array = array.cast(ARROW_TYPES[dtype], safe=dtype != "float32")
    if dtype == "float32":
        return array.to_numpy(zero_copy_only=False)
    if dtype == "int64":
        return pc.fill_null(array, MISSING[dtype]).to_numpy(zero_copy_only=False)
    encoded = array.dictionary_encode()
    values = np.array([MISSING[dtype], *encoded.dictionary.to_pylist()], object)
    return Coded(values, 1 + pc.fill_null(encoded.indices, _NULL - 1).to_numpy(zero_copy_only=False))


def arrow_type(column: Column) -> pa.DataType:
    """Returns the Arrow type that a raw column is written as."""
    dtype = ARROW_TYPES[column.dtype]
    return dtype if column.length is None else pa.list_(dtype)


def to_arrow(values: Array, column: Column) -> pa.Array:
    """Returns a raw column as an Arrow array with nulls; a multi-valued column becomes lists without the padding."""
    dtype = ARROW_TYPES[column.dtype]
    missing = is_missing(values, column.dtype)
    if column.length is None:
        return pa.array(values, dtype, mask=missing)
    offsets = np.concatenate([[0], np.cumsum((~missing).sum(axis=1))]).astype(np.int32)
    return pa.ListArray.from_arrays(offsets, pa.array(values[~missing], dtype))
