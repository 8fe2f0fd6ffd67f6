"""Publishers that are killed while a server follows."""

import pytest
from c2al_pipelines.benchmarks.serving_proofs import publish_kills


@pytest.mark.slow
@pytest.mark.parametrize("kills", [1, 20])
def test_the_served_version_is_always_a_whole_one(tmp_path, kills: int) -> None:
    verdict = publish_kills.measure(tmp_path, kills=kills)
    assert publish_kills.problems(verdict) == []
    assert verdict["versions_published"] >= 2 * kills + 1
    assert verdict["asked"] > 10 * kills
