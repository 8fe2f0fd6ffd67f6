"""What a model's counts on the test rows cost again: only what is new."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from c2al_pipelines.run import evaluation
from c2al_pipelines.run.arms import Arm, Choice
from c2al_pipelines.run.config import DataConfig, RunConfig
from c2al_pipelines.run.evaluation import count_model, evaluate_arm
from c2al_pipelines.run.folder import RunFolder, save_array
from c2al_pipelines.run.recipe import describe_training

from c2al_tf.evaluation import count_arms, evaluate_by_cohort
from c2al_tf.schema import NumericFeature, Schema

ROWS = 500
rng = np.random.default_rng(0)
LABELS, LOGITS, GROUP = rng.integers(2, size=ROWS), rng.normal(size=ROWS), rng.integers(4, size=ROWS)
BOUGHT = rng.integers(2, size=ROWS)


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


@pytest.fixture
def two_labels(tmp_path: Path) -> RunFolder:
    """Two labels and two seeds; C2AL's logits are noisy for the second label alone."""
    Schema((NumericFeature("age", "log"),), ("click", "bought")).save(tmp_path / "schema.json")
    for seed in range(2):
        for arm, noise in (("baseline", 0.0), ("c2al", 3.0)):
            folder = tmp_path / "seeds" / str(seed) / arm
            folder.mkdir(parents=True)
            save_array(folder / "test_logits.npy", LOGITS + seed)
            save_array(folder / "test_bought_logits.npy", 2 * BOUGHT - 1 + noise * rng.normal(size=ROWS))
    arms = (Arm("baseline"), Arm("c2al", cohorts=Choice()), Arm("weighed", cohorts=Choice(), objective="reweighting"))
    return RunFolder(tmp_path, RunConfig("a run", DataConfig("census"), seeds=2, arms=arms))


def test_a_further_label_is_a_slice_that_was_named_beforehand(two_labels) -> None:
    of_both = dataclasses.replace(rows(a=GROUP == 0, b=GROUP == 1), more_labels={"bought": BOUGHT}, targeted=("a",))
    found = evaluate_arm(two_labels, "c2al", "baseline", [0, 1], of_both, ["a"])
    assert list(found.ne_diff["c2al"]) == ["all", "a", "b", "label bought", "label bought, a"]
    assert "label bought" in found.claims["c2al"].worse
    assert {*found.claims["c2al"].q_values} == {"b", "label bought, a"}, "these are judged together"
    logits = {
        arm: np.stack([np.load(two_labels.path / f"seeds/{seed}/{arm}/test_bought_logits.npy") for seed in range(2)])
        for arm in ("baseline", "c2al")
    }
    alone = evaluate_by_cohort(logits, BOUGHT, {}, progress=False)
    for bound in ("percent", "low", "high"):
        expected = getattr(alone.ne_diff["c2al"]["all"], bound)
        assert getattr(found.ne_diff["c2al"]["label bought"], bound) == pytest.approx(expected, rel=1e-12)


def test_an_objective_of_one_primary_task_is_refused_with_two_labels(two_labels) -> None:
    with pytest.raises(ValueError, match="Arm `weighed`: with several labels `objective` must be one of"):
        describe_training(two_labels, "weighed")
