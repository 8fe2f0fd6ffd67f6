"""A run that begins with the schema, the cohorts and the weights of an earlier one."""

import dataclasses
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
from c2al_pipelines.run.arms import Arm, Choice
from c2al_pipelines.run.config import GivenCohort
from c2al_pipelines.run.folder import RunFolder, read_config
from c2al_pipelines.run.program import make_program
from c2al_pipelines.run.recipe import describe_training
from c2al_pipelines.run.rows import count_split
from c2al_pipelines.run.steps import prepare_run
from c2al_pipelines.run.warm_start import drift_of, with_earlier_cohorts
from c2al_pipelines.tuning.tune import check_tunable

from c2al_tf.cohorts import GIVEN
from c2al_tf.model import strip_auxiliary_heads


@pytest.fixture(scope="module")
def earlier(finished) -> RunFolder:
    return RunFolder(finished.path, read_config(finished.path / "config.json"))


@pytest.fixture(scope="module")
def config(earlier):
    """Of another day's rows."""
    ads = dataclasses.replace(earlier.config.data.synthetic_ads, seed=7, num_users=900)
    data = dataclasses.replace(earlier.config.data, synthetic_ads=ads)
    return dataclasses.replace(earlier.config, data=data, warm_start=earlier.path)


@pytest.fixture(scope="module")
def run(config, earlier, tmp_path_factory) -> RunFolder:
    """Prepared, and with the earlier discovery as if it were its own."""
    run = RunFolder.start(tmp_path_factory.mktemp("warm") / "run", with_earlier_cohorts(config))
    prepare_run(run)
    shutil.copy(earlier.path / "cohorts.json", run.path)
    return run


def test_schema_and_cohorts_are_the_earlier_ones(run, earlier) -> None:
    assert run.schema == earlier.schema
    assert [given.cohort() for given in run.config.cohorts.given] == [*earlier.cohorts]
    assert count_split(run, "train").rows == 30_000
    assert drift_of(dataclasses.replace(earlier, config=dataclasses.replace(earlier.config, warm_start=None))) == []


@pytest.mark.parametrize("arm", ["baseline", "c2al"])
def test_every_weight_is_the_one_that_the_earlier_model_ended_with(run, earlier, arm) -> None:
    """Those of the heads of cohorts, too."""
    trained = describe_training(run, arm)
    counts = count_split(run, "train", trained.tasks)
    program = make_program(run, 1, trained, counts, 10, tf.distribute.get_strategy())
    ended = keras.saving.load_model(earlier.model_file(1, arm), compile=False)
    for variable, value in zip(program.model.variables, ended.variables, strict=True):
        np.testing.assert_array_equal(variable, value)
    assert trained.digest != describe_training(earlier, arm).digest


def test_heads_of_other_cohorts_begin_anew(run, earlier) -> None:
    """An arm may choose others today; the primary model is the trained one."""
    arms = (*run.arms.values(), Arm("other", cohorts=Choice()))
    other = dataclasses.replace(arms[-1], cohorts=Choice(only="head"))
    now, before = (
        RunFolder(each.path, dataclasses.replace(each.config, arms=(*arms[:-1], arm)))
        for each, arm in ((run, other), (earlier, arms[-1]))
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("c2al_pipelines.run.warm_start._open", lambda path: before)
        patch.setattr(RunFolder, "model_file", lambda self, seed, arm: earlier.path / f"seeds/{seed}/c2al/model.keras")
        trained = describe_training(now, "other")
        counts = count_split(now, "train", trained.tasks)
        program = make_program(now, 1, trained, counts, 10, tf.distribute.get_strategy())
    ended = keras.saving.load_model(earlier.model_file(1, "c2al"), compile=False)
    for variable, value in zip(program.primary.variables, strip_auxiliary_heads(ended).variables, strict=True):
        np.testing.assert_array_equal(variable, value)
    assert [task.name for task in trained.tasks] == ["user_value_top_5"]


def test_drift_is_that_of_the_cohorts_in_use(earlier, monkeypatch) -> None:
    """With three of them the most divergent pair of all may be on another axis."""
    run = RunFolder(earlier.path, dataclasses.replace(earlier.config, warm_start=earlier.path))
    pair, *others = earlier.discovery.pairs
    other = next(p for p in others if not {*p.cohorts} <= {*pair.cohorts})
    given = dataclasses.replace(pair, axis=GIVEN)
    now = dataclasses.replace(earlier.discovery, pairs=(given, other))
    monkeypatch.setitem(vars(run), "discovery", now)
    before = dataclasses.replace(earlier.discovery, pairs=(dataclasses.replace(other, reasons={}), pair))
    opened = RunFolder(earlier.path, earlier.config)
    monkeypatch.setitem(vars(opened), "discovery", before)
    monkeypatch.setitem(vars(opened), "cohorts", pair.cohorts)
    monkeypatch.setattr("c2al_pipelines.run.warm_start._open", lambda path: opened)
    assert drift_of(run) == []


def test_what_cannot_be_begun_with_is_said_at_once(config, earlier, tmp_path) -> None:
    def refused(message: str, **changes: object) -> None:
        with pytest.raises(ValueError, match=message):
            with_earlier_cohorts(dataclasses.replace(config, **changes))

    refused("must be the folder of a run with trained models. Received: .*absent", warm_start=tmp_path / "absent")
    refused("needs the `model` that", model=dataclasses.replace(config.model, embedding_dim=8))
    kl = dataclasses.replace(config.cohorts, divergence="kl")
    refused("needs the `divergence` of .*, 'js'. Received: 'kl'", cohorts=kl)
    refused("seeds/2/baseline/model.keras is not there yet", seeds=3)
    arms = (Arm("baseline"), Arm("other", cohorts=Choice()))
    refused("has no arm `other`. It has: baseline, c2al", arms=arms)
    other = dataclasses.replace(GivenCohort.of(earlier.cohorts[0]), name="mine")
    refused(r"leave out `given`. Received: \['mine'\]", cohorts=dataclasses.replace(config.cohorts, given=(other,)))
    with pytest.raises(ValueError, match="searches with models that begin anew: leave out `warm_start`"):
        check_tunable(config)
