import keras
import numpy as np
import pytest
import tensorflow as tf

from c2al_tf.layers.layer_norm import LayerNorm

X = (np.random.default_rng(0).normal(size=(6, 3, 40)) * 3 + 2).astype(np.float32)


def pair(dtype: str = "float32") -> tuple[keras.layers.Layer, keras.layers.Layer]:
    layers = (LayerNorm(dtype=dtype), keras.layers.LayerNormalization(dtype=dtype))
    for layer in layers:
        layer.build(X.shape)
        layer.gamma.assign(np.linspace(0.5, 2, 40))
        layer.beta.assign(np.linspace(-1, 1, 40))
    return layers


@pytest.mark.parametrize("jit_compile", [False, True])
def test_values_and_gradients_are_those_of_keras(jit_compile: bool) -> None:
    def run(layer: keras.layers.Layer) -> list:
        @tf.function(jit_compile=jit_compile)
        def values_and_gradients(x: tf.Tensor) -> list:
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = layer(x)
                loss = tf.reduce_sum(tf.sin(y))
            return [y, *tape.gradient(loss, [x, layer.gamma.value, layer.beta.value])]

        return values_and_gradients(tf.constant(X))

    for ours, theirs in zip(*map(run, pair()), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_bfloat16_is_normalized_in_float32() -> None:
    ours, theirs = (layer(tf.cast(X, tf.bfloat16)) for layer in pair("mixed_bfloat16"))
    assert ours.dtype == tf.bfloat16
    np.testing.assert_allclose(tf.cast(ours, tf.float32), tf.cast(theirs, tf.float32), rtol=1e-2, atol=1e-2)


def test_layer(check_layer) -> None:
    check_layer(LayerNorm, X)
