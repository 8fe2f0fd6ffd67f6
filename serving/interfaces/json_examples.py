"""The JSON of TensorFlow Serving's REST API to tf.Examples, and of their results: `:classify` and `:regress`."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..protocol.errors import RequestError
from ..protocol.messages import Example
from .json_memory import MAX_SHOWN, Room, shown
from .json_tensors import is_base64, shortest_decimals, to_bytes

CONTEXT, EXAMPLES = "context", "examples"
_COPIES = 4
"""Of an example: as it is serialized, in the request, as the model's input, and TensorFlow's."""
_INT64 = range(-(2**63), 2**63)


def fill_input(given: Any, body: Mapping[str, Any], room: Room) -> None:
    """Writes the examples of a request into an Input.

    Numbers with a fraction or an exponent become floats, other numbers, true and false integers, strings and
    `{"b64": ...}` bytes; the values of a feature are of one kind.

    Args:
        given: The message to fill.
        body: The parsed request: `examples`, a list of objects, and maybe `context`, an object with features for all.
        room: The memory that the examples and their copies may take.

    Raises:
        RequestError: If the JSON has another form, or there is too much of it.
    """
    rows = body.get(EXAMPLES)
    if not isinstance(rows, list) or not rows:
        raise RequestError(
            f"JSON object must have {EXAMPLES!r}, a list of at least one example. Received: {shown(sorted(body))}"
        )
    kind = "example_list_with_context" if CONTEXT in body else "example_list"
    listed = getattr(given, kind)
    listed.examples.extend(_to_example(row, room) for row in rows)
    if CONTEXT in body:
        listed.context = _to_example(body[CONTEXT], room)


def write_classifications(result: Any) -> dict[str, Any]:
    """The response with a ClassificationResult: for each example its labels, each with its score."""
    return {
        "results": [
            [list(pair) for pair in zip((each.label for each in row.classes), _scores(row), strict=True)]
            for row in result.classifications
        ]
    }


def write_regressions(result: Any) -> dict[str, Any]:
    """The response with a RegressionResult: for each example its value."""
    return {"results": shortest_decimals(np.array([each.value for each in result.regressions], np.float32))}


def _scores(row: Any) -> list[float]:
    return shortest_decimals(np.array([each.score for each in row.classes], np.float32))


def _to_example(row: Any, room: Room) -> bytes:
    if not isinstance(row, dict):
        raise RequestError(f"Example must be JSON object but got JSON {shown(row)}")
    example = Example()
    for name, values in row.items():
        feature = example.features.feature[name]
        for value in values if isinstance(values, list) else [values]:
            _add(name[:MAX_SHOWN], feature, value)
    serialized: bytes = example.SerializeToString()
    room.take(_COPIES * len(serialized), "`examples`")
    return serialized


def _add(name: str, feature: Any, value: Any) -> None:
    kind = _kind(name, value)
    if feature.WhichOneof("kind") not in (None, kind):
        expected = feature.WhichOneof("kind").removesuffix("_list")
        raise RequestError(
            f"Unexpected element type in feature: {name} expecting type: {expected}. Received: {shown(value)}"
        )
    getattr(feature, kind).value.append(to_bytes(name, value) if kind == "bytes_list" else value)


def _kind(name: str, value: Any) -> str:
    if isinstance(value, str) or is_base64(value):
        return "bytes_list"
    if isinstance(value, float):
        return "float_list"
    if isinstance(value, int):  # so are True and False
        if value not in _INT64:
            raise RequestError(f"Feature: {name} has element {value}. Only int64 is supported.")
        return "int64_list"
    raise RequestError(f"Feature: {name} has element with unexpected JSON type: {shown(value)}")
