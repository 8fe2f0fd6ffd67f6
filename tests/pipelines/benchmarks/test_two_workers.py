"""Two workers by the command: equal to one process, ended together, resumed together."""

import shutil

import numpy as np
import pytest
from c2al_pipelines.benchmarks import two_workers

STEPS = 60


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    path = tmp_path_factory.mktemp("workers") / "run"
    two_workers.prepare(path, STEPS)
    return path


@pytest.fixture(scope="module")
def unbroken(prepared):
    path = shutil.copytree(prepared, prepared.with_name("unbroken"))
    two_workers.finish(path, 2)
    return path


@pytest.mark.slow
def test_as_one_process(prepared, unbroken) -> None:
    path = shutil.copytree(prepared, prepared.with_name("alone"))
    two_workers.finish(path, 1)
    assert two_workers.relative_distance(two_workers.weights(unbroken), two_workers.weights(path)) < 1e-5
    assert two_workers.loss(unbroken) == pytest.approx(two_workers.loss(path), rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_worker_ends_the_other_and_both_resume(prepared, unbroken, victim) -> None:
    path = shutil.copytree(prepared, prepared.with_name(f"killed_{victim}"))
    end = two_workers.kill_one(path, victim)
    assert end["status"] == 1
    assert end["message"].startswith("c2al: Another worker is gone, so this one ends, too")
    assert end["message"].endswith("The same command, on all workers, goes on from the last checkpoint")
    two_workers.finish(path, 2)
    for ours, expected in zip(two_workers.weights(path), two_workers.weights(unbroken), strict=True):
        np.testing.assert_array_equal(ours, expected)
    assert not list(path.rglob("checkpoints"))
