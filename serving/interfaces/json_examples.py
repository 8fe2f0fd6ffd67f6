"""The JSON of TensorFlow Serving's REST API to tf.Examples, and of their results: `:classify` and `:regress`."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from c2al_tf.protocol.messages import Example

from ..protocol.errors import RequestError
from .json_memory import MAX_SHOWN, shown
from .json_tensors import to_bytes

AS_FLOAT = "In JSON examples a number without a fraction is an int64: for a float send 10.0, not 10."
_CONTEXT, _EXAMPLES = "context", "examples"
_KINDS = {str: "bytes_list", dict: "bytes_list", float: "float_list", int: "int64_list", bool: "int64_list"}


def fill_input(given: Any, body: Mapping[str, Any]) -> None:
    """Writes the `examples` of a request, and `context`, whose features are for all of them, into an Input.

    Numbers with a fraction or an exponent become floats, other numbers, true and false integers, strings and
    `{"b64": ...}` bytes; the values of a feature are of one kind.

    Raises:
        RequestError: If the JSON has another form.
    """
    rows = body.get(_EXAMPLES)
    if not isinstance(rows, list) or not rows:
        raise RequestError(f"JSON object must have {_EXAMPLES!r}, a list of at least one example.")
    listed = given.example_list_with_context if _CONTEXT in body else given.example_list
    listed.examples.extend(map(_to_example, rows))
    if _CONTEXT in body:
        listed.context = _to_example(body[_CONTEXT])


def write_classifications(result: Any) -> dict[str, Any]:
    """The response with a ClassificationResult: for each example its labels, each with its score."""
    return {"results": [[[c.label, _decimal(c.score)] for c in row.classes] for row in result.classifications]}


def write_regressions(result: Any) -> dict[str, Any]:
    """The response with a RegressionResult: for each example its value."""
    return {"results": [_decimal(each.value) for each in result.regressions]}


def _decimal(value: float) -> float:
    return float(str(np.float32(value)))  # 0.2 for 0.20000000298023224


def _to_example(row: Any) -> bytes:
    if not isinstance(row, dict):
        raise RequestError(f"Example must be JSON object but got JSON {shown(row)}")
    example = Example()
    for name, content in row.items():
        values, said = content if isinstance(content, list) else [content], name[:MAX_SHOWN]
        kinds = {_KINDS.get(type(value), "") for value in values}
        if "" in kinds:
            wrong = next(value for value in values if type(value) not in _KINDS)
            absent = '. For what is not there send "" or NaN, or no such feature' if wrong is None else ""
            raise RequestError(f"Feature: {said} has element with unexpected JSON type: {shown(wrong)}{absent}")
        if len(kinds) > 1:
            raise RequestError(f"Unexpected element type in feature: {said}. Received: {shown(values)}. {AS_FLOAT}")
        feature = example.features.feature[name]
        for kind in kinds:
            filled = [to_bytes(said, value) for value in values] if kind == "bytes_list" else values
            try:
                getattr(feature, kind).value.extend(filled)
            except ValueError as error:
                raise RequestError(f"Feature: {said} must be of int64. Received: {shown(values)}") from error
    return example.SerializeToString()
