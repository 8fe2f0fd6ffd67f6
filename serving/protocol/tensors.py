"""NumPy arrays to TensorProtos and back."""

import itertools
import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

STRING = np.dtype(object)
"""Strings are arrays of objects: `str` or `bytes` are sent, `bytes` received."""

Content: TypeAlias = bytes | list[bytes]
"""The values of a tensor in C order: numbers as little-endian bytes, or a list of strings."""

# DataType's number, then the field that holds the values where they are not in `tensor_content`.
_DTYPES: dict[np.dtype[Any], tuple[int, str]] = {
    np.dtype(np.float32): (1, "float_val"),
    np.dtype(np.float64): (2, "double_val"),
    np.dtype(np.int32): (3, "int_val"),
    np.dtype(np.uint8): (4, "int_val"),
    np.dtype(np.int16): (5, "int_val"),
    np.dtype(np.int8): (6, "int_val"),
    STRING: (7, "string_val"),
    np.dtype(np.int64): (9, "int64_val"),
    np.dtype(np.bool_): (10, "bool_val"),
    np.dtype(np.uint16): (17, "int_val"),
    np.dtype(np.float16): (19, "half_val"),
    np.dtype(np.uint32): (22, "uint32_val"),
    np.dtype(np.uint64): (23, "uint64_val"),
}
_MAX_REPEATED = 2**18  # a few bytes can declare any shape: this bounds what they make us, or the model, allocate
_MAX_RANK = 254  # TensorFlow ends the process at more
_BY_NUMBER = {number: (dtype, field) for dtype, (number, field) in _DTYPES.items()}


def dtype_of(number: int) -> np.dtype[Any]:
    """The array's dtype for a `DataType`; `void` for those that NumPy lacks."""
    return _BY_NUMBER[number][0] if number in _BY_NUMBER else np.dtype(np.void)


def dtype_name(dtype: np.dtype[Any]) -> str:
    """TensorFlow's name of a dtype."""
    return "string" if dtype.kind in "OSUT" else dtype.name


def array_dtype(array: NDArray[Any]) -> np.dtype[Any]:
    """An array's dtype as a tensor has it: strings of any kind are objects, numbers of the machine's byte order."""
    return STRING if array.dtype.kind in "OSUT" else array.dtype if array.dtype.isnative else array.dtype.newbyteorder()


def fill_proto(proto: Any, array: NDArray[Any], as_fields: bool = False) -> None:
    """Writes an array into an empty TensorProto, its dtype as it is.

    Args:
        proto: The message to fill.
        array: Numbers, booleans, or strings: `S`, `U` or objects of `str` and `bytes`.
        as_fields: Put numbers into the field of their type, as tensorflow_model_server does and as clients that read
            `float_val` expect, rather than into `tensor_content`, which is faster.
    """
    dtype = array_dtype(array)
    if dtype not in _DTYPES:
        raise ValueError(f"a tensor cannot hold {array.dtype}. It can hold: {', '.join(map(dtype_name, _DTYPES))}")
    proto.dtype, field = _DTYPES[dtype]
    proto.tensor_shape.SetInParent()
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    if dtype == STRING:
        proto.string_val.extend(encode_strings(array).ravel().tolist())
    elif as_fields:
        values = array.view(np.uint16) if dtype == np.float16 else array
        getattr(proto, field).extend(values.ravel().tolist())
    else:
        proto.tensor_content = array.astype(dtype.newbyteorder("<"), copy=False).tobytes()


def encode_strings(array: NDArray[Any]) -> NDArray[Any]:
    """An array of strings as one of `bytes` objects.

    Raises:
        ValueError: If it holds something else; the message names the first place.
    """
    encoded = np.empty(array.shape, STRING)
    try:
        encoded.reshape(-1)[:] = [v if isinstance(v, bytes) else str.encode(v) for v in array.ravel().tolist()]
    except TypeError:
        index, value = next((i, v) for i, v in np.ndenumerate(array) if not isinstance(v, (str, bytes)))
        place = f"row {index[0]}: " if index else ""
        raise ValueError(f'{place}must be a string ("" for none). Received: {value!r}') from None
    return encoded


