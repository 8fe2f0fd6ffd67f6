"""Overload, for seconds and for a minute."""

import pytest
from c2al_pipelines.benchmarks.serving_load.questions import read_questions
from c2al_pipelines.benchmarks.serving_proofs import overload


def test_requests_are_answered_rightly_or_refused(server, base_path) -> None:
    """How many are refused is for the machine to say; that those beyond a bound are, the server's tests show."""
    questions = read_questions(base_path / "1", rows=64)
    verdict = overload.measure(server, questions, seconds=1, multiple=5, processes=1, calm_seconds=0.5)
    assert (verdict["wrong_examples"], verdict["wrong_after"]) == ([], 0)
    assert verdict["offered"] > 0


@pytest.mark.slow
def test_a_minute_of_it(tmp_path) -> None:
    overload.main(output=tmp_path / "overload.json")
