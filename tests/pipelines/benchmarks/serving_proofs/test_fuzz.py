"""Mutated requests, some hundreds and 20,000."""

import pytest
from c2al_pipelines.benchmarks.serving_proofs import fuzz


@pytest.mark.parametrize("count", [600, pytest.param(20_000, marks=pytest.mark.slow)])
def test_every_answer_is_proper_and_good_requests_stay_right(server, questions, count: int) -> None:
    verdict = fuzz.Fuzz(server, questions).run(count)
    assert fuzz.problems(verdict) == []
    assert (verdict["requests"], verdict["good_requests_right"]) == (count, count // 10)
