"""The JSON of TensorFlow Serving's REST API to arrays and back: rows (`instances`) and columns (`inputs`)."""

import base64
import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from c2al_tf.saved_model import TensorSpec

from ..protocol.errors import RequestError
from ..protocol.tensors import dtype_name
from .json_memory import MAX_SHOWN, Room, shown

ROWS, COLUMNS = "instances", "inputs"
_MAX_RANK = 32
_LEAF = 16
"""Bytes for a value in the lists that it passes through."""
_STRING = 176
"""Bytes for a string beside its characters: lists and arrays 40, `bytes` 48, TensorFlow's string 88."""
_JSON_TYPES: dict[str, set[type]] = {"f": {int, float}, "i": {int}, "u": {int}, "b": {bool}}


def read_inputs(body: Mapping[str, Any], specs: Mapping[str, TensorSpec], room: Room) -> dict[str, NDArray[Any]]:
    """The arrays of a predict request, with the dtypes that the signature declares.

    Args:
        body: The parsed request, with either of the two keys.
        specs: The signature's inputs.
        room: The memory that the arrays and TensorFlow's copies of them may take.

    Raises:
        RequestError: If the JSON has another form, a value another type than declared, or there are too many.
    """
    if (ROWS in body) == (COLUMNS in body):
        raise RequestError(f"JSON object must have either {ROWS!r} or {COLUMNS!r}. Received: {shown(sorted(body))}")
    values = _columns_of_rows(body[ROWS], specs, room) if ROWS in body else _columns(body[COLUMNS], specs)
    for name in values:
        if name not in specs:
            raise RequestError(
                f"JSON object: does not have named input: {name:.{MAX_SHOWN}}. Inputs: {', '.join(specs)}"
            )
    return {name: _to_array(name, value, specs[name], room) for name, value in values.items()}


def write_outputs(outputs: Mapping[str, NDArray[Any]], as_rows: bool) -> dict[str, Any]:
    """The response to a predict request; a single output stands without its name."""
    values = {name: _to_json(name, array) for name, array in outputs.items()}
    if not as_rows:
        return {"outputs": next(iter(values.values())) if len(values) == 1 else values}
    sizes = {array.shape[0] if array.ndim else -1 for array in outputs.values()}
    if len(sizes) != 1 or -1 in sizes:
        raise RequestError(f"The outputs have no common batch size, so they cannot be rows: use {COLUMNS!r}.")
    if len(values) == 1:
        return {"predictions": next(iter(values.values()))}
    return {"predictions": [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]}


def _columns(value: Any, specs: Mapping[str, TensorSpec]) -> dict[str, Any]:
    if isinstance(value, dict) and not is_base64(value):
        return value
    return {_only_input(specs): value}


def _columns_of_rows(rows: Any, specs: Mapping[str, TensorSpec], room: Room) -> dict[str, list[Any]]:
    if not isinstance(rows, list) or not rows:
        raise RequestError(f"{ROWS!r} must be a list of at least one row.")
    if not isinstance(rows[0], dict) or is_base64(rows[0]):
        return {_only_input(specs): rows}
    for number, row in enumerate(rows):
        if not isinstance(row, dict) or row.keys() != rows[0].keys():
            first = ", ".join(name[:MAX_SHOWN] for name in itertools.islice(rows[0], MAX_SHOWN))
            raise RequestError(f"{ROWS!r}: row {number} must have the same inputs as row 0: {first}.")
    room.take(8 * len(rows) * len(rows[0]), f"{ROWS!r} of {len(rows)} rows")
    return {name: [row[name] for row in rows] for name in rows[0]}


def _only_input(specs: Mapping[str, TensorSpec]) -> str:
    if len(specs) != 1:
        raise RequestError(f"The signature has {len(specs)} inputs, so each value needs its name: {', '.join(specs)}")
    return next(iter(specs))


def _to_array(name: str, value: Any, spec: TensorSpec, room: Room) -> NDArray[Any]:
    shape, leaves = _flatten(name, value)
    each = _STRING if spec.dtype.kind == "O" else _LEAF + 3 * spec.dtype.itemsize
    room.take(each * len(leaves), f"Input {name!r} of {len(leaves)} values")
    if spec.dtype.kind == "O":
        strings = [to_bytes(name, leaf) for leaf in leaves]
        room.take(2 * sum(map(len, strings)), f"Input {name!r} of {len(leaves)} values")
        array = np.empty(len(leaves), object)
        array[:] = strings
        return array.reshape(shape)
    allowed = _JSON_TYPES.get(spec.dtype.kind, set())
    for kind in {type(leaf) for leaf in leaves} - allowed:
        wrong = next(leaf for leaf in leaves if type(leaf) is kind)
        raise RequestError(f"{name}: JSON Value: {shown(wrong)} is not of expected type: {dtype_name(spec.dtype)}")
    try:
        with np.errstate(over="raise"):
            return np.array(leaves, spec.dtype).reshape(shape)
    except (OverflowError, FloatingPointError) as error:
        raise RequestError(f"{name}: a value is out of the range of {dtype_name(spec.dtype)}") from error


def _flatten(name: str, value: Any) -> tuple[list[int], list[Any]]:
    shape: list[int] = []
    leaves = [value]
    while any(isinstance(leaf, list) for leaf in leaves):
        sizes = {len(leaf) if isinstance(leaf, list) else -1 for leaf in leaves}
        if len(sizes) > 1:
            raise RequestError(f"{name}: lists at depth {len(shape)} must have one length. Received: {sorted(sizes)}")
        shape.extend(sizes)
        if len(shape) > _MAX_RANK:
            raise RequestError(f"{name}: lists may be nested at most {_MAX_RANK} deep.")
        leaves = list(itertools.chain.from_iterable(leaves))
    return shape, leaves


def shortest_decimals(array: NDArray[Any]) -> Any:
    """The numbers of an array of floats by way of their shortest decimal form: 0.2 for 0.20000000298023224."""
    return array.astype(str).astype(np.float64).tolist()


def is_base64(value: Any) -> bool:
    """Whether a JSON value is `{"b64": ...}`."""
    return isinstance(value, dict) and value.keys() == {"b64"}


def to_bytes(name: str, value: Any) -> bytes:
    """The bytes of a JSON string or `{"b64": ...}`; `name` is for messages."""
    if isinstance(value, str):
        return value.encode(errors="surrogatepass")
    if not is_base64(value) or not isinstance(value["b64"], str):
        raise RequestError(f"{name}: JSON Value: {shown(value)} is not of expected type: string")
    try:
        return base64.b64decode(value["b64"], validate=True)
    except ValueError as error:
        raise RequestError(f"{name}: Unable to base64 decode: {error}") from error


def _to_json(name: str, array: NDArray[Any]) -> Any:
    if array.dtype.kind == "O":
        return _strings_to_json(array.tolist(), as_base64=name.endswith("_bytes"))
    if array.dtype in (np.float16, np.float32):
        return shortest_decimals(array)
    return array.tolist()


def _strings_to_json(value: Any, as_base64: bool) -> Any:
    if isinstance(value, list):
        return [_strings_to_json(item, as_base64) for item in value]
    return {"b64": base64.b64encode(value).decode()} if as_base64 else value.decode(errors="replace")
