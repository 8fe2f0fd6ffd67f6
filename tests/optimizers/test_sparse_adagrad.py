import keras
import numpy as np
import pytest

from c2al_tf.optimizers import SparseAdagrad


def rule(weight, states, total, squares, step):
    accumulator = states[0] + squares
    return weight - 0.1 * total / np.sqrt(accumulator + 1e-7), [accumulator]


def test_200_steps_with_duplicates(check_rule, duplicates, jit_compile) -> None:
    check_rule(SparseAdagrad(0.1, duplicates=duplicates), rule, jit_compile)


@pytest.mark.parametrize("shape", [(), (3,), (3, 2), (3, 2, 2)])
def test_a_dense_gradient_gives_keras_adagrad(shape) -> None:
    rng = np.random.default_rng(0)
    start = rng.normal(size=shape)
    ours, keras_s = keras.Variable(start, dtype="float32"), keras.Variable(start, dtype="float32")
    optimizer, keras_adagrad = SparseAdagrad(0.1), keras.optimizers.Adagrad(0.1)
    for _ in range(5):
        gradient = keras.ops.convert_to_tensor(rng.normal(size=shape), "float32")
        optimizer.apply([gradient], [ours])
        keras_adagrad.apply([gradient], [keras_s])
    np.testing.assert_array_equal(ours, keras_s)


def test_bad_arguments() -> None:
    message = r"`initial_accumulator_value` must be at least 0. Received: initial_accumulator_value=-1"
    with pytest.raises(ValueError, match=message):
        SparseAdagrad(initial_accumulator_value=-1)
