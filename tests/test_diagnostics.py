import numpy as np
import pytest

from c2al_tf.config import ModelConfig
from c2al_tf.data.inputs.dataset import make_dataset
from c2al_tf.diagnostics import attention_weights
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


def test_a_model_without_attention(small_schema, small_file) -> None:
    import keras

    x = keras.Input((2,))
    assert attention_weights(keras.Model(x, keras.layers.Dense(1)(x)), []) == {}
