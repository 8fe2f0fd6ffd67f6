"""Versions that take each other's place under load."""

import shutil

import pytest
from c2al_pipelines.benchmarks.serving_proofs import swap


def test_the_first_request_of_a_kind_waits_for_nothing_to_be_built(base_path, tmp_path) -> None:
    """An executor that is built on request takes as long as dozens of them; the goal of 2 is for a quiet machine."""
    shutil.copytree(base_path, tmp_path / "served")
    verdict = swap.measure(tmp_path / "served", swaps=3, rate=50, steady_seconds=2)
    assert verdict["wrong"] == []
    assert {kind: ratios for kind, ratios in verdict["kinds"].items() if ratios["first_to_steady_median"] > 10} == {}


@pytest.mark.slow
def test_twenty_swaps(tmp_path) -> None:
    swap.main(output=tmp_path / "swap.json")
