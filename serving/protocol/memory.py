"""The bound on the memory of a request, and what its messages take once they are parsed, read off their bytes alone.

A request may cost the server `MAX_MEMORY` bytes beyond its own size, before the model computes. Two bytes on the wire
can be an empty string or an empty message, which take up to a hundred bytes in memory, so a message is measured
before it is parsed.
"""

from typing import Any

from google.protobuf.descriptor import FieldDescriptor as Field
from google.protobuf.message import DecodeError

from .errors import RequestError

MAX_MEMORY = 64 << 20
"""Bytes that a request may cost beyond its own size, all copies on the way to TensorFlow included."""

_WORST = 256
"""Bytes for a byte of a message, at most; `_TEXT` and the measures below stay under it."""
_COPIES = 4
"""Copies of a tensor's bytes: in the message, in its array, in a merged batch, in TensorFlow."""
_TEXT = 48
"""For a byte of text: one wide character makes a Python string four bytes wide, and `repr` may write four for it."""
_ELEMENT = 192
"""Bytes for a string of a tensor beside its characters: a view of 16 bytes in an array that doubles, and the arrays
before it; Python's `bytes`, and its place in arrays; TensorFlow's string."""
_FIELD = 384
"""Bytes for a message or a number of its own: more than it takes, so that a message of many is soon measured."""
_PACKED = {Field.CPPTYPE_INT64: 44, Field.CPPTYPE_UINT64: 44, Field.CPPTYPE_INT32: 24, Field.CPPTYPE_UINT32: 24}
"""Bytes for a byte of packed integers: their array, which doubles, and the copies of the tensor."""
_PACKED_OTHER = 6
_VARINT, _FIXED_64, _BYTES, _FIXED_32 = 0, 1, 2, 5


def too_large(what: str, need: int) -> RequestError:
    """The refusal of a request of which one part alone takes more memory than is left."""
    return RequestError(
        f"{what} takes too much memory: a request may cost {MAX_MEMORY} bytes beyond its own size. "
        f"Received: {need} bytes or more with what precedes it"
    )


def check_memory(message_class: Any, data: bytes) -> None:
    """Checks what a message takes once it is parsed, and its tensors on the way to TensorFlow.

    Raises:
        RequestError: If it takes more than `MAX_MEMORY`.
        DecodeError: If it is large and no message.
    """
    if len(data) * _WORST > MAX_MEMORY:
        _measure(message_class.DESCRIPTOR, data, 0, len(data), 0)


def read_varint(data: bytes, place: int) -> tuple[int, int]:
    """The number at a place, and the place behind it. Raises DecodeError if there is none."""
    value = shift = 0
    for place in range(place, min(place + 10, len(data))):  # noqa: B020 - the place of the last byte is needed
        value |= (data[place] & 127) << shift
        if data[place] < 128:
            return value, place + 1
        shift += 7
    raise DecodeError("a number is cut off")


def read_field(data: bytes, place: int, end: int) -> tuple[int, int, int, int]:
    """The field at a place: its number, its wire type, and where its content begins and ends.

    Raises:
        DecodeError: If there is none, or it is a group, which no message here has.
    """
    tag, start = read_varint(data, place)
    kind = tag & 7
    if kind == _BYTES:
        size, start = read_varint(data, start)
        stop = start + size
    elif kind == _VARINT:
        stop = read_varint(data, start)[1]
    elif kind in (_FIXED_32, _FIXED_64):
        stop = start + (4 if kind == _FIXED_32 else 8)
    else:
        raise DecodeError(f"wire type {kind} is unknown")
    if stop > end:
        raise DecodeError("a field is cut off")
    return tag >> 3, kind, start, stop


def _measure(descriptor: Any, data: bytes, place: int, end: int, total: int) -> int:
    """The bytes that a part of `data` takes, parsed as a message, at most, and `total` before it."""
    fields, total = descriptor.fields_by_number, total + _FIELD
    while place < end:
        first = place
        number, kind, start, place = read_field(data, place, end)
        field, size = fields.get(number), place - start
        if kind == _BYTES and field is not None and field.type == Field.TYPE_BYTES and data[first] < 128:
            count, place = _same(data, first, place, end)
            total += count * _ELEMENT + _COPIES * (place - first)
        elif kind == _BYTES and field is not None and field.message_type is not None:
            total = _measure(field.message_type, data, start, place, total)
        else:
            total += _FIELD + size * (_byte_cost(field) if kind == _BYTES else 1)
        if total > MAX_MEMORY:
            raise too_large(descriptor.name, total)
    return total


def _same(data: bytes, first: int, place: int, end: int) -> tuple[int, int]:
    """How many fields in a row have the tag of the one from `first` to `place`, and at most 16 KB; where the last ends.

    The tag is one byte.
    """
    count, tag = 1, data[first]
    while place + 2 < end and data[place] == tag:
        size, start = data[place + 1], place + 2
        if size >= 128:
            high, start = data[start], start + 1
            if high >= 128:
                break
            size += (high - 1) * 128
        if start + size > end:
            break
        place = start + size
        count += 1
    return count, place


def _byte_cost(field: Any) -> int:
    """Bytes in memory for a byte of a string, of packed numbers, or of a field that is kept as it is."""
    if field is None or field.type == Field.TYPE_BYTES:
        return _COPIES
    return _TEXT if field.type == Field.TYPE_STRING else _PACKED.get(field.cpp_type, _PACKED_OTHER)
