"""What a model starts from, and lambdas that fall over its training."""

import dataclasses
import hashlib
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from c2al_pipelines.run.arms import Arm, Choice
from c2al_pipelines.run.folder import RunFolder, read_config
from c2al_pipelines.run.program import DecayLambdas, make_program
from c2al_pipelines.run.recipe import describe_training
from c2al_pipelines.run.rows import count_split

from c2al_tf.model import strip_auxiliary_heads

ARMS = (
    Arm("baseline"),
    Arm("c2al", cohorts=Choice()),
    Arm("warm", start="baseline"),
    Arm("warm_c2al", cohorts=Choice(), start="c2al", reference="warm"),
    Arm("static", model={"attention": "static"}, start="baseline"),
    Arm("grouped", cohorts=Choice(), lambda_decay=True, training={"steps_per_execution": 4}),
)


@pytest.fixture(scope="module")
def run(finished) -> RunFolder:
    return RunFolder(finished.path, dataclasses.replace(read_config(finished.path / "config.json"), arms=ARMS))


def _program(run, name):
    trained = describe_training(run, name)
    counts = count_split(run, "train", trained.tasks)
    return make_program(run, 0, trained, counts, 10, tf.distribute.get_strategy())


@pytest.mark.parametrize(("name", "start"), [("warm", "baseline"), ("warm_c2al", "c2al")])
def test_a_warm_start_has_the_weights_of_the_arm_but_for_heads_of_cohorts(run, name, start) -> None:
    """The primary model's weights are the trained ones; heads of cohorts begin anew."""
    program = _program(run, name)
    trained = keras.saving.load_model(run.model_file(0, start), compile=False)
    primary = strip_auxiliary_heads(trained)
    for variable, value in zip(program.primary.variables, primary.variables, strict=True):
        np.testing.assert_array_equal(variable, value)
    assert len(program.model.layers) - len(program.primary.layers) == len(trained.layers) - len(primary.layers)
    for head in {layer.name for layer in program.model.layers} - {layer.name for layer in program.primary.layers}:
        begun, ended = (model.get_layer(head).get_weights()[0] for model in (program.model, trained))
        assert not np.array_equal(begun, ended)


def test_what_an_arm_starts_from_is_part_of_what_it_reads(run) -> None:
    digests = {name: describe_training(run, name).digest for name in ("baseline", "c2al", "warm", "warm_c2al")}
    assert len({*digests.values()}) == 4
    with pytest.raises(ValueError, match="`start` needs the same `model` as arm `baseline`"):
        describe_training(run, "static")
    with pytest.raises(ValueError, match="`lambda_decay` changes lambdas at each step"):
        describe_training(run, "grouped")


def test_models_keep_their_digests_over_versions(run) -> None:
    """A key that a later version adds changes no digest where it changes nothing."""
    read = {**dataclasses.asdict(run.config.model)}
    assert (read.pop("num_experts"), read.pop("cohort_layer")) == (0, None)
    training = dataclasses.asdict(run.config.training)
    for name in ("jit_compile", "checkpoint_steps", "keep_checkpoints", "steps_per_execution"):
        del training[name]
    nothing = {"cohorts": [], "lambdas": [], "labels": None, "objective": "sum", "frozen": None}
    told = nothing | {"frozen_at": "initial", "model": read, "training": training}
    expected = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
    assert describe_training(run, "baseline").digest == expected


def test_lambdas_fall_to_zero_by_a_cosine_also_after_a_resumption() -> None:
    """Two epochs of 4 steps: step 0, a quarter, half, and the last one."""
    variable = keras.Variable(0.0, trainable=False)
    decay = DecayLambdas({"tail": 2.0}, {"tail": variable}, 4, 2)
    found = []
    for epoch, step in ((0, 0), (0, 2), (1, 0), (1, 3)):
        decay.on_epoch_begin(epoch)
        decay.on_train_batch_begin(step)
        found.append(float(variable.numpy()))
    np.testing.assert_allclose(found, [2.0, 1 + np.cos(np.pi / 4), 1.0, 1 + np.cos(np.pi * 7 / 8)], rtol=1e-6)
