"""What the table says of measurements: rates, floors and their sum."""

import pytest
from c2al_pipelines.benchmarks import dhen_peak
from c2al_pipelines.benchmarks.dhen_floor import Cost


def test_the_step_stands_beside_the_peak_and_the_sum_of_the_floors() -> None:
    measured = {"step": [20.0, 30.0, 40.0], "peak": [1e9] * 3, "a": [4.0] * 3, "b": [8.0] * 3}
    costs = {"a": Cost(9_000_000, 1_000_000), "b": Cost(0, 3_000_000)}
    floors = {"a": ("arithmetic", [1.0, 2.0, 3.0]), "b": ("memory", [10.0, 20.0, 30.0])}
    peak, step, a, b = dhen_peak._results("case", measured, costs, floors, quick=False)
    assert (peak.ours, peak.peer, peak.unit) == (pytest.approx(0.3), pytest.approx(1.0), "GFLOP/s")
    assert (step.ours, step.peer, step.unit, step.note) == (30.0, 22.0, "ms", "0.01 GFLOP, 4.0 MB")
    assert step.ratio == pytest.approx(22 / 30)
    assert step.reached
    assert (a.ours, a.peer, a.peer_name, a.ratio) == (4.0, 2.0, "floor (arithmetic)", 0.5)
    assert (b.case, b.peer_name, b.note) == ("case, b", "floor (memory)", "0.00 GFLOP, 3.0 MB")
