"""Requests whose few bytes stand for much memory: each kind as large as the server takes it, and larger."""

import base64
import gzip
import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from c2al_serving.protocol import messages
from c2al_serving.protocol.tensors import fill_proto

_MODELS, _PREDICTION = messages.MODEL_SERVICE, messages.PREDICTION_SERVICE
PREDICT = f"/{_PREDICTION}/Predict"
_HEALTH = "/grpc.health.v1.Health/Check"
_STRING, _INT64, _BOOL = 7, 9, 10
_WIDE = "x\N{GRINNING FACE}".encode()
_LARGE = 4 << 20


Inputs = dict[str, tuple[int, int]]
"""The columns of `serving_default`: number of the dtype, and of dimensions."""


class Attack(NamedTuple):
    """A request.

    Attributes:
        name: What it is.
        method: The path of a gRPC method; REST: `POST` and a path.
        data: The message, or the body.
        compressed: Whether gRPC compresses it on the way.
    """

    name: str
    method: str
    data: bytes
    compressed: bool = False

    @property
    def size(self) -> int:
        """Bytes on the wire."""
        return len(gzip.compress(self.data)) if self.compressed else len(self.data)


def attacks(inputs: Inputs) -> Iterator[Attack]:
    """All attacks on a model with these inputs."""
    yield from _unsent_places(inputs)
    yield from _small_values(inputs)
    yield from _many_fields()
    yield from _examples()
    yield from _texts()
    yield from _compressed()
    yield from _json_bodies(list(inputs))


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

    def request(shape: Callable[[int], tuple[int, ...]], values: dict[int, dict[str, Any]] = _VALUE) -> bytes:
        tensors = {name: _tensor(dtype, shape(rank), **values[dtype]) for name, (dtype, rank) in inputs.items()}
        return _spec() + b"".join(_entry(name, tensor) for name, tensor in tensors.items())

    for rows in (1_000, 2**14, 2**18):
        yield Attack(f"{rows} rows not sent", PREDICT, request(lambda rank, rows=rows: (rows, 3, 3)[:rank]))
    for width in (2**15, 2**17, 2**18):
        yield Attack(f"{width} places not sent", PREDICT, request(lambda rank, width=width: (1, width)[:rank]))
    long = {**_VALUE, _STRING: {"string_val": [b"a" * 4000]}}
    for rows in (900, 2**12, 2**18):
        yield Attack(f"{rows} long strings not sent", PREDICT, request(lambda rank, rows=rows: (rows, 3)[:rank], long))
    empty = _tensor(_STRING, (2**18,), string_val=[b""])
    for count in (1, 8, 20):
        yield Attack(f"{count} inputs of empty strings", PREDICT, _empty_strings(count))
    known = next(name for name, (dtype, rank) in inputs.items() if (dtype, rank) == (_STRING, 1))
    yield Attack("one name again and again", PREDICT, _spec() + _entry(known, empty) * 2000)
    for size in (500, 10_000):
        tensor = _tensor(_STRING, (size,), string_val=[b"\n\x00" * 200])
        yield Attack(
            f"{size} examples not sent", PREDICT, _spec(signature=b"serialized_examples") + _entry("examples", tensor)
        )
    yield Attack("a row of no values", PREDICT, request(lambda rank: (2**18, 0)[:rank]))


def _with(inputs: Inputs, name: str, tensor: bytes) -> bytes:
    """A request whose other inputs are as they should be, for a row."""
    rest = {
        other: _tensor(dtype, (1, 1)[:rank], **_VALUE[dtype])
        for other, (dtype, rank) in inputs.items()
        if other != name
    }
    return _spec() + b"".join(_entry(other, each) for other, each in {**rest, name: tensor}.items())


def _empty_strings(count: int) -> bytes:
    """Inputs of empty strings, one of 2**18 sent for each, of a signature that has fewer."""
    empty = _tensor(_STRING, (2**18,), string_val=[b""])
    return _spec() + b"".join(_entry(str(number), empty) for number in range(count))


