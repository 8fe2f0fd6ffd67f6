from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from c2al_tf.optimizers import LazyAdam, RowWiseAdagrad, SparseAdagrad

STEPS, SIZE = 4, 30


def draw(size: int, seed: int) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Even rows (size,), their gradients (size, 3), and the gradient (3,) of a variable that is no table."""
    rng = np.random.default_rng(seed)
    rows = 2 * np.minimum(rng.geometric(0.1, size), 9)
    values, dense = rng.normal(size=(size, 3)), rng.normal(size=3)
    return tf.constant(rows), tf.constant(values, tf.float32), tf.constant(dense, tf.float32)


class Run:
    """A table and a dense variable under an optimizer."""

    def __init__(self, optimizer: keras.optimizers.Optimizer, num_rows: int, jit_compile: bool = False) -> None:
        rng = np.random.default_rng(0)
        self.variables = [keras.Variable(rng.normal(size=s), dtype="float32") for s in ((num_rows, 3), (3,))]
        self.optimizer = optimizer
        self.optimizer.build(self.variables)
        self.step = tf.function(self._step, jit_compile=jit_compile)

    def _step(self, rows: Any, values: Any, dense: Any) -> None:
        slices = tf.IndexedSlices(values, rows, self.variables[0].shape)
        self.optimizer.apply([slices, dense], self.variables)

    def values(self) -> list[np.ndarray]:
        return [variable.numpy() for variable in self.variables]


@pytest.mark.parametrize("make", [RowWiseAdagrad, LazyAdam])
@pytest.mark.parametrize("num_rows", [20, 500])
def test_batches_accumulated_are_one_batch(make: type, num_rows: int, duplicates: str, jit_compile: bool) -> None:
    arguments = {"duplicates": duplicates, "global_clipnorm": 0.5}
    accumulated = Run(make(0.1, gradient_accumulation_steps=STEPS, **arguments), num_rows, jit_compile)
    whole = Run(make(0.1, **arguments), num_rows)
    start = whole.values()
    for update in range(3):
        parts = [draw(SIZE, STEPS * update + number) for number in range(STEPS)]
        before = accumulated.values()
        for number, part in enumerate(parts):
            for a, b in zip(accumulated.values(), before, strict=True):
                np.testing.assert_array_equal(a, b, f"nothing changes before batch {number}")
            accumulated.step(*part)
        rows, values, dense = (tf.concat([part[i][None] for part in parts], 0) for i in range(3))
        whole.step(tf.reshape(rows, (-1,)), tf.reshape(values, (-1, 3)) / STEPS, tf.reduce_mean(dense, 0))
        for a, b in zip(accumulated.values(), whole.values(), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(accumulated.values()[0][1::2], start[0][1::2])


@pytest.mark.parametrize("num_rows", [20, 500])
def test_it_is_what_keras_does(num_rows: int) -> None:
    ours = Run(SparseAdagrad(0.1, gradient_accumulation_steps=2), num_rows)
    keras_s = Run(keras.optimizers.Adagrad(0.1, gradient_accumulation_steps=2), num_rows)
    for number in range(5):
        ours.step(*draw(SIZE, number))
        keras_s.step(*draw(SIZE, number))
    for a, b in zip(ours.values(), keras_s.values(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    assert int(ours.optimizer.iterations) == 2


def test_there_is_no_second_table() -> None:
    run = Run(RowWiseAdagrad(0.1, gradient_accumulation_steps=2), 500)
    run.step(*draw(SIZE, 0))
    assert max(np.prod(variable.shape) for variable in run.optimizer.variables) == 500
    assert tuple(run.optimizer._accumulators[0].values.shape) == (2, SIZE, 3)


def test_a_smaller_batch_is_filled_up_with_a_row_it_touched() -> None:
    """Row 0, which no batch touched, stays as it is, moments and all."""
    sizes = (SIZE, SIZE - 7)
    accumulated, whole = Run(LazyAdam(0.1, gradient_accumulation_steps=2), 500), Run(LazyAdam(0.1), 500)
    parts = [draw(size, number) for number, size in enumerate(sizes)]
    for part in parts:
        accumulated.step(*part)
    rows, values = (tf.concat([part[i] for part in parts], 0) for i in range(2))
    whole.step(rows, values / 2, (parts[0][2] + parts[1][2]) / 2)
    for a, b in zip(accumulated.values(), whole.values(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(accumulated.values()[0][0], Run(LazyAdam(), 500).values()[0][0])


def test_a_larger_batch_is_refused() -> None:
    run = Run(SparseAdagrad(gradient_accumulation_steps=2), 500)
    run.step(*draw(SIZE, 0))
    with pytest.raises(ValueError, match="the first batch must be the largest one. Received: 31 rows of .*after 30"):
        run.step(*draw(SIZE + 1, 1))


def test_a_batch_of_unknown_size_is_refused() -> None:
    run = Run(SparseAdagrad(gradient_accumulation_steps=2), 500)
    signature = [tf.TensorSpec([None], tf.int64), tf.TensorSpec([None, 3]), tf.TensorSpec([3])]
    with pytest.raises(ValueError, match="batch with drop_remainder=True, or pad the last one. Received: a gradient"):
        tf.function(run._step, input_signature=signature)(*draw(SIZE, 0))


def test_a_save_within_an_accumulation() -> None:
    """`save_own_variables` keeps the batches that wait; to go on from the variables alone is refused, not wrong."""
    run = Run(LazyAdam(0.1, gradient_accumulation_steps=3), 500)
    for number in range(4):
        run.step(*draw(SIZE, number))
    store: dict[str, Any] = {}
    run.optimizer.save_own_variables(store)
    resumed, alone = (Run(LazyAdam(0.1, gradient_accumulation_steps=3), 500) for _ in range(2))
    resumed.optimizer.load_own_variables(store)
    alone.optimizer.set_weights([variable.numpy() for variable in run.optimizer.variables])
    for variable, value in zip(resumed.variables, run.values(), strict=True):
        variable.assign(value)
    for number in range(4, 9):
        run.step(*draw(SIZE, number))
        resumed.step(*draw(SIZE, number))
    for a, b in zip(resumed.values(), run.values(), strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(ValueError, match="those of the first 1 were not saved: save after a multiple of"):
        alone.step(*draw(SIZE, 4))
