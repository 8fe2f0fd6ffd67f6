"""Mutated requests: some hundreds, and 20,000."""

import pytest

from .fuzz import Fuzz


@pytest.mark.parametrize("count", [600, pytest.param(20_000, marks=pytest.mark.slow)])
def test_every_answer_is_proper_and_good_requests_stay_right(server, questions, count: int) -> None:
    fuzz = Fuzz(server, questions)
    fuzz.run(count)
    assert fuzz.findings == {}
    assert server.is_alive()
    assert (sum(fuzz.statuses.values()), fuzz.right) == (count, count // 10)
