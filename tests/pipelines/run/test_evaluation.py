"""What a model's counts on the test rows cost again: only what is new."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from c2al_pipelines.run import evaluation
from c2al_pipelines.run.config import DataConfig, RunConfig
from c2al_pipelines.run.evaluation import count_model
from c2al_pipelines.run.folder import RunFolder, save_array

from c2al_tf.evaluation import count_arms

ROWS = 500
rng = np.random.default_rng(0)
LABELS, LOGITS, GROUP = rng.integers(2, size=ROWS), rng.normal(size=ROWS), rng.integers(4, size=ROWS)


def rows(**slices) -> evaluation.TestRows:
    return evaluation.TestRows(LABELS, None, None, slices, {}, "version")


@pytest.fixture
def counted(monkeypatch) -> list[list[str]]:
    """The slices of each call to `count_arms`, which does its work."""
    calls = []

    def count(logits, labels, slices, **settings):
        calls.append([*slices])
        return count_arms(logits, labels, slices, **settings)

    monkeypatch.setattr(evaluation, "count_arms", count)
    return calls


def test_a_new_slice_costs_itself_alone(counted, tmp_path: Path) -> None:
    run = RunFolder(tmp_path, RunConfig("a run", DataConfig("census")))
    (tmp_path / "seeds" / "0" / "arm").mkdir(parents=True)
    save_array(tmp_path / "seeds" / "0" / "arm" / "test_logits.npy", LOGITS)
    few, many = rows(a=GROUP == 0, b=GROUP == 1), rows(c=GROUP == 2, b=GROUP == 1, a=GROUP == 0)
    changed, later = rows(b=GROUP == 3, c=GROUP == 2), dataclasses.replace(few, version="later")
    for each in (few, many, few, many, changed, later):
        found = count_model(run, 0, "arm", each)
        expected = count_arms({"model": LOGITS}, LABELS, each.slices, exact=True)
        for field in dataclasses.fields(expected):
            np.testing.assert_array_equal(getattr(found, field.name), getattr(expected, field.name))
    assert counted == [["a", "b"], ["c"], ["b"], ["a", "b"]]
    save_array(tmp_path / "seeds" / "0" / "arm" / "test_logits.npy", -LOGITS)
    count_model(run, 0, "arm", later)
    assert counted[-1] == ["a", "b"], "another model's counts are not taken for its own"
