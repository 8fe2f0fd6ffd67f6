import numpy as np
import pytest

from c2al_tf.layers import FieldEmbedding, HistoryAttention

IDS = np.array([[3, 1, 0, 0], [2, 2, 5, 4], [0, 0, 0, 0], [0, 6, 0, 0]], np.int32)


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def inputs() -> dict[str, np.ndarray]:
    return {"embeddings": random(4, 4, 6), "ids": IDS}


def build(**kwargs) -> HistoryAttention:
    layer = HistoryAttention(2, **kwargs)
    layer({name: values[:1] for name, values in inputs().items()})
    rng = np.random.default_rng(1)  # biases, too, that are not 0
    layer.set_weights([rng.normal(size=weight.shape) for weight in layer.weights])
    return layer


def softmax(x: np.ndarray) -> np.ndarray:
    return np.exp(x - x.max()) / np.exp(x - x.max()).sum()


def pooled(layer: HistoryAttention, E: np.ndarray) -> np.ndarray:
    """One row's values that are present, (number, dim), one attention head after the other."""
    weights = {
        weight.path.split("history_attention")[1].lstrip("_0123456789/"): np.asarray(weight) for weight in layer.weights
    }
    project = {
        name: np.einsum("nd,dhk->hnk", E, weights[f"attention/{name}/kernel"])
        + weights[f"attention/{name}/bias"][:, None]
        for name in ("query", "key", "value")
    }
    Z = weights["attention/attention_output/bias"]
    for q, k, v, out in zip(*project.values(), weights["attention/attention_output/kernel"], strict=True):
        Z = Z + np.stack([softmax(row) for row in q @ k.T / np.sqrt(q.shape[-1])]) @ v @ out
    S = E + Z
    S = (S - S.mean(-1, keepdims=True)) / np.sqrt(S.var(-1, keepdims=True) + 1e-3)
    S = S * weights["norm/gamma"] + weights["norm/beta"]
    return softmax((S @ weights["query"])[:, 0]) @ S


def test_equation() -> None:
    """Each row by itself, without its padding."""
    layer, x = build(), inputs()
    rows = zip(x["embeddings"], x["ids"], strict=True)
    expected = [pooled(layer, E[ids > 0]) if ids.any() else np.zeros(6) for E, ids in rows]
    np.testing.assert_allclose(layer(x), expected, rtol=1e-3, atol=1e-4)


def test_one_value_is_its_own_mean() -> None:
    """A softmax over one score is 1."""
    layer, x = build(), inputs()
    query = np.array(layer.query)
    output = np.asarray(layer(x))[3]
    layer.query.assign(-3 * query)
    np.testing.assert_allclose(np.asarray(layer(x))[3], output, rtol=1e-5, atol=1e-6)


def test_the_order_of_the_values_does_not_matter() -> None:
    layer, x = build(), inputs()
    backwards = {name: values[:, ::-1] for name, values in x.items()}
    np.testing.assert_allclose(layer(x), layer(backwards), rtol=1e-4, atol=1e-5)


@pytest.mark.tensorflow
@pytest.mark.parametrize("jit_compile", [False, True])
def test_padding_contributes_nothing_and_learns_nothing(jit_compile: bool) -> None:
    import tensorflow as tf

    layer, x = build(), inputs()
    other = x | {"embeddings": np.where(IDS[..., None] > 0, x["embeddings"], 1e3).astype(np.float32)}
    np.testing.assert_array_equal(layer(x), layer(other))

    @tf.function(jit_compile=jit_compile)
    def gradient(E: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            tape.watch(E)
            loss = tf.reduce_sum(layer({"embeddings": E, "ids": IDS}) * random(4, 6))
        return tape.gradient(loss, E)

    dE = np.asarray(gradient(tf.constant(x["embeddings"])))
    assert (dE[IDS == 0] == 0).all()
    assert (np.abs(dE[IDS > 0]).max(-1) > 1e-4).all()


def test_layer(check_layer) -> None:
    check_layer(lambda **kwargs: HistoryAttention(2, **kwargs), inputs())


def test_bfloat16() -> None:
    layer = build(dtype="mixed_bfloat16")
    output = layer(inputs())
    assert output.dtype == "bfloat16"
    np.testing.assert_allclose(np.asarray(output, np.float32), build()(inputs()), rtol=0.1, atol=0.1)


def test_as_a_combiner(check_layer) -> None:
    """The field of `tags` is pooled from the rows of the table that its ids have."""
    x = {"user": np.array([0, 3], np.int32), "tags": np.array([[1, 2, 0], [0, 0, 0]], np.int32)}
    pool = HistoryAttention(1)
    layer = FieldEmbedding({"user": 4, "tags": 3}, 2, combiners={"tags": pool})
    output = np.asarray(layer(x))
    table = np.asarray(layer.table)
    np.testing.assert_array_equal(output[:, 0], table[[0, 3]])
    expected = pool({"embeddings": table[4:][x["tags"]], "ids": x["tags"]})
    np.testing.assert_allclose(output[:, 1], expected, rtol=1e-6)
    assert (output[1, 1] == 0).all()
    check_layer(lambda **k: FieldEmbedding({"user": 4, "tags": 3}, 2, combiners={"tags": HistoryAttention(1)}, **k), x)


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match=r"`num_heads` must be at least 1. Received: num_heads=0"):
        HistoryAttention(0)
