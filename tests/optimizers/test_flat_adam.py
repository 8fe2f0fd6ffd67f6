import functools
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from c2al_tf.optimizers import FlatAdam, flat_adam

SHAPES = [(), (3,), (5, 2), (2, 3, 2)]


def variables() -> list[keras.Variable]:
    rng = np.random.default_rng(0)
    return [keras.Variable(rng.normal(size=shape), dtype="float32") for shape in SHAPES]


def gradients(step: int) -> list[tf.Tensor]:
    """The third one is of four rows of a table."""
    rng = np.random.default_rng(step + 1)
    return [tf.constant(rng.normal(size=shape), tf.float32) for shape in (*SHAPES[:2], (4, 2), *SHAPES[3:])]


def apply(optimizer: keras.optimizers.Optimizer, jit_compile: bool, missing: int | None = None) -> list[np.ndarray]:
    """The weights after four steps; the table's row 1 occurs three times in each."""
    weights = variables()
    optimizer.build(weights)

    @tf.function(jit_compile=jit_compile)
    def update(found: list[tf.Tensor], present: tuple[int, ...]) -> None:
        rows = tf.IndexedSlices(found[2], tf.constant([1, 4, 1, 1]), tf.constant([5, 2]))
        given = [*found[:2], rows, *found[3:]]
        optimizer.apply([given[i] for i in present], [weights[i] for i in present])

    for step in range(4):
        update(gradients(step), tuple(i for i in range(len(SHAPES)) if not (i == missing and step == 1)))
    return [np.asarray(weight) for weight in weights]


@functools.cache
def by_keras() -> list[np.ndarray]:
    return apply(keras.optimizers.Adam(0.1), False)


@pytest.mark.parametrize("most", [2**20, 5, 0])
def test_the_numbers_are_those_of_keras_adam(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one vector, in one for the small and others for the large weights, in one for each."""
    monkeypatch.setattr(flat_adam, "MOST_ELEMENTS", most)
    for ours, expected in zip(apply(FlatAdam(0.1), False), by_keras(), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    "arguments", [{"clipnorm": 0.5}, {"global_clipnorm": 0.5}, {"use_ema": True, "ema_momentum": 0.5}]
)
def test_with_what_all_keras_optimizers_take(arguments: dict) -> None:
    ours, expected = FlatAdam(0.1, **arguments), keras.optimizers.Adam(0.1, **arguments)
    for mine, keras_s in zip(apply(ours, True), apply(expected, False), strict=True):
        np.testing.assert_allclose(mine, keras_s, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("missing", [0, 2])
def test_a_weight_without_gradient_keeps_its_moments(missing: int) -> None:
    ours, expected = (apply(o, False, missing) for o in (FlatAdam(0.1), keras.optimizers.Adam(0.1)))
    for mine, keras_s in zip(ours, expected, strict=True):
        np.testing.assert_allclose(mine, keras_s, rtol=1e-6, atol=1e-7)


def test_a_third_of_the_operations() -> None:
    def count(optimizer: keras.optimizers.Optimizer) -> int:
        weights = [keras.Variable(np.ones((3, 2)), dtype="float32") for _ in range(30)]
        optimizer.build(weights)
        update = tf.function(lambda: optimizer.apply([tf.ones((3, 2))] * 30, weights), autograph=False)
        return len(update.get_concrete_function().graph.get_operations())

    assert count(FlatAdam()) < 0.35 * count(keras.optimizers.Adam())


def test_saved_and_loaded_it_goes_on(tmp_path: Path) -> None:
    x, y = np.ones((8, 3), np.float32), np.ones((8, 1), np.float32)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2), keras.layers.Dense(1)])
    model.compile(FlatAdam(0.1, beta_1=0.8), "mse", jit_compile=False)
    model.fit(x, y, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.optimizer.get_config() == model.optimizer.get_config()
    for each in (model, loaded):
        each.fit(x, y, verbose=0)
    for ours, theirs in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_amsgrad_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"`amsgrad` must be False. Received: amsgrad=True; use `keras.optimizers.Adam`"
    ):
        FlatAdam(amsgrad=True)


def test_plain_tensorflow_variables_one_without_gradient() -> None:
    """By hand: the first step of Adam is the learning rate, against the sign of the gradient."""
    weights = [tf.Variable([1.0, 2.0]), tf.Variable([3.0])]
    optimizer = FlatAdam(0.1)
    optimizer.build(weights)
    optimizer.apply([tf.constant([5.0, -5.0])], weights[:1])
    np.testing.assert_allclose(weights[0], [0.9, 2.1], rtol=1e-5)
    np.testing.assert_array_equal(weights[1], [3.0])
