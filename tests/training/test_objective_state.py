"""The state of an objective: trained with, checkpointed, given back after a trial, left alone by validation."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from c2al_tf.objectives import GroupDRO
from c2al_tf.training import compilation, evaluate, train
from c2al_tf.training.checkpoint import Checkpoints
from c2al_tf.types import Array, member_of

from ..untuned import UNTUNED
from .killed import KillAt, KilledError

STEPS, BATCH = 45, 8  # losses are read, and checkpoints saved, after 20, 40 and 45 steps


def make_model() -> keras.Model:
    keras.utils.set_random_seed(0)
    x = keras.Input((3,), name="x")
    model = keras.Model({"x": x}, {"primary": keras.layers.Dense(1)(keras.layers.Dropout(0.2)(x))})
    model.compile(keras.optimizers.Adam(0.05))
    return model


def rows(skip: int = 0) -> tf.data.Dataset:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(STEPS * BATCH, 3)).astype("float32")
    young = (x[:, 0] > 1).astype("float32")
    labels = {"primary": (rng.random(len(x)) < 0.2 + 0.6 * young).astype("float32"), member_of("young"): young}
    return tf.data.Dataset.from_tensor_slices(({"x": x}, labels)).batch(BATCH).skip(skip).with_options(UNTUNED)


def values(model: keras.Model, objective: GroupDRO) -> list[Array]:
    variables = (*model.variables, *model.optimizer.variables, *objective.variables)
    return [np.array(variable) for variable in variables]


def assert_equal(ours: list[Array], expected: list[Array]) -> None:
    for a, b in zip(ours, expected, strict=True):
        np.testing.assert_array_equal(a, b)


def fit(**arguments) -> tuple[keras.Model, GroupDRO]:
    model, objective = make_model(), GroupDRO(["young"], eta=0.3)
    options = {"epochs": 2, "steps_per_epoch": STEPS, "jit_compile": False} | arguments
    train(model, lambda epoch, skip: rows(skip), objective, **options)
    return model, objective


def test_a_killed_run_ends_with_the_same_bits(tmp_path) -> None:
    whole = fit()
    assert np.array(whole[1].q)[0] != pytest.approx(0.5, abs=0.01)
    for epoch, step in ((0, 30), (1, 43)):
        with pytest.raises(KilledError):
            fit(callbacks=[KillAt(epoch, step)], checkpoints=tmp_path, checkpoint_steps=1)
        with np.load(max(tmp_path.iterdir())) as arrays:
            assert json.loads(arrays["position.json"])["step"] in (20, 40)
    assert_equal(values(*fit(checkpoints=tmp_path)), values(*whole))


def test_a_checkpoint_holds_it(tmp_path) -> None:
    model, objective = make_model(), GroupDRO(["young"])
    objective.log_q.assign([-1.0, -2.0])
    Checkpoints(model, tmp_path, objective=objective).save({})
    with np.load(next(tmp_path.iterdir())) as arrays:
        np.testing.assert_array_equal(arrays["objective:0:q"], [-1.0, -2.0])
    other = GroupDRO(["young"])
    Checkpoints(model, tmp_path, objective=other).restore()
    np.testing.assert_array_equal(other.log_q, [-1.0, -2.0])
    with pytest.raises(ValueError, match=r"of another model, optimizer or objective; they differ in .*objective:0:q"):
        Checkpoints(model, tmp_path, objective=GroupDRO(["young", "old"])).restore()


@pytest.mark.parametrize("jit_compile", [True, False])
def test_it_is_updated_after_each_step_alone(jit_compile: bool) -> None:
    """By the sums of the step's own forward pass; validation reads it."""
    model, objective = fit(epochs=1, validation=rows, jit_compile=jit_compile)
    batches = np.array([[np.sum(y[member_of("young")]), BATCH] for _, y in rows()])
    total = 1 + batches[:, 1].sum()
    np.testing.assert_allclose(objective.total_weight, total)
    np.testing.assert_allclose(objective.row_weights[0], 0.5 + batches[:, 0].sum(), rtol=1e-6)
    before = values(model, objective)
    assert evaluate(model, rows(), objective=objective)["loss"] > 0
    assert_equal(values(model, objective), before)


def test_a_trial_of_xla_gives_it_back(monkeypatch) -> None:
    monkeypatch.setattr(compilation, "WORTHWHILE_SECONDS", 0.0)
    monkeypatch.setattr(compilation, "_is_faster", lambda compiled, batch, num_steps: compiled(False)(*batch) is None)
    assert_equal(values(*fit(jit_compile="auto")), values(*fit()))
