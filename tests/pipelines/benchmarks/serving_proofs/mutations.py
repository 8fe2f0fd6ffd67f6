"""Hypothesis strategies for requests that are nearly valid: messages, their bytes, JSON, and HTTP bytes."""

import copy
import json
from collections.abc import Callable, Sequence
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from hypothesis import strategies as st

_Draw = Callable[[st.SearchStrategy[Any]], Any]

_WORDS = st.sampled_from(
    ["", "default", "other", "serving_default", "serialized_examples", "examples", "signature_def", "logits", "a" * 300]
)
_TEXT = st.one_of(_WORDS, st.text(max_size=20))
_INT = st.one_of(
    st.sampled_from([0, 1, -1, 2, 7, 255, 2**15, 2**28, 2**31 - 1, 2**31, -(2**31), 2**63 - 1, -(2**63), 2**64 - 1]),
    st.integers(-100, 100),
)
_RANGES = {
    FieldDescriptor.CPPTYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 2**64 - 1),
    FieldDescriptor.CPPTYPE_ENUM: (0, 130),
}


@st.composite
def messages(draw: _Draw, originals: Sequence[Any]) -> Any:
    """One of some protobuf messages, with one to four of its fields set otherwise, cleared, added or repeated."""
    original = draw(st.sampled_from(originals))
    message = type(original).FromString(original.SerializeToString())
    for _ in range(draw(st.integers(1, 4))):
        _change(draw, draw(st.sampled_from(_parts(message))))
    return message


@st.composite
def bytes_of(draw: _Draw, originals: Sequence[bytes]) -> bytes:
    """One of some byte strings with bits flipped, pieces cut out, put in, or taken from another."""
    data = bytearray(draw(st.sampled_from(originals)))
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(data)))
        kind = draw(st.sampled_from(["flip", "truncate", "cut", "insert", "splice"]))
        if kind == "flip" and place < len(data):
            data[place] ^= 1 << draw(st.integers(0, 7))
        elif kind == "truncate":
            del data[place:]
        elif kind == "cut":
            del data[place : place + draw(st.integers(1, 20))]
        elif kind == "insert":
            data[place:place] = draw(st.binary(max_size=20))
        elif kind == "splice":
            other = draw(st.sampled_from(originals))
            data[place:] = other[draw(st.integers(0, len(other))) :]
    return bytes(data)


@st.composite
def json_values(draw: _Draw, originals: Sequence[Any]) -> Any:
    """One of some JSON values with one to three of its parts replaced, removed or repeated."""
    value = copy.deepcopy(draw(st.sampled_from(originals)))
    for _ in range(draw(st.integers(1, 3))):
        value = _changed_json(draw, value)
    return value


_ODD_JSON: st.SearchStrategy[Any] = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        _INT,
        st.floats(),
        _TEXT,
        st.just(10**400),
        st.just({"b64": "AAA="}),
        st.just({"b64": 1}),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(_TEXT, inner, max_size=3)),
    max_leaves=6,
)


def _changed_json(draw: _Draw, value: Any) -> Any:
    """Goes down at random, and changes what it comes to."""
    if isinstance(value, (dict, list)) and value and draw(st.integers(0, 4)):
        key = draw(st.sampled_from(list(value) if isinstance(value, dict) else range(len(value))))
        kind = draw(st.sampled_from(["change"] * 5 + ["remove", "add"]))
        if kind == "change":
            value[key] = _changed_json(draw, value[key])
        elif kind == "remove":
            del value[key]
        elif isinstance(value, dict):
            value[draw(_TEXT)] = value[key]
        else:
            value.append(value[key])
        return value
    return copy.deepcopy(draw(_ODD_JSON))  # it may be changed in turn


@st.composite
def http_requests(draw: _Draw, paths: Sequence[str], bodies: Sequence[Any]) -> bytes:
    """A request as it is sent: half of the time with a wrong body alone, else with lines and headers nearly right."""
    content: bytes = draw(_bodies(bodies))
    true_length = [b"Content-Length: %d" % len(content)]
    if draw(st.booleans()):
        return b"\r\n".join(
            [f"POST {paths[0]} HTTP/1.1".encode(), b"Host: x", *true_length, b"Connection: close", b"", content]
        )
    if not draw(st.integers(0, 9)):
        return draw(st.binary(min_size=1, max_size=200))
    method = draw(st.sampled_from(["POST"] * 8 + ["GET"] * 3 + ["PUT", "HEAD", "DELETE", "OPTIONS", "get", "", "\x00"]))
    path = draw(st.one_of(st.sampled_from(paths), st.sampled_from(paths), _paths(paths)))
    version = draw(st.sampled_from(["HTTP/1.1"] * 8 + ["HTTP/1.0", "HTTP/0.9", "HTTP/2.0", "HTTP/x", ""]))
    lines = [f"{method} {path} {version}".encode(errors="replace"), b"Host: localhost", b"Connection: close"]
    lines += draw(st.one_of(st.just(true_length), _lengths(len(content))))
    lines += draw(
        st.lists(st.one_of(_HEADERS, st.binary(max_size=30).map(lambda v: v.replace(b"\n", b""))), max_size=1)
    )
    request = b"\r\n".join([*lines, b"", content])
    return request if draw(st.integers(0, 9)) else draw(bytes_of([request]))


