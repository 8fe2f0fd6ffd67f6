import keras
import numpy as np
import pytest

from c2al_tf.optimizers import LazyAdam


def rule(weight, states, total, squares, step):
    v, m = states
    m = m + (1 - 0.9) * (total - m)
    v = v + (1 - 0.99) * (squares - v)
    return weight - 0.01 * np.sqrt(1 - 0.99**step) / (1 - 0.9**step) * m / (np.sqrt(v) + 1e-7), [v, m]


def test_200_steps_with_duplicates(check_rule, duplicates, jit_compile) -> None:
    check_rule(LazyAdam(0.01, beta_2=0.99, duplicates=duplicates), rule, jit_compile)


@pytest.mark.parametrize("shape", [(), (3,), (3, 2), (3, 2, 2)])
def test_a_dense_gradient_gives_keras_adam(shape) -> None:
    rng = np.random.default_rng(0)
    start = rng.normal(size=shape)
    ours, keras_s = keras.Variable(start, dtype="float32"), keras.Variable(start, dtype="float32")
    optimizer, keras_adam = LazyAdam(0.1), keras.optimizers.Adam(0.1)
    for _ in range(5):
        gradient = keras.ops.convert_to_tensor(rng.normal(size=shape), "float32")
        optimizer.apply([gradient], [ours])
        keras_adam.apply([gradient], [keras_s])
    np.testing.assert_array_equal(ours, keras_s)


@pytest.mark.parametrize("name", ["beta_1", "beta_2"])
def test_bad_arguments(name: str) -> None:
    with pytest.raises(ValueError, match=rf"`{name}` must be at least 0 and less than 1. Received: {name}=1.0"):
        LazyAdam(**{name: 1.0})
