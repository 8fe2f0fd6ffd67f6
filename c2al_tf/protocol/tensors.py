"""Dtypes, signatures and tensors: TensorFlow's messages as NumPy arrays and values, and back."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

DEFAULT_SIGNATURE = "serving_default"
_INIT_OP = "__saved_model_init_op"

STRING = np.dtype(object)
"""Strings are arrays of objects: `str` or `bytes` are sent, `bytes` received."""

DTYPES: dict[int, np.dtype[Any]] = {
    1: np.dtype(np.float32),
    2: np.dtype(np.float64),
    3: np.dtype(np.int32),
    4: np.dtype(np.uint8),
    5: np.dtype(np.int16),
    6: np.dtype(np.int8),
    7: STRING,
    9: np.dtype(np.int64),
    10: np.dtype(np.bool_),
    17: np.dtype(np.uint16),
    19: np.dtype(np.float16),
    22: np.dtype(np.uint32),
    23: np.dtype(np.uint64),
}
"""Dtypes by the number of their `DataType`, which is `TF_DataType`'s, too."""
CODES = {dtype: code for code, dtype in DTYPES.items()}
_FIELDS = {1: "float_val", 2: "double_val", 7: "string_val", 9: "int64_val", 10: "bool_val", 19: "half_val"}
_FIELDS |= {22: "uint32_val", 23: "uint64_val"} | dict.fromkeys((3, 4, 5, 6, 17), "int_val")
"""The field of a TensorProto that holds the values where they are not in `tensor_content`."""

MAX_UNSENT = 2**17
"""Values of a tensor that are not sent: a few bytes can declare any shape, and the last value stands for the others."""
_MAX_RANK = 64  # NumPy's bound; TensorFlow ends the process at more than 254


@dataclasses.dataclass(frozen=True)
class TensorSpec:
    """One input or output: its dtype (strings: object), its shape, and the graph's tensor.

    `None` stands for a size that is free; as the whole shape, for a free rank.
    """

    dtype: np.dtype[Any]
    shape: tuple[int | None, ...] | None
    tensor: str = ""

    def __str__(self) -> str:
        return f"{dtype_name(self.dtype)} {shape_text(self.shape)}"


@dataclasses.dataclass(frozen=True)
class Signature:
    """A function of the model: its named inputs and outputs, and what stands for inputs that are not sent."""

    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]
    method_name: str
    defaults: Mapping[str, NDArray[Any]] = dataclasses.field(default_factory=dict)


def read_signatures(definitions: Mapping[str, Any]) -> dict[str, Signature]:
    """SignatureDefs by name as values, in order, without the init op: it is stored among them, but nothing to call."""
    return {name: _read_signature(definitions[name]) for name in sorted(definitions) if name != _INIT_OP}


def _read_signature(definition: Any) -> Signature:
    inputs, outputs = (
        {name: _read_spec(entries[name]) for name in sorted(entries)}
        for entries in (definition.inputs, definition.outputs)
    )
    defaults = {name: from_proto(tensor) for name, tensor in definition.defaults.items()}
    return Signature(inputs, outputs, definition.method_name, defaults)


def _read_spec(info: Any) -> TensorSpec:
    sizes = tuple(dim.size if dim.size >= 0 else None for dim in info.tensor_shape.dim)
    shape = None if info.tensor_shape.unknown_rank else sizes
    return TensorSpec(DTYPES.get(info.dtype, np.dtype(np.void)), shape, info.name)


def dtype_name(dtype: np.dtype[Any]) -> str:
    """TensorFlow's name of a dtype."""
    return "string" if dtype.kind in "OSUT" else dtype.name


def shape_text(shape: Sequence[int | None] | None) -> str:
    """A shape like `(?, 3)`, with a question mark for a free size; `(...)` if the rank is free."""
    return "(...)" if shape is None else f"({', '.join('?' if size is None else str(size) for size in shape)})"


