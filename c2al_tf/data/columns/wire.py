"""tf.Example records as bytes, assembled a column at a time: protobuf in Python costs a microsecond per value."""

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ...feature import Column, DType
from ...types import Array, Columns
from .raw import is_missing

# Field numbers of `Feature`, each with wire type 2: bytes_list 1, float_list 2, int64_list 3.
_KIND_TAGS: dict[DType, bytes] = {"string": b"\x0a", "float32": b"\x12", "int64": b"\x1a"}
_FIRST_FIELD, _SECOND_FIELD = b"\x0a", b"\x12"
_NOTHING = pa.scalar(b"", pa.large_binary())

_Sizes = NDArray[np.int64]


def to_examples(batch: Columns, columns: Mapping[str, Column]) -> list[bytes]:
    """Returns the rows of a batch as serialized tf.Examples; a missing value becomes a feature without values."""
    pieces = []
    for name, column in columns.items():
        payload = _payload(batch[name], column)
        pieces += [_per_size(payload, partial(_entry_header, column)), payload]
    features = pc.binary_join_element_wise(*pieces, _NOTHING)
    header = _per_size(features, lambda size: _FIRST_FIELD + _varint(size))
    return pc.binary_join_element_wise(header, features, _NOTHING).to_pylist()


def _per_size(pieces: pa.Array, header: Callable[[int], bytes]) -> pa.Array:
    """Returns the header of each piece, which depends on the size of the piece alone."""
    sizes, places = np.unique(pc.binary_length(pieces).to_numpy(zero_copy_only=False), return_inverse=True)
    return pa.array([header(int(size)) for size in sizes], pa.large_binary()).take(pa.array(places))


def _entry_header(column: Column, size: int) -> bytes:
    """The header of the `size` bytes of a column's values: an entry of `Features`, a map from name to `Feature`."""
    # Numbers are packed: one tag and one size for all of them. Each string has its own. Without values there is no list
    # either: a FixedLenFeature of `tf.io` takes its default for no list, and refuses one that is empty.
    values = b"" if column.dtype == "string" else _FIRST_FIELD + _varint(size)
    feature = _KIND_TAGS[column.dtype] + _varint(len(values) + size) + values if size else b""
    name = column.name.encode()
    entry = _FIRST_FIELD + _varint(len(name)) + name + _SECOND_FIELD + _varint(len(feature) + size) + feature
    return _FIRST_FIELD + _varint(len(entry) + size) + entry


def _payload(values: Array, column: Column) -> pa.Array:
    """Returns the bytes of each row's values, as binary (rows,)."""
    rows = values.reshape(len(values), -1 if len(values) else 1)
    present = ~is_missing(rows, column.dtype)
    data, sizes = _encode(rows[present], column.dtype)
    ends = np.concatenate([[0], np.cumsum(sizes)])
    offsets = ends[np.concatenate([[0], np.cumsum(present.sum(axis=1))])].astype(np.int64)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(data)]
    return pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(rows), buffers)


def _encode(values: Array, dtype: DType) -> tuple[Array, _Sizes]:
    """Returns the bytes of all values, uint8, and how many each has."""
    if dtype == "float32":
        return values.astype("<f4", copy=False).view(np.uint8), np.full(len(values), 4)
    if dtype == "int64":
        return _varints(values)
    texts = pa.array(values, pa.large_string()).cast(pa.large_binary())
    framed = pc.binary_join_element_wise(_per_size(texts, lambda size: _FIRST_FIELD + _varint(size)), texts, _NOTHING)
    data = framed.buffers()[2]
    sizes = pc.binary_length(framed).to_numpy(zero_copy_only=False)
    return np.frombuffer(data or b"", np.uint8)[: sizes.sum()], sizes


def _varints(values: Array) -> tuple[Array, _Sizes]:
    """Returns integers in groups of seven bits, lowest first; the top bit says that more follow."""
    rest = values.astype(np.int64, copy=False).view(np.uint64)
    width = max(1, -(-int(rest.max(initial=0)).bit_length() // 7))
    groups = np.empty((len(rest), width), np.uint8)
    sizes = np.ones(len(rest), np.int64)
    for i in range(width):
        low = rest & np.uint64(127)
        rest = rest >> np.uint64(7)
        more = rest > 0
        groups[:, i] = low | np.where(more, 128, 0).astype(np.uint64)
        sizes += more
    return groups[np.arange(width) < sizes[:, np.newaxis]], sizes


def _varint(value: int) -> bytes:
    return _varints(np.array([value]))[0].tobytes()
