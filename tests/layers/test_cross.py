import keras
import numpy as np
import pytest

from c2al_tf.layers import CrossLayer


def rows(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def test_by_hand() -> None:
    layer = CrossLayer()
    layer.build((None, 2))
    layer.set_weights([np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([10.0, 20.0])])
    x_0, x = np.array([[1.0, 2.0]]), np.array([[5.0, 6.0]])
    # x W = [5 + 18, 10 + 24]
    np.testing.assert_allclose(layer(x_0, x), [[1 * (23 + 10) + 5, 2 * (34 + 20) + 6]])
    np.testing.assert_array_equal(layer(x_0), layer(x_0, x_0))


def test_layer(check_layer) -> None:
    check_layer(CrossLayer, rows(3, 4))


def test_two_inputs() -> None:
    x_0, x = keras.Input((4,)), keras.Input((4,))
    model = keras.Model([x_0, x], CrossLayer()(x_0, x))
    assert model.output.shape == (None, 4)
    assert model([rows(3, 4), rows(3, 4) + 1]).shape == (3, 4)


def test_equal_to_keras_rs() -> None:
    theirs = pytest.importorskip("keras_rs").layers.FeatureCross()
    ours, x_0, x = CrossLayer(), rows(3, 4), rows(3, 4)[::-1] + 1
    theirs(x_0, x), ours(x_0, x)
    ours.set_weights([rows(4, 4), rows(4)])
    theirs.set_weights(ours.get_weights())
    np.testing.assert_allclose(ours(x_0, x), theirs(x_0, x), rtol=1e-5, atol=1e-6)
