import keras
import numpy as np
import pytest
import tensorflow as tf

from c2al_tf.config import ModelConfig
from c2al_tf.data.inputs.dataset import make_dataset
from c2al_tf.diagnostics import attention_weights, measure_attention
from c2al_tf.diagnostics.attention import named_layers
from c2al_tf.diagnostics.measures import measures_of, share_near_zero
from c2al_tf.layers import FMAttention
from c2al_tf.model import build_model


@pytest.mark.parametrize("mode", ["attentive", "static"])
def test_attention_weights_of_every_block(small_schema, small_file, mode: str) -> None:
    model = build_model(small_schema, ModelConfig(embedding_dim=4, num_outputs=3, attention=mode))
    weights = attention_weights(model, make_dataset(small_file, small_schema, 250))
    assert list(weights) == ["fm_0", "fm_1"]
    num_fields = len(small_schema.features)
    assert weights["fm_0"].shape == ((1000, num_fields, 3) if mode == "attentive" else (num_fields, 3))
    assert np.isfinite(weights["fm_1"]).all()


def test_they_are_what_the_block_computes(small_schema, small_file) -> None:
    model = build_model(small_schema, ModelConfig(embedding_dim=4, num_outputs=3))
    x, *_ = next(iter(make_dataset(small_file, small_schema, 250)))
    X = model.get_layer("field_embedding")(x)
    Y = model.get_layer("block_0").interactions[0].attention(X)
    got = attention_weights(model, make_dataset(small_file, small_schema, 250).take(1))["fm_0"]
    np.testing.assert_allclose(got, Y, rtol=1e-5, atol=1e-6)


def test_a_model_without_attention() -> None:
    x = keras.Input((2,))
    assert attention_weights(keras.Model(x, keras.layers.Dense(1)(x)), []) == {}


def test_every_attention_is_found(model, batch) -> None:
    """In the graph, in a layer's list and in a nested model; two have one name."""
    layers = named_layers(model)
    assert sorted(layers) == ["fm:0", "fm:1", "inner"]
    assert layers["fm:0"] is model.get_layer("fm")
    rows = tf.data.Dataset.from_tensors(batch).repeat(2)
    weights = attention_weights(model, rows)
    X = batch[0]["X"]
    for name in ("fm:0", "fm:1"):
        np.testing.assert_allclose(weights[name], np.concatenate([layers[name].attention(X)] * 2), rtol=1e-6)
    np.testing.assert_array_equal(weights["inner"], layers["inner"].static_attention)
    assert "attention" not in vars(layers["inner"])


def test_measures(model, batch) -> None:
    """Of the hidden units, two are switched off, and all weights of one that none of the outputs needs are 0."""
    layer = named_layers(model)["fm:1"]
    layer.hidden.bias.assign([-100.0, -100.0, 0.0, 0.0, 0.0])
    layer.weights_out.kernel.assign(np.array(layer.weights_out.kernel) * np.array([[0], [1], [1], [1], [1]]))
    rows = {row["layer"]: row for row in measure_attention(model, batch[0])}
    first, nested, static = (rows[name] for name in ("fm:0", "fm:1", "inner"))
    X = batch[0]["X"]
    for row, each in ((first, named_layers(model)["fm:0"]), (nested, layer)):
        assert measures_of(np.array(each.attention(X))) == {name: row[name] for name in measures_of(np.ones((2, 2)))}
    assert static == {"layer": "inner", **measures_of(np.array(named_layers(model)["inner"].static_attention))}
    assert nested["dead_units"] == 2 / 5
    kernels = [np.array(kernel).ravel() for kernel in (layer.hidden.kernel, layer.weights_out.kernel)]
    assert nested["weights_near_zero"] == share_near_zero(np.concatenate(kernels)) >= 8 / sum(map(len, kernels))


def test_a_layer_that_is_called_twice() -> None:
    X = keras.Input((4, 3))
    layer = FMAttention(2, name="fm")
    model = keras.Model(X, keras.layers.Add()([layer(X), layer(2 * X)]))
    x = np.random.default_rng(0).normal(size=(5, 4, 3)).astype("float32")
    weights = attention_weights(model, [(x,)])["fm"]
    np.testing.assert_allclose(weights, np.concatenate([layer.attention(x), layer.attention(2 * x)]), rtol=1e-6)
