from pathlib import Path

import pytest
from c2al_pipelines.benchmarks import training_memory
from c2al_pipelines.benchmarks.training_memory import GOAL_MB, Trained, measure


def test_results_say_whether_the_limit_is_kept() -> None:
    for peak, reached in ((GOAL_MB - 1, True), (GOAL_MB + 1, False)):
        memory, rate = training_memory._results(Trained(2_000_000, 20.0, 700.0, peak), 1_000_000_000)
        assert memory.reached is reached
        assert memory.case == "2 M rows, 1.0 GB of TFRecord, one pass"
        assert (rate.ours, rate.unit) == (100_000, "rows/s")


def test_too_many_rows_for_the_disk(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"`rows` must be at most [\d,]+, for which the disk has room"):
        next(measure(10**12, folder=tmp_path))
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_quick_run_measures_and_leaves_nothing(tmp_path: Path) -> None:
    memory, rate = measure(training_memory.QUICK_ROWS, folder=tmp_path)
    assert 300 < memory.ours < GOAL_MB
    assert rate.ours > 0
    assert not list(tmp_path.iterdir())