def from_proto(proto: Any) -> NDArray[Any]:
    """Decodes a tensor; strings come as `bytes`. Raises what `read_proto` raises."""
    array = to_array(*read_proto(proto))
    return array if array.flags.writeable else array.copy()


def read_proto(proto: Any) -> tuple[np.dtype[Any], tuple[int, ...], Content]:
    """The dtype, shape and content of a tensor.

    As TensorFlow reads it: fewer values than the shape has places stand for themselves and then for the last one again.

    Raises:
        ValueError: If the dtype is unknown here or the values do not fit the shape.
    """
    dtype, shape = read_form(proto)
    return dtype, shape, read_content(proto, dtype, shape)


def read_form(proto: Any) -> tuple[np.dtype[Any], tuple[int, ...]]:
    """The dtype and shape of a tensor. Raises what `read_proto` raises for them."""
    if proto.dtype not in _BY_NUMBER:
        known = ", ".join(map(dtype_name, _DTYPES))
        raise ValueError(f"a tensor's dtype must be one of {known}. Received: DataType {proto.dtype}")
    if len(proto.tensor_shape.dim) > _MAX_RANK:
        raise ValueError(f"a tensor may have at most {_MAX_RANK} dimensions. Received: {len(proto.tensor_shape.dim)}")
    dtype, field = _BY_NUMBER[proto.dtype]
    shape = tuple(dim.size for dim in proto.tensor_shape.dim)
    if proto.tensor_shape.unknown_rank or (shape and min(shape) < 0):
        raise ValueError(f"a tensor must have a known shape. Received: shape={shape}")
    bound = math.prod([size or 1 for size in shape])
    if bound > _MAX_REPEATED and bound > max(len(proto.tensor_content), len(getattr(proto, field))):
        raise ValueError(f"a tensor may have at most {_MAX_REPEATED} values that are not sent. Received: shape={shape}")
    return dtype, shape


def num_sent(proto: Any, dtype: np.dtype[Any]) -> int:
    """Number of the values that a tensor of a known dtype holds."""
    if proto.tensor_content and dtype != STRING:
        return len(proto.tensor_content) // dtype.itemsize
    return len(getattr(proto, _DTYPES[dtype][1]))


def read_content(proto: Any, dtype: np.dtype[Any], shape: Sequence[int]) -> Content:
    """The content of a tensor, of the dtype and shape that `read_form` gave. Raises what `read_proto` raises for it."""
    size, values = math.prod(shape), proto.tensor_content
    field = getattr(proto, _DTYPES[dtype][1])
    content = values if values and dtype != STRING else _field_content(field, dtype, size)
    width = 1 if isinstance(content, list) else dtype.itemsize
    if len(content) != size * width:
        raise ValueError(
            f"a tensor of shape {tuple(shape)} must hold {size} values. Received: {len(content) / width:g}"
        )
    return content


def to_array(dtype: np.dtype[Any], shape: Sequence[int], content: Content) -> NDArray[Any]:
    """The array of a dtype, shape and content that fit each other; numbers are a read-only view."""
    if isinstance(content, bytes):
        return np.frombuffer(content, dtype.newbyteorder("<")).reshape(shape)
    strings = np.empty(len(content), STRING)
    strings[:] = content
    return strings.reshape(shape)


def join(contents: Sequence[Content]) -> Content:
    """The content of tensors of one dtype, one after the other."""
    if isinstance(contents[0], bytes):
        return b"".join(contents)  # type: ignore[arg-type]
    return list(itertools.chain.from_iterable(contents))  # type: ignore[arg-type]


def _field_content(field: Any, dtype: np.dtype[Any], size: int) -> Content:
    """What a `..._val` field holds, its last value repeated up to a size."""
    missing = max(0, size - len(field)) if field else 0
    if dtype == STRING:
        return [*field, *field[-1:] * missing]
    if dtype.itemsize < 4 and dtype.kind in "iuf":  # the lower bits count, as in TensorFlow
        bits = dtype if dtype.kind in "iu" else np.dtype(np.uint16)
        values = np.fromiter(field, np.int32, len(field)).astype(bits).view(dtype)
    else:
        values = np.fromiter(field, dtype, len(field))  # `np.array` would make a list of all values first
    return values.tobytes() + values[-1:].tobytes() * missing
