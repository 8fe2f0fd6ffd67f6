"""Arrow arrays to raw columns and back: nulls, lists and types."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ...feature import Column, DType
from ...types import Array
from .bad_rows import failing_rows
from .raw import MISSING, Coded, is_missing

ARROW_TYPES = {"string": pa.string(), "int64": pa.int64(), "float32": pa.float32()}


def check_type(stored: pa.DataType, column: Column, source: str) -> None:
    """Raises ValueError unless a column of type `stored` can be read as `column`.

    Strings, and bytes that are UTF-8, are read as strings alone. Integers and booleans are read as `"int64"`, and so
    are whole floats and decimals, dates (days since 1970) and timestamps (in their unit). All numbers but timestamps
    are read as `"float32"`. Whole numbers, decimals, dates and timestamps are read as `"string"` too, the latter as
    ISO 8601. Where the column has a length, lists of these are.
    """
    of_lists = is_list(stored)
    fits = of_lists == (column.length is not None) and _fits(stored.value_type if of_lists else stored, column.dtype)
    if not fits:
        wanted = column.dtype if column.length is None else f"list of {column.dtype}"
        raise ValueError(f"{source}: column `{column.name}` must be of type {wanted}. Received: {stored}")


def undeclared_dtype(stored: pa.DataType) -> DType | None:
    """The type that a column is read as if none is declared; None for dates, times and what cannot be read."""
    if pa.types.is_dictionary(stored):
        return undeclared_dtype(stored.value_type)
    if _is_text(stored):
        return "string"
    if pa.types.is_decimal(stored):
        return "float32" if stored.scale or stored.precision > 18 else "int64"
    if pa.types.is_integer(stored) or pa.types.is_boolean(stored):
        return "int64"
    return "float32" if pa.types.is_floating(stored) else None


def is_list(stored: pa.DataType) -> bool:
    """Whether a row of an Arrow type holds several values."""
    tests = ("is_list", "is_large_list", "is_fixed_size_list", "is_list_view", "is_large_list_view")
    return any(getattr(pa.types, test)(stored) for test in tests)


def _fits(stored: pa.DataType, dtype: DType) -> bool:
    if pa.types.is_dictionary(stored):
        stored = stored.value_type
    number = pa.types.is_integer(stored) or pa.types.is_floating(stored) or pa.types.is_decimal(stored)
    day = pa.types.is_date(stored)
    time = pa.types.is_timestamp(stored)
    fits = {
        "string": _is_text(stored) or number or day or time,
        "int64": number or pa.types.is_boolean(stored) or day or time,
        "float32": number or pa.types.is_boolean(stored) or day,
    }
    return fits[dtype] or pa.types.is_null(stored)


def _is_text(stored: pa.DataType) -> bool:
    tests = ("is_string", "is_large_string", "is_string_view", "is_binary", "is_large_binary", "is_binary_view")
    return any(getattr(pa.types, test)(stored) for test in (*tests, "is_fixed_size_binary"))


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
    array = _cast(array, dtype)
    if dtype == "float32":
        return array.to_numpy(zero_copy_only=False)
    if dtype == "int64":
        return pc.fill_null(array, MISSING[dtype]).to_numpy(zero_copy_only=False)
    encoded = array.dictionary_encode()
    values = np.array([MISSING[dtype], *encoded.dictionary.to_pylist()], object)
    return Coded(values, 1 + pc.fill_null(encoded.indices, _NULL - 1).to_numpy(zero_copy_only=False))


def _cast(array: pa.Array, dtype: DType) -> pa.Array:
    if pa.types.is_dictionary(array.type):
        array = array.cast(array.type.value_type)
    if pa.types.is_decimal32(array.type):  # whose cast to int64 fails
        array = array.cast(pa.decimal128(array.type.precision, array.type.scale))
    if dtype != "string" and pa.types.is_date(array.type):
        array = array.cast(pa.date32()).cast(pa.int32())
    elif dtype != "float32" and pa.types.is_floating(array.type):
        array = _whole(array)
    elif dtype == "string" and pa.types.is_fixed_size_binary(array.type):
        array = array.cast(pa.binary())
    return array.cast(ARROW_TYPES[dtype], safe=dtype != "float32")


def _whole(array: pa.Array) -> pa.Array:
    """Floats as integers, NaN as null: pandas makes floats of integers where one is null.

    Raises:
        pa.ArrowInvalid: If one is not whole, or so large that its last digits are lost.
    """
    exact = {16: 2**11, 32: 2**24, 64: 2**53}[array.type.bit_width]
    array = array.cast(pa.float64())
    whole = pc.if_else(pc.is_nan(array), None, array).cast(pa.int64())
    for extreme in (pc.max(whole).as_py(), pc.min(whole).as_py()):
        if extreme is not None and abs(extreme) >= exact:
            raise pa.ArrowInvalid(f"{extreme} as a float may have lost its last digits")
    return whole


def explain_bad_values(array: pa.Array, column: Column, first_row: int) -> list[tuple[int, str]]:
    """The first rows, `MOST_BAD_ROWS` and one more at most, that `coded_from_arrow` refuses, and what each breaks."""
    stored = array.type.value_type if is_list(array.type) else array.type
    rule = f"column `{column.name}` {_rule(stored, column.dtype)}"
    bad = failing_rows(len(array), lambda start, rows: coded_from_arrow(array.slice(start, rows), column))
    return [(first_row + row, f"{rule}. Received: {array[row].as_py()!r}") for row in bad]


def _rule(stored: pa.DataType, dtype: DType) -> str:
    if pa.types.is_dictionary(stored):
        stored = stored.value_type
    if _is_text(stored):
        return "must be UTF-8"
    if pa.types.is_unsigned_integer(stored):
        return "must be below 2^63 as int64; declare it a string"
    return f"must be a whole number that {stored} holds exactly, as it is read as {dtype}"


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
