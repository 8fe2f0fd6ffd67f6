"""A second training of the same objects compiles nothing and changes no bit; nothing keeps a model alive."""

import gc
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf

from c2al_tf.config import TrainingConfig
from c2al_tf.losses import weighted_sum_of_tasks
from c2al_tf.training import make_optimizer, train

from ..untuned import UNTUNED

TABLES = TrainingConfig(learning_rate=0.05, table_optimizer="row_wise_adagrad")


def make_model(seed: int) -> keras.Model:
    """With state of all kinds: dropout's generator, moving statistics, two optimizers and compiled metrics."""
    keras.utils.set_random_seed(seed)
    ids = keras.Input((3,), dtype="int32", name="ids")
    h = keras.layers.Flatten()(keras.layers.Embedding(9, 4)(ids))
    h = keras.layers.BatchNormalization()(keras.layers.Dropout(0.3)(h))
    model = keras.Model({"ids": ids}, {task: keras.layers.Dense(1, name=task)(h) for task in ("primary", "young")})
    model.compile(make_optimizer(TABLES, 10), weighted_metrics={task: ["mae"] for task in ("primary", "young")})
    model.optimizer.build(model.trainable_variables)
    return model


class Counted:
    """An objective that counts how often Python calls it."""

    def __init__(self) -> None:
        self.calls, self.objective = 0, weighted_sum_of_tasks({"young": 0.3})

    def __call__(self, labels, logits, weights):
        self.calls += 1
        return self.objective(labels, logits, weights)


def rows() -> tf.data.Dataset:
    rng = np.random.default_rng(0)
    labels = {task: rng.integers(0, 2, 36) for task in ("primary", "young")}
    x = {"ids": rng.integers(0, 9, (36, 3)).astype("int32")}
    return tf.data.Dataset.from_tensor_slices((x, labels)).batch(8).with_options(UNTUNED)  # the last is smaller


def values(model: keras.Model) -> list[np.ndarray]:
    return [np.array(variable) for variable in (*model.variables, *model.optimizer.variables)]


@pytest.mark.parametrize("jit_compile", [pytest.param(True, marks=pytest.mark.slow), False])
def test_another_seed_is_trained_by_the_same_program(jit_compile: bool) -> None:
    objective = Counted()
    arguments = {"epochs": 2, "jit_compile": jit_compile, "steps_per_execution": 2, "validation": rows()}
    one, fresh = make_model(0), make_model(1)
    initial = values(fresh)
    train(one, rows(), objective, **arguments)
    calls = objective.calls
    for variable, value in zip((*one.variables, *one.optimizer.variables), initial, strict=True):
        variable.assign(value)
    again = train(one, rows(), objective, **arguments)
    assert objective.calls == calls > 0
    expected = train(fresh, rows(), objective, **arguments)
    assert objective.calls > calls
    assert again.epochs == expected.epochs
    for ours, theirs in zip(values(one), values(fresh), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_what_the_step_depends_on_is_compiled_anew() -> None:
    objective, model = Counted(), make_model(0)
    embedding = model.layers[1]
    calls = 0
    for change in (
        lambda: None,
        lambda: model.compile(keras.optimizers.Adam(0.1)),
        lambda: setattr(embedding, "trainable", False),
    ):
        change()
        before = embedding.get_weights()[0]
        train(model, rows(), objective, jit_compile=False)
        assert objective.calls > calls
        calls = objective.calls
        assert np.array_equal(embedding.get_weights()[0], before) == (not embedding.trainable)


@pytest.mark.parametrize("jit_compile", [pytest.param(True, marks=pytest.mark.slow), False])
def test_a_trained_model_is_freed(jit_compile: bool) -> None:
    objective, model = Counted(), make_model(0)
    train(model, rows(), objective, jit_compile=jit_compile, validation=rows())
    references = [weakref.ref(each) for each in (model, model.optimizer, *model.layers)]
    del model
    keras.backend.clear_session()
    gc.collect()
    assert [reference() for reference in references if reference() is not None] == []
