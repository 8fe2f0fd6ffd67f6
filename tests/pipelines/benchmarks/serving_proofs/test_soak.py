"""Half load, for seconds and for minutes."""

import pytest
from c2al_pipelines.benchmarks.serving_proofs import soak


def test_half_load_is_answered(server, questions) -> None:
    verdict = soak.measure(server, questions, periods=2, period_seconds=0.5, calm_seconds=0.5)
    assert [period["examples"] for period in verdict["periods"]] == [[], []]
    assert all(period["right"] > 0 for period in verdict["periods"])


@pytest.mark.slow
def test_ten_minutes_of_it(tmp_path) -> None:
    soak.main(output=tmp_path / "soak.json")