def fill_proto(proto: Any, array: NDArray[Any], as_fields: bool = False) -> None:
    """Writes an array into an empty TensorProto, its dtype as it is.

    Args:
        proto: The message to fill.
        array: Numbers, booleans, or strings: `S`, `U` or objects of `str` and `bytes`.
        as_fields: Put numbers into the field of their type, as tensorflow_model_server does and as clients that read
            `float_val` expect, rather than into `tensor_content`, which is faster.
    """
    dtype = STRING if array.dtype.kind in "OSUT" else np.dtype(array.dtype.type)  # in the machine's byte order
    if dtype not in CODES:
        raise ValueError(f"a tensor cannot hold {array.dtype}. It can hold: {', '.join(map(dtype_name, CODES))}")
    proto.dtype = code = CODES[dtype]
    proto.tensor_shape.SetInParent()
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    if dtype == STRING:
        proto.string_val.extend(encode_strings(array).ravel().tolist())
    elif as_fields:
        values = array.view(np.uint16) if dtype == np.float16 else array
        getattr(proto, _FIELDS[code]).extend(values.ravel().tolist())
    else:
        proto.tensor_content = array.astype(dtype, copy=False).tobytes()  # TensorFlow's hosts are little-endian


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
    """Decodes a tensor, strings as `bytes`; numbers of its `tensor_content` are a read-only view.

    As TensorFlow reads it: fewer values than the shape has places stand for themselves and then for the last one again.

    Raises:
        ValueError: If the dtype is unknown here, the values do not fit the shape, or more than `MAX_UNSENT` are not
            sent.
    """
    return read_tensor(proto, read_shape(proto.tensor_shape))


def read_shape(proto: Any) -> list[int]:
    """The shape of a TensorShapeProto. Raises what `from_proto` raises for it."""
    shape = [dim.size for dim in proto.dim]
    if proto.unknown_rank or len(shape) > _MAX_RANK or (shape and min(shape) < 0):
        raise ValueError(f"a tensor must have a known shape of at most {_MAX_RANK} sizes. Received: shape={shape}")
    return shape


def read_tensor(proto: Any, shape: Sequence[int]) -> NDArray[Any]:
    """Decodes a tensor of a shape that `read_shape` gave. Raises what `from_proto` raises for it."""
    content, dtype = proto.tensor_content, DTYPES.get(proto.dtype)
    if dtype is None:
        known = ", ".join(map(dtype_name, CODES))
        raise ValueError(f"a tensor's dtype must be one of {known}. Received: DataType {proto.dtype}")
    if not content or dtype == STRING:
        values = _read_field(getattr(proto, _FIELDS[proto.dtype]), dtype, shape)
    elif len(content) == math.prod(shape) * dtype.itemsize:
        values = np.frombuffer(content, dtype)
    else:
        raise _wrong_number(shape, len(content) / dtype.itemsize)
    return values.reshape(shape)


def num_unsent(proto: Any, array: NDArray[Any]) -> int:
    """Number of a tensor's values that are not sent, given the array that it stands for."""
    return 0 if proto.tensor_content else max(0, array.size - len(getattr(proto, _FIELDS[proto.dtype])))


def _read_field(field: Any, dtype: np.dtype[Any], shape: Sequence[int]) -> NDArray[Any]:
    size, sent = math.prod(shape), len(field)
    if math.prod([size or 1 for size in shape]) - sent > MAX_UNSENT:
        raise ValueError(f"a tensor may have at most {MAX_UNSENT} values that are not sent. Received: shape={shape}")
    if sent > size or (size and not sent):
        raise _wrong_number(shape, sent)
    if dtype == STRING:
        values = np.empty(size, STRING)
        values[:sent], values[sent:] = field, field[-1] if sent else b""
        return values
    if dtype.itemsize < 4 and dtype.kind in "iuf":  # the lower bits count, as in TensorFlow
        bits = dtype if dtype.kind in "iu" else np.dtype(np.uint16)
        values = np.fromiter(field, np.int32, sent).astype(bits).view(dtype)
    else:
        values = np.fromiter(field, dtype, sent)  # `np.array` would make a list of all values first
    return np.concatenate([values, np.repeat(values[-1:], size - sent)]) if sent < size else values


def _wrong_number(shape: Sequence[int], sent: float) -> ValueError:
    return ValueError(f"a tensor of shape {tuple(shape)} must hold {math.prod(shape)} values. Received: {sent:g}")