def _small_values(inputs: Inputs) -> Iterator[Attack]:
    """Values that take a byte or two on the wire are all sent."""
    strings = {rank: name for name, (dtype, rank) in inputs.items() if dtype == _STRING}
    integers = {rank: name for name, (dtype, rank) in inputs.items() if dtype == _INT64}
    shape = field(2, field(2, b"\x08" + _varint(_LARGE // 2)))
    for rank, share in ((1, 1), (1, 4), (1, 16), (2, 1)):
        count = _LARGE // 2 // share
        dims = b"".join(field(2, b"\x08" + _varint(size)) for size in (1, count)[2 - rank :])
        body = b"\x08\x07" + field(2, dims) + b"\x42\x00" * count
        yield Attack(f"{count} empty strings sent, {rank} axes", PREDICT, _with(inputs, strings[rank], body))
        short = b"\x08\x07" + field(2, dims) + b"\x42\x02ab" * count
        yield Attack(f"{count} short strings sent, {rank} axes", PREDICT, _with(inputs, strings[rank], short))
    for number, dtype in ((10, _INT64), (11, _BOOL), (7, 3), (7, 6), (17, 23), (13, 19)):
        for count in (2**18, 2**20, 2**21):
            dims = field(2, field(2, b"\x08" + _varint(count)))
            body = b"\x08" + bytes([dtype]) + dims + field(number, b"\x01" * count)
            yield Attack(f"{count} small values of field {number}", PREDICT, _with(inputs, integers[1], body))
    yield Attack(
        "numbers not packed", PREDICT, _with(inputs, integers[1], b"\x08\x09" + shape + b"\x50\x01" * (_LARGE // 2))
    )
    yield Attack(
        "many dimensions", PREDICT, _with(inputs, integers[1], b"\x08\x09" + field(2, b"\x12\x00" * (_LARGE // 2)))
    )
    large = np.zeros(3 << 20, np.int64)
    for share in (1, 2):
        proto = messages.TensorProto()
        fill_proto(proto, large[::share])
        yield Attack(f"a large tensor, 1/{share}", PREDICT, _with(inputs, integers[1], proto.SerializeToString()))


def _many_fields() -> Iterator[Attack]:
    """Entries of two bytes, of every repeated field."""
    for size in (2**18, 2**20, _LARGE):
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
    one = field(1, field(1, field(1, b"user") + field(2, field(3, field(1, b"\x07")))))
    numbers = field(1, field(1, field(1, b"seen") + field(2, field(3, field(1, b"\x01" * 10_000)))))
    words = field(1, field(1, field(1, b"tags") + field(2, field(1, b"\x0a\x00" * 5_000))))
    for method, signature in (("Classify", b"classify"), ("Regress", b"regress")):
        path, spec = f"/{_PREDICTION}/{method}", _spec(signature=signature)
        for count in (2**15, 2**17, 2**18, 2**21):
            yield Attack(f"{method}: {count} empty examples", path, spec + field(2, field(1, b"\x0a\x00" * count)))
        for count in (8, 128, 2**12, 2**18):
            for what, context in (
                ("numbers", numbers),
                ("words", words),
                ("little", one),
                ("nothing known", b"\x78\x01" * 10_000),
            ):
                given = field(2, b"\x0a\x00" * count + field(2, context))[2:]
                given = b"\x0a\x00" * count + field(2, context)
                name = f"{method}: {count} examples with a context of {what}"
                yield Attack(name, path, spec + field(2, field(2, given)))
    task = field(1, field(1, field(1, b"default") + field(3, b"classify")) + field(2, b"tensorflow/serving/classify"))
    yield Attack(
        "MultiInference: empty examples",
        f"/{_PREDICTION}/MultiInference",
        task + field(2, field(1, b"\x0a\x00" * 2**17)),
    )
    strings = b"\x08\x07" + field(2, field(2, b"\x08" + _varint(2**17))) + b"\x42\x00" * 2**17
    yield Attack(
        "Predict: empty examples", PREDICT, _spec(signature=b"serialized_examples") + _entry("examples", strings)
    )


def _texts() -> Iterator[Attack]:
    """Names that messages repeat, of characters that take four bytes for each, or that `repr` writes in four."""
    for size in (2**20, _LARGE, 3 * _LARGE, 40 << 20):
        for what, text in (("wide", _WIDE + b"x" * size), ("odd", _WIDE + b"\x00" * size)):
            said = f"{size} {what} characters"
            yield Attack(f"{said} as a model", PREDICT, _spec(name=text))
            yield Attack(f"{said} as a signature", PREDICT, _spec(signature=text))
            yield Attack(f"{said} as an output", PREDICT, _spec() + field(3, text))
            yield Attack(f"{said} as an input", PREDICT, _spec() + field(2, field(1, text)))
            yield Attack(f"{said} as a label", PREDICT, field(1, field(1, b"default") + field(4, text)))
            yield Attack(f"{said} as a signature of Classify", f"/{_PREDICTION}/Classify", _spec(signature=text))
            yield Attack(f"{said} as metadata", f"/{_PREDICTION}/GetModelMetadata", _spec() + field(2, text))
            yield Attack(f"{said} as a service", _HEALTH, field(1, text))
            yield Attack(f"{said} unknown", f"/{_MODELS}/GetModelStatus", field(20, text))


def _compressed() -> Iterator[Attack]:
    for size in (1 << 20, 30 << 20, 200 << 20):
        yield Attack(f"{size} zeros compressed", PREDICT, _spec() + field(20, bytes(size)), compressed=True)


def _json_bodies(names: list[str]) -> Iterator[Attack]:
    base = "POST /v1/models/default:"
    for size in (2**18, 2**20, _LARGE, 16 << 20):
        for what, piece in (
            ("lists", "[]"),
            ("deep lists", "[[[[[[]]]]]]"),
            ("objects", "{}"),
            ("numbers", "7"),
            ("large numbers", "12345678901"),
            ("fractions", "0.5"),
            ("empty strings", '""'),
            ("short strings", '"ab"'),
            ("base64", '{"b64": ""}'),
            ("objects of a key", '{"a":1}'),
        ):
            values = ",".join([piece] * (size // (len(piece) + 1)))
            for body in ('{"inputs": {"%s": [%s]}}' % (names[0], values), '{"instances": [%s]}' % values):
                yield Attack(f"{size} bytes of {what}: {body[2:5]}", base + "predict", body.encode())
            for signature in ("classify", "regress"):
                body = f'{{"signature_name": "{signature}", "examples": [%s]}}'
                yield Attack(
                    f"{size} bytes of {what} as examples of {signature}", base + signature, (body % values).encode()
                )
                body = f'{{"signature_name": "{signature}", "examples": [{{"seen": [%s]}}]}}'
                yield Attack(
                    f"{size} bytes of {what} as a feature of {signature}", base + signature, (body % values).encode()
                )
                body = f'{{"signature_name": "{signature}", "context": {{"seen": [%s]}}, "examples": [{",".join(["{}"] * 1000)}]}}'
                yield Attack(
                    f"{size} bytes of {what} as a context of {signature}", base + signature, (body % values).encode()
                )
        keys = ",".join(f'"{number}":0' for number in range(size // 10))
        yield Attack(f"{size} bytes of keys", base + "predict", f"{{{keys}}}".encode())
        yield Attack(f"{size} bytes of keys of a row", base + "predict", f'{{"instances": [{{{keys}}}]}}'.encode())
        yield Attack(
            f"{size} bytes of features",
            base + "classify",
            f'{{"signature_name": "classify", "examples": [{{{keys}}}]}}'.encode(),
        )
        for what, text in (
            ("wide", _WIDE.decode() + "x" * size),
            ("odd", _WIDE.decode() + "\x01" * (size // 6)),
            ("é", "é" * (size // 2)),
        ):
            for ascii_only in (True, False):
                said = json.dumps(text, ensure_ascii=ascii_only)
                for what2, body in (
                    ("a value", f'{{"inputs": {said}}}'),
                    ("a string", f'{{"inputs": {{"{names[0]}": [{said}]}}}}'),
                    ("a name", f'{{"inputs": {{{said}: 1}}}}'),
                    ("a signature", f'{{"signature_name": {said}, "inputs": 1}}'),
                    ("an example", f'{{"signature_name": "classify", "examples": [{said}]}}'),
                    ("a feature", f'{{"signature_name": "classify", "examples": [{{{said}: null}}]}}'),
                    ("nothing", said + ","),
                ):
                    path = base + ("classify" if "examples" in body else "predict")
                    yield Attack(f"{size} bytes of {what} text as {what2}, {ascii_only}", path, body.encode())
        long = base64.b64encode(bytes(size)).decode()
        yield Attack(
            f"{size} bytes of base64",
            base + "predict",
            f'{{"inputs": {{"{names[0]}": [{{"b64": "{long}"}}]}}}}'.encode(),
        )
        yield Attack(f"{size} bytes of digits", base + "predict", b'{"inputs": %s}' % (b"7" * size))
        yield Attack(f"{size} bytes that nest", base + "predict", b"[" * size)
        yield Attack(
            f"{size} bytes of UTF-16", base + "predict", ('{"inputs": "%s"}' % ("ł" * (size // 2))).encode("utf-16")
        )
