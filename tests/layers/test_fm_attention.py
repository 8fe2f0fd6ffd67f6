import keras
import numpy as np
import pytest
from keras import ops

from c2al_tf.layers import FMAttention, fm_attention


def explicit_loop(X: np.ndarray, Y: np.ndarray) -> np.ndarray:
    """Each pair of fields by itself: G[b, i] = sum over j of <X[b, i], X[b, j]> Y[b, j]."""
    G = np.zeros(Y.shape)
    for row in range(X.shape[0]):
        for i in range(X.shape[1]):
            for j in range(X.shape[1]):
                G[row, i] += (X[row, i] @ X[row, j]) * Y[row, j]
    return G


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def test_fm_attention_equals_the_explicit_double_loop_over_fields() -> None:
    """Property 1."""
    X, Y = random(4, 5, 3), random(4, 5, 2)[:, ::-1]
    np.testing.assert_allclose(fm_attention(X, Y), explicit_loop(X, Y), rtol=1e-4, atol=1e-5)


def test_x_xt_y_is_associative() -> None:
    """Property 1: X (X^T Y) = (X X^T) Y."""
    X, Y = random(4, 5, 3), random(4, 5, 2) + 1
    full = np.einsum("bnm,bmk->bnk", np.einsum("bnd,bmd->bnm", X, X), Y)
    np.testing.assert_allclose(fm_attention(X, Y), full, rtol=1e-4, atol=1e-5)


def test_a_static_attention_is_the_same_for_every_row() -> None:
    X, Y = random(4, 5, 3), random(5, 2)
    np.testing.assert_allclose(fm_attention(X, Y), fm_attention(X, np.tile(Y, (4, 1, 1))), rtol=1e-5, atol=1e-6)


def test_by_hand() -> None:
    X = np.array([[[1.0, 2.0], [3.0, 4.0]]], np.float32)
    Y = np.array([[[1.0], [10.0]]], np.float32)
    # <x1,x1> = 5, <x1,x2> = 11, <x2,x2> = 25
    np.testing.assert_allclose(fm_attention(X, Y), [[[5 + 110], [11 + 250]]])


@pytest.mark.parametrize("mode", ["attentive", "static"])
def test_layer(check_layer, mode: str) -> None:
    check_layer(lambda **kwargs: FMAttention(2, mode, hidden_units=4, **kwargs), random(3, 5, 4))


@pytest.mark.parametrize("mode", ["attentive", "static"])
def test_the_layer_weights_the_pairs_by_its_attention(mode: str) -> None:
    layer, X = FMAttention(2, mode), random(3, 5, 4)
    output = layer(X)
    Y = np.broadcast_to(layer.attention(ops.convert_to_tensor(X)), (3, 5, 2))
    np.testing.assert_allclose(output, explicit_loop(X, Y), rtol=1e-4, atol=1e-5)


def test_attentive_weights_depend_on_the_row_and_static_ones_do_not() -> None:
    X = random(2, 5, 4)
    attentive, static = FMAttention(2), FMAttention(2, "static")
    attentive(X), static(X)
    assert np.abs(np.diff(attentive.attention(ops.convert_to_tensor(X)), axis=0)).max() > 1e-3
    assert static.attention(ops.convert_to_tensor(X)).shape == (5, 2)


def test_the_gradient_reaches_the_attention() -> None:
    """dL/dY = (X X^T) dL/dG."""
    import tensorflow as tf

    X, Y, weight = random(2, 5, 3), tf.Variable(random(2, 5, 2)), random(2, 5, 2) + 2
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(fm_attention(tf.constant(X), Y) * weight)
    expected = np.einsum("bnm,bmk->bnk", np.einsum("bnd,bmd->bnm", X, X), weight)
    np.testing.assert_allclose(tape.gradient(loss, Y), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("static", [False, True])
@pytest.mark.parametrize("jit_compile", [False, True])
def test_gradients_are_those_of_the_equation(static: bool, jit_compile: bool) -> None:
    """X (X^T Y) and (X X^T) Y have the same gradients."""
    import tensorflow as tf

    X, Y, weight = random(3, 5, 4), random(5, 2) if static else random(3, 5, 2) + 1, random(3, 5, 2) - 1

    def gradients(interaction) -> list:
        @tf.function(jit_compile=jit_compile)
        def run(X, Y):
            with tf.GradientTape() as tape:
                tape.watch([X, Y])
                loss = tf.reduce_sum(interaction(X, Y) * weight)
            return tape.gradient(loss, [X, Y])

        return run(tf.constant(X), tf.constant(Y))

    full = "bnd,bmd,mk->bnk" if static else "bnd,bmd,bmk->bnk"
    expected = gradients(lambda X, Y: tf.einsum(full, X, X, Y))
    for ours, theirs in zip(gradients(fm_attention), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def test_bfloat16() -> None:
    X, Y = random(4, 5, 3), random(4, 5, 2) + 1
    G = fm_attention(ops.cast(X, "bfloat16"), ops.cast(Y, "bfloat16"))
    assert keras.backend.standardize_dtype(G.dtype) == "bfloat16"
    np.testing.assert_allclose(ops.cast(G, "float32"), explicit_loop(X, Y), rtol=0.05, atol=0.15)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_outputs": 0}, r"`num_outputs` must be at least 1. Received: num_outputs=0"),
        ({"num_outputs": 1, "mode": "soft"}, r"`mode` must be 'attentive' or 'static'. Received: mode='soft'"),
        ({"num_outputs": 1, "hidden_units": 0}, r"`hidden_units` must be at least 1. Received: hidden_units=0"),
    ],
)
def test_bad_arguments(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FMAttention(**arguments)


def test_bad_shape() -> None:
    with pytest.raises(ValueError, match=r"must have shape \(batch, num_fields, dim\)"):
        FMAttention(2)(keras.Input((4,)))
