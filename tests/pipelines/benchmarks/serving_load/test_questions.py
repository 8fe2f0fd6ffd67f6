import dataclasses

import numpy as np
import pytest
from c2al_pipelines.benchmarks.serving_load.questions import Marker, read_questions

from c2al_tf.protocol import messages
from c2al_tf.protocol.tensors import fill_proto


def response(outputs):
    message = messages.PredictResponse()
    for name, values in outputs.items():
        fill_proto(message.outputs[name], values)
    return message.SerializeToString()


def test_both_signatures_give_a_row_the_same_answer(questions):
    assert {question.signature for question in questions[:2]} == {"serving_default", "serialized_examples"}
    for columns, examples in zip(questions[::2], questions[1::2], strict=True):
        assert examples.problem(columns.expected) == ""
    assert questions[0].problem(questions[2].expected).startswith("logits is")  # other rows have other answers


def test_a_wrong_answer_is_told(questions):
    marker, right = Marker(questions), questions[0].expected
    assert marker.problem(0, response(right)) == marker.problem(0, response(right)) == ""
    assert "instead of" in marker.problem(2, response(right))
    assert "logits is" in marker.problem(0, response({**right, "logits": right["logits"] + np.float32(1e-3)}))
    assert "shape (2, 1)" in marker.problem(0, response({**right, "logits": np.ones((2, 1), np.float32)}))
    assert "outputs ['logits']" in marker.problem(0, response({"logits": right["logits"]}))


def test_rows_and_chosen_outputs(base_path):
    question = read_questions(base_path / "1", rows=5, count=1)[0]
    assert question.expected["logits"].shape == (5, 1)
    alone = dataclasses.replace(question, outputs=("logits",))
    assert alone.request().output_filter == ["logits"]


def test_warmup_requests_are_needed(tmp_path):
    with pytest.raises(ValueError, match="warm-up requests are needed, of which questions are made. Received: none"):
        read_questions(tmp_path)
