"""Versions that take each other's place under load."""

import shutil

import pytest
from c2al_pipelines.benchmarks.serving_proofs import swap


def test_each_kind_of_request_is_answered_rightly_by_every_version(base_path, tmp_path) -> None:
    shutil.copytree(base_path, tmp_path / "served")
    verdict = swap.measure(tmp_path / "served", swaps=2, rate=50, steady_seconds=0.5)
    assert verdict["wrong"] == []
    assert len(verdict["kinds"]) == 5
    assert all(ratios["first_to_steady_median"] > 0 for ratios in verdict["kinds"].values())


@pytest.mark.slow
def test_twenty_swaps(tmp_path) -> None:
    swap.main(output=tmp_path / "swap.json")
