from dataclasses import replace

import numpy as np
import pytest
from c2al_pipelines.benchmarks.serving_load.load import check_answered, closed_loop, total


def test_every_request_of_a_closed_loop_is_counted(server, questions) -> None:
    tally = closed_loop(server.grpc_port, questions, 0.2, clients=4, connections=2)
    assert tally.sent == tally.right == len(tally.latencies) >= 4
    assert check_answered(tally).rate() > 0


def test_answers_are_compared_unless_told_otherwise(server, questions) -> None:
    wrong = [replace(questions[0], expected={**questions[0].expected, "logits": np.full((1, 1), 9, np.float32)})]
    tally = closed_loop(server.grpc_port, wrong, 0.05, clients=2)
    assert tally.right == 0
    assert set(tally.wrong) == {tally.wrong[0]}
    with pytest.raises(RuntimeError, match="every request must be answered. Received: logits is"):
        check_answered(tally)
    assert closed_loop(server.grpc_port, wrong, 0.05, clients=2, check=False).wrong == []


def test_refusals_are_told_from_errors_and_tallies_add_up(server, questions) -> None:
    unknown = [replace(questions[0], model="other")]
    tally = closed_loop(server.grpc_port, unknown, 0.05, clients=1)
    assert tally.wrong[0].startswith("NOT_FOUND")
    assert total([tally, tally]).sent == 2 * tally.sent
