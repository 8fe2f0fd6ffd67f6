import keras
import numpy as np
import pytest

from c2al_tf.layers import DHENBlock, FieldMixing, FMAttention


def build(**kwargs) -> DHENBlock:
    return DHENBlock([FMAttention(2, hidden_units=4), FieldMixing(3)], **kwargs)


def rows(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def layer_norm(x: np.ndarray) -> np.ndarray:
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-3)


def test_equation() -> None:
    layer, X = build(), rows(4, 5, 3)
    output = layer(X)
    u = np.concatenate([np.asarray(module(X)).reshape(4, -1) for module in layer.interactions], axis=1)
    kernel, bias = (np.asarray(weight) for weight in (layer.ensemble.kernel, layer.ensemble.bias))
    Z = (layer_norm(u) @ kernel + bias).reshape(X.shape)
    np.testing.assert_allclose(output, layer_norm(X + Z), rtol=1e-3, atol=1e-4)


def test_layer(check_layer) -> None:
    check_layer(build, rows(4, 5, 3))


def test_dropout_acts_in_training_only() -> None:
    layer, X = build(dropout=0.5), rows(4, 5, 3)
    np.testing.assert_array_equal(layer(X), layer(X))
    assert np.abs(np.asarray(layer(X, training=True)) - np.asarray(layer(X))).max() > 0.1


@pytest.mark.tensorflow
def test_blocks_stack_and_every_weight_gets_a_gradient() -> None:
    import tensorflow as tf

    inputs = keras.Input((5, 3))
    model = keras.Model(inputs, build()(build()(inputs)))
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(rows(8, 5, 3)) * rows(8, 5, 3)[::-1])
    gradients = tape.gradient(loss, [weight.value for weight in model.trainable_weights])
    silent = [w.path for w, g in zip(model.trainable_weights, gradients, strict=True) if np.abs(g).max() == 0]
    assert silent == []


def test_no_interactions() -> None:
    with pytest.raises(ValueError, match=r"`interactions` must hold at least one layer. Received: none"):
        DHENBlock([])