_HEADERS = st.sampled_from(
    [
        b"Transfer-Encoding: chunked",
        b"Content-Encoding: gzip",
        b"Expect: 100-continue",
        b"Content-Type: text/plain",
        b"X: " + b"x" * 70_000,
        b"\r\n".join(b"X-%d: x" % number for number in range(150)),
    ]
)


def _lengths(size: int) -> st.SearchStrategy[list[bytes]]:
    """Content-Length: mostly true."""
    told = [str(size)] * 10 + [
        str(size + 5),
        str(max(0, size - 5)),
        "0",
        "-1",
        "",
        "x",
        "1e3",
        "+5",
        "9" * 5000,
        "9" * 30,
    ]
    return st.one_of(
        st.sampled_from(told).map(lambda length: [f"Content-Length: {length}".encode()]),
        st.sampled_from([[], [b"Content-Length: %d" % size, b"Content-Length: 3"], [b"Transfer-Encoding: chunked"]]),
    )


def _paths(paths: Sequence[str]) -> st.SearchStrategy[str]:
    odd = st.sampled_from(["%00", "//", "..", ":predict", "/versions/999999999999999999999", "/labels/x", "?a=b", "é"])
    return st.one_of(
        st.tuples(st.sampled_from(paths), odd).map("".join),
        st.tuples(st.sampled_from(paths), st.integers(0, 30), odd).map(lambda t: t[0][: t[1]] + t[2] + t[0][t[1] :]),
        st.text(st.characters(codec="utf-8", exclude_characters="\r\n "), max_size=30).map("/{}".format),
    )


def _bodies(bodies: Sequence[Any]) -> st.SearchStrategy[bytes]:
    valid = [json.dumps(body).encode() for body in bodies]
    changed = json_values(bodies).map(lambda value: json.dumps(value).encode())
    return st.one_of(changed, changed, changed, st.sampled_from(valid), bytes_of(valid), st.just(b"[" * 100_000))


def _parts(message: Any) -> list[Any]:
    """A message and all messages in it."""
    parts = [message]
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        if field.message_type.GetOptions().map_entry:
            if field.message_type.fields_by_name["value"].message_type is not None:
                parts += [part for key in sorted(value) for part in _parts(value[key])]
        elif field.is_repeated:
            parts += [part for item in value for part in _parts(item)]
        else:
            parts += _parts(value)
    return parts


def _change(draw: _Draw, message: Any) -> None:
    """Changes one field of a message."""
    if not message.DESCRIPTOR.fields:
        return
    field = draw(st.sampled_from(list(message.DESCRIPTOR.fields)))
    if draw(st.integers(0, 5)) == 0:
        message.ClearField(field.name)
    elif field.message_type is not None and field.message_type.GetOptions().map_entry:
        _change_map(draw, getattr(message, field.name), field.message_type.fields_by_name["value"])
    elif field.is_repeated:
        _change_list(draw, getattr(message, field.name), field)
    elif field.message_type is not None:
        getattr(message, field.name).SetInParent()
    else:
        setattr(message, field.name, draw(_scalars(field)))


def _change_map(draw: _Draw, values: Any, field: Any) -> None:
    kind, name = draw(st.sampled_from(["drop", "rename", "copy"])), draw(_TEXT)
    old = draw(st.sampled_from([*sorted(values), name]))
    if field.message_type is None:
        values[name] = draw(_scalars(field))
    elif kind != "drop":
        values[name].CopyFrom(values[old])
    if kind != "copy" and old in values:
        del values[old]


def _change_list(draw: _Draw, values: Any, field: Any) -> None:
    kind = draw(st.sampled_from(["drop", "repeat", "set", "add"]))
    place = draw(st.integers(0, max(0, len(values) - 1)))
    if kind == "drop":
        del values[place : place + 1]
    elif kind == "repeat" and values:
        values.extend([values[place]] * draw(st.integers(1, 3)))
    elif field.message_type is not None:
        values.add()
    elif kind == "set" and values:
        values[place] = draw(_scalars(field))
    else:
        values.append(draw(_scalars(field)))


def _scalars(field: Any) -> st.SearchStrategy[Any]:
    kind = field.cpp_type
    if kind in _RANGES:
        least, most = _RANGES[kind]
        return st.one_of(_INT, st.integers(least, most)).map(lambda value: min(max(value, least), most))
    if kind == FieldDescriptor.CPPTYPE_BOOL:
        return st.booleans()
    if kind == FieldDescriptor.CPPTYPE_STRING:
        return st.binary(max_size=30) if field.type == FieldDescriptor.TYPE_BYTES else _TEXT
    return st.floats(width=32) if kind == FieldDescriptor.CPPTYPE_FLOAT else st.floats()
