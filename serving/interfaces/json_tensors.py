"""The JSON of TensorFlow Serving's REST API to arrays and back: rows (`instances`) and columns (`inputs`)."""

import base64
import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from c2al_tf.protocol.tensors import dtype_name
from c2al_tf.saved_model import TensorSpec

from ..protocol.errors import RequestError
from .json_memory import shown

ROWS, COLUMNS = "instances", "inputs"
_MAX_RANK = 32
_JSON_TYPES: dict[str, set[type]] = {"O": {str, dict}, "f": {int, float}, "i": {int}, "u": {int}, "b": {bool}}
_ABSENT = {"O": '. For what is not there send ""', "f": ". For what is not there send NaN"}


def read_inputs(body: Mapping[str, Any], specs: Mapping[str, TensorSpec]) -> dict[str, NDArray[Any]]:
    """The arrays of a predict request, with the dtypes that the inputs of the signature declare.

    As in the real server, columns may have other names beside those of the inputs, rows may not.

    Raises:
        RequestError: If the JSON has another form, or a value another type than declared.
    """
    if (ROWS in body) == (COLUMNS in body):
        raise RequestError(f"JSON object must have either {ROWS!r} or {COLUMNS!r}. Received: {shown(sorted(body))}")
    values = _columns_of_rows(body[ROWS], specs) if ROWS in body else _columns(body[COLUMNS], specs)
    return {name: _to_array(name, value, specs[name]) for name, value in values.items()}


def write_outputs(outputs: Mapping[str, NDArray[Any]], as_rows: bool) -> dict[str, Any]:
    """The response to a predict request; a single output stands without its name."""
    values = {name: _to_json(name, array) for name, array in outputs.items()}
    if as_rows and len({array.shape[:1] for array in outputs.values()} | {()}) != 2:
        raise RequestError(f"The outputs have no common batch size, so they cannot be rows: use {COLUMNS!r}.")
    if len(values) == 1 or not as_rows:
        return {"predictions" if as_rows else "outputs": values if len(values) > 1 else next(iter(values.values()))}
    return {"predictions": [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]}


def _columns(value: Any, specs: Mapping[str, TensorSpec]) -> dict[str, Any]:
    if not isinstance(value, dict) or is_base64(value):
        return {_only_input(specs): value}
    if missing := [name for name in specs if name not in value]:
        raise RequestError(f"Missing named input: {', '.join(missing)} in {COLUMNS!r} object.")
    return {name: value[name] for name in specs}


def _columns_of_rows(rows: Any, specs: Mapping[str, TensorSpec]) -> dict[str, Any]:
    if not isinstance(rows, list) or not rows:
        raise RequestError(f"{ROWS!r} must be a list of at least one row.")
    if not isinstance(rows[0], dict) or is_base64(rows[0]):
        return {_only_input(specs): rows}
    for number, row in enumerate(rows):
        if not isinstance(row, dict) or row.keys() != specs.keys():
            raise RequestError(f"{ROWS!r}: row {number} must have the keys {', '.join(specs)}. Received: {shown(row)}")
    return {name: [row[name] for row in rows] for name in specs}


def _only_input(specs: Mapping[str, TensorSpec]) -> str:
    if len(specs) != 1:
        raise RequestError(f"The signature has {len(specs)} inputs, so each value needs its name: {', '.join(specs)}")
    return next(iter(specs))


def _to_array(name: str, value: Any, spec: TensorSpec) -> NDArray[Any]:
    shape, leaves = _flatten(name, value)
    kind, dtype = spec.dtype.kind, dtype_name(spec.dtype)
    for wrong in set(map(type, leaves)) - _JSON_TYPES.get(kind, set()):
        leaf = next(leaf for leaf in leaves if type(leaf) is wrong)
        absent = _ABSENT.get(kind, "") if leaf is None else ""
        raise RequestError(f"{name}: JSON Value: {shown(leaf)} is not of expected type: {dtype}{absent}")
    try:
        with np.errstate(over="raise"):
            values = [to_bytes(name, leaf) for leaf in leaves] if kind == "O" else leaves
            return np.array(values, spec.dtype).reshape(shape)
    except (OverflowError, FloatingPointError) as error:
        raise RequestError(f"{name}: a value is out of the range of {dtype}") from error


def _flatten(name: str, value: Any) -> tuple[list[int], list[Any]]:
    shape, leaves = list[int](), [value]
    while list in (types := set(map(type, leaves))):
        sizes = {len(leaf) for leaf in leaves} if len(types) == 1 else set()
        if len(sizes) != 1:
            raise RequestError(f"{name}: lists at depth {len(shape)} must have one length, and no values beside them.")
        if len(shape) == _MAX_RANK:
            raise RequestError(f"{name}: lists may be nested at most {_MAX_RANK} deep.")
        shape.extend(sizes)
        leaves = list(itertools.chain.from_iterable(leaves))
    return shape, leaves


def is_base64(value: Any) -> bool:
    """Whether a JSON value is `{"b64": "..."}`."""
    return isinstance(value, dict) and value.keys() == {"b64"} and isinstance(value["b64"], str)


def to_bytes(name: str, value: Any) -> bytes:
    """The bytes of a JSON string or `{"b64": "..."}`, with or without padding; `name` is for messages."""
    if isinstance(value, str):
        return value.encode(errors="surrogatepass")
    if not is_base64(value):
        raise RequestError(f"{name}: JSON Value: {shown(value)} is not of expected type: string")
    try:
        return base64.b64decode(value["b64"] + "=" * (-len(value["b64"]) % 4), validate=True)
    except ValueError as error:
        raise RequestError(f"{name}: Unable to base64 decode: {error}") from error


def _to_json(name: str, array: NDArray[Any]) -> Any:
    if array.dtype.kind == "O":
        as_text = np.frompyfunc(lambda value: value.decode(errors="replace"), 1, 1)
        as_base64 = np.frompyfunc(lambda value: {"b64": base64.b64encode(value).decode()}, 1, 1)
        return np.asarray((as_base64 if name.endswith("_bytes") else as_text)(array), object).tolist()
    if array.dtype in (np.float16, np.float32):  # by way of the shortest decimal: 0.2 for 0.20000000298023224
        return array.astype(str).astype(np.float64).tolist()
    return array.tolist()
