"""Requests with known answers: rows of an export's warm-up requests, and the answers of its model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from c2al_serving.servable.loading import read_warmup_logs

from c2al_tf.protocol import messages
from c2al_tf.protocol.tensors import fill_proto, from_proto
from c2al_tf.saved_model import SavedModel
from c2al_tf.types import Array, Columns

MAX_ERROR = 1e-5
"""Bound on an answer's error, relative above 1: rounding depends on the batch that a row is in."""


@dataclass(frozen=True)
class Question:
    """A PredictRequest.

    Args:
        signature: The signature it calls.
        inputs: Its inputs.
        outputs: The outputs it asks for; all of them if empty.
        expected: The right outputs.
        model: The model that is asked.
    """

    signature: str
    inputs: Columns
    outputs: tuple[str, ...] = ()
    expected: Mapping[str, Array] = field(default_factory=dict)
    model: str = "default"

    def request(self) -> Any:
        """The message."""
        request = messages.PredictRequest(output_filter=self.outputs)
        request.model_spec.name, request.model_spec.signature_name = self.model, self.signature
        for name, values in self.inputs.items():
            fill_proto(request.inputs[name], values)
        return request

    def serialized(self) -> bytes:
        """The message's bytes."""
        return bytes(self.request().SerializeToString(deterministic=True))

    def answered_by(self, model: SavedModel) -> "Question":
        """The same question, which expects the answer of a model."""
        expected = model.run(self.inputs, self.signature, self.outputs)
        return replace(self, expected=expected)

    def problem(self, outputs: Mapping[str, Any]) -> str:
        """What is wrong with an answer's outputs; empty if they are right."""
        if outputs.keys() != self.expected.keys():
            return f"outputs {sorted(outputs)} instead of {sorted(self.expected)}"
        for name, expected in self.expected.items():
            got = np.asarray(outputs[name])
            if got.shape != expected.shape:
                return f"{name} has shape {got.shape} instead of {expected.shape}"
            if not np.allclose(got, expected, rtol=MAX_ERROR, atol=MAX_ERROR):
                return f"{name} is {got.ravel()[:3]} instead of {expected.ravel()[:3]}"
        return ""


@dataclass
class Marker:
    """Compares answers with the expected ones; a right answer is compared once.

    Args:
        questions: The questions.
    """

    questions: Sequence[Question]
    _right: set[tuple[int, bytes]] = field(default_factory=set)

    def problem(self, number: int, response: bytes) -> str:
        """What is wrong with a serialized PredictResponse to the question of that number; empty if it is right."""
        if (number, response) in self._right:
            return ""
        problem = self.questions[number].problem(read_outputs(messages.PredictResponse.FromString(response)))
        if not problem and len(self._right) < 10_000:
            self._right.add((number, response))
        return problem


def read_outputs(response: Any) -> dict[str, Array]:
    """The outputs of a PredictResponse."""
    return {name: from_proto(proto) for name, proto in response.outputs.items()}


def read_questions(version: Path, *, rows: int = 1, count: int = 4) -> list[Question]:
    """Questions made from a version's warm-up requests, for each of its signatures in turn.

    Args:
        version: The version folder.
        rows: Rows of a question.
        count: Questions for each signature.

    Raises:
        ValueError: If it has no warm-up requests.
    """
    largest: dict[str, Columns] = {}
    for request in (log.predict_log.request for log in read_warmup_logs(version) if log.HasField("predict_log")):
        columns = {name: from_proto(proto) for name, proto in request.inputs.items()}
        signature = request.model_spec.signature_name
        if _num_rows(columns) > _num_rows(largest.get(signature, {})):
            largest[signature] = columns
    if not largest:
        raise ValueError(f"{version}: warm-up requests are needed, of which questions are made. Received: none")
    with SavedModel(version) as model:
        return [
            Question(signature, _take(columns, np.arange(number * rows, (number + 1) * rows))).answered_by(model)
            for number in range(count)
            for signature, columns in largest.items()
        ]


def _num_rows(columns: Columns) -> int:
    return len(next(iter(columns.values()))) if columns else 0


def _take(columns: Columns, rows: Array) -> Columns:
    return {name: values[rows % len(values)] for name, values in columns.items()}
