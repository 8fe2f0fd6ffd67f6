import dataclasses
import hashlib
import json
from typing import get_args, get_type_hints

import keras
import numpy as np
import pytest
import tensorflow as tf

from c2al_tf.backbones import BACKBONES, REPRESENTATION
from c2al_tf.config import ModelConfig, TrainingConfig
from c2al_tf.data.inputs.features import FeatureEncoder
from c2al_tf.layers import DHENBlock, FieldEmbedding, FieldMixing, FMAttention, TaskHead, freeze_attention
from c2al_tf.losses import weighted_sum_of_tasks
from c2al_tf.model import add_cohort_heads, build_model, strip_auxiliary_heads
from c2al_tf.schema import CategoricalFeature, NumericFeature, Schema
from c2al_tf.training import make_optimizer
from c2al_tf.training.step import compile_step

CONFIG = ModelConfig(
    embedding_dim=4, num_outputs=2, attention_units=4, mixing_outputs=3, shared_units=(8, 6), head_units=(5,)
)


def config(backbone: str, **changes) -> ModelConfig:
    return dataclasses.replace(CONFIG, backbone=backbone, **changes)


def encode(schema, rows: dict) -> dict:
    return FeatureEncoder(schema)({f.name: tf.constant(rows[f.name]) for f in schema.features})


def labels(rows: dict) -> dict:
    y = rows["label"][:, None]
    return {"primary": y, "young": y * (rows["age"] < 30)[:, None]}


def checksum(model: keras.Model) -> str:
    digest = hashlib.sha256()
    for weight in model.weights:
        digest.update(f"{weight.path} {weight.shape}".encode() + np.asarray(weight).tobytes())
    return digest.hexdigest()


def test_every_name_of_the_configuration_has_a_backbone() -> None:
    assert tuple(BACKBONES) == get_args(get_type_hints(ModelConfig)["backbone"])


def test_dhen_is_what_one_builds_by_hand(small_schema) -> None:
    """Names of layers and, under the same seed, all initial values, bit for bit."""
    keras.utils.set_random_seed(7)
    model = build_model(small_schema, CONFIG)
    keras.utils.set_random_seed(7)
    inputs = {
        name: keras.Input(
            (2,) if name == "tags" else (), dtype="float32" if name == "age_value" else "int32", name=name
        )
        for name in ("color", "user", "tags", "age", "age_value")
    }
    X = FieldEmbedding(
        {"color": 5, "user": 51, "tags": 5, "age": 4}, 4, {"age": "age_value"}, {"tags": "mean"}, name="field_embedding"
    )(inputs)
    for i in range(2):
        modules = [FMAttention(2, hidden_units=4, name=f"fm_{i}"), FieldMixing(3, name=f"mixing_{i}")]
        X = DHENBlock(modules, name=f"block_{i}")(X)
    h = keras.layers.Dense(8, "relu", name="shared_0")(keras.layers.Flatten(name="flatten")(X))
    h = keras.layers.Dense(6, "relu", name="representation")(h)
    by_hand = keras.Model(inputs, {"primary": TaskHead((5,), name="task_primary")(h)})
    assert [layer.name for layer in model.layers] == [layer.name for layer in by_hand.layers]
    assert checksum(model) == checksum(by_hand)


@pytest.mark.slow
@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_step_under_xla_in_bfloat16(backbone: str, small_schema, small_rows) -> None:
    """Traced for any batch size; every weight has a gradient."""
    rows = small_rows(32)
    small = config(backbone, num_blocks=1, mixed_precision=True, dropout=0.1)
    model = build_model(small_schema, small, cohorts=("young",))
    assert keras.backend.standardize_dtype(model.get_layer(REPRESENTATION).output.dtype) == "bfloat16"
    assert {weight.dtype for weight in model.trainable_weights} == {"float32"}
    model.compile("adam")
    step = compile_step(model, weighted_sum_of_tasks({"young": 0.3}))
    batch = (encode(small_schema, rows), tf.nest.map_structure(tf.constant, labels(rows)), tf.ones((32, 1)))
    specs = tf.nest.map_structure(lambda values: tf.TensorSpec((None, *values.shape[1:]), values.dtype), batch)
    before = [np.array(weight) for weight in model.trainable_weights]
    loss, sums = step.get_concrete_function(*specs)(*batch)
    assert np.isfinite(loss)
    assert set(sums) == {"primary", "young"}
    same = [w.path for w, old in zip(model.trainable_weights, before, strict=True) if np.array_equal(w, old)]
    # A bias that all keys share cancels in the softmax.
    assert [path for path in same if not path.endswith("/key/bias")] == []


@pytest.mark.parametrize("backbone", BACKBONES)
def test_heads_files_and_stripping(backbone: str, small_schema, small_rows, tmp_path) -> None:
    x = encode(small_schema, small_rows(8))
    baseline = build_model(small_schema, config(backbone, dropout=0.1))
    assert baseline.get_layer(REPRESENTATION).output.shape == (None, 6)
    model = add_cohort_heads(baseline, REPRESENTATION, ("young",), hidden_units=(5,))
    built = build_model(small_schema, config(backbone, dropout=0.1), cohorts=("young",))
    assert [(layer.name, layer.count_params()) for layer in model.layers] == [
        (layer.name, layer.count_params()) for layer in built.layers
    ]
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for task in ("primary", "young"):
        np.testing.assert_array_equal(loaded(x)[task], model(x)[task])
    for each in (model, loaded, built):
        assert json.dumps(strip_auxiliary_heads(each).get_config()) == json.dumps(baseline.get_config())
    np.testing.assert_array_equal(strip_auxiliary_heads(loaded)(x)["primary"], baseline(x)["primary"])


@pytest.mark.parametrize("backbone", BACKBONES)
def test_cohort_heads_leave_the_shared_initial_values_alone(backbone: str, small_schema) -> None:
    checksums = []
    for cohorts in ((), ("young",)):
        keras.utils.set_random_seed(3)
        checksums.append(checksum(strip_auxiliary_heads(build_model(small_schema, config(backbone), cohorts=cohorts))))
    assert checksums[0] == checksums[1]


def embedded(model: keras.Model, x: dict) -> np.ndarray:
    return np.asarray(model.get_layer("field_embedding")(x))


def representation(model: keras.Model, x: dict) -> np.ndarray:
    return np.asarray(keras.Model(model.input, model.get_layer(REPRESENTATION).output)(x))


def dense(model: keras.Model, name: str, x: np.ndarray) -> np.ndarray:
    kernel, bias = map(np.asarray, model.get_layer(name).weights)
    return np.maximum(x @ kernel + bias, 0)


def test_mlp_by_hand(small_schema, small_rows) -> None:
    model, x = build_model(small_schema, config("mlp")), encode(small_schema, small_rows(8))
    h = dense(model, REPRESENTATION, dense(model, "shared_0", embedded(model, x).reshape(8, -1)))
    np.testing.assert_allclose(representation(model, x), h, rtol=1e-4, atol=1e-5)


def test_dcn_v2_by_hand(small_schema, small_rows) -> None:
    model, x = build_model(small_schema, config("dcn_v2", num_blocks=2)), encode(small_schema, small_rows(8))
    x_0 = crossed = embedded(model, x).reshape(8, -1)
    for name in ("cross_0", "cross_1"):
        W, b = map(np.asarray, model.get_layer(name).weights)
        crossed = x_0 * (crossed @ W + b) + crossed
    h = dense(model, REPRESENTATION, dense(model, "shared_0", crossed))
    np.testing.assert_allclose(representation(model, x), h, rtol=1e-4, atol=1e-5)


def test_self_attention_by_hand(small_schema, small_rows) -> None:
    model, x = build_model(small_schema, config("self_attention", num_blocks=1)), encode(small_schema, small_rows(8))
    X = embedded(model, x)
    q, q_0, k, k_0, v, v_0, out, out_0 = map(np.asarray, model.get_layer("attention_0").weights)
    Q, K, V = (np.einsum("bnd,dhk->bhnk", X, W) + b[:, None] for W, b in ((q, q_0), (k, k_0), (v, v_0)))
    scores = np.exp(np.einsum("bhik,bhjk->bhij", Q, K) / np.sqrt(2))
    Z = np.einsum("bhij,bhjk,hkd->bid", scores / scores.sum(-1, keepdims=True), V, out) + out_0
    S = (X + Z - (X + Z).mean(-1, keepdims=True)) / np.sqrt((X + Z).var(-1, keepdims=True) + 1e-3)
    h = dense(model, REPRESENTATION, dense(model, "shared_0", S.reshape(8, -1)))
    np.testing.assert_allclose(representation(model, x), h, rtol=1e-3, atol=1e-4)


def test_history_attention_pools_the_histories_alone(small_schema, small_rows) -> None:
    model, x = build_model(small_schema, config("history_attention")), encode(small_schema, small_rows(8))
    layer = model.get_layer("field_embedding")
    X, table = embedded(model, x), np.asarray(layer.table)
    assert layer.field_names == ["age", "color", "user", "tags"]
    start = layer.offsets[3]
    history = {"embeddings": table[start + np.asarray(x["tags"])], "ids": x["tags"]}
    np.testing.assert_allclose(X[:, 3], layer.combiners["tags"](history), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(X[:, 1], table[layer.offsets[1] + np.asarray(x["color"])])


def test_history_attention_on_shared_embeddings() -> None:
    shown = CategoricalFeature("shown", "int64", vocabulary=(3, 5))
    seen = CategoricalFeature("seen", "int64", vocabulary=(3, 5), length=2, shares="shown")
    model = build_model(Schema((shown, seen)), config("history_attention"))
    x = {"shown": np.array([2, 0]), "seen": np.array([[2, 0], [0, 0]])}
    assert (embedded(model, x)[1, 1] == 0).all()
    assert np.abs(embedded(model, x)[0, 1]).max() > 0


def test_history_attention_without_a_history() -> None:
    schema = Schema((CategoricalFeature("user", "int64", num_hash_buckets=5), NumericFeature("age")))
    with pytest.raises(
        ValueError,
        match=r"`schema` must have a multi-valued feature, .* for backbone='history_attention'. "
        r"Received: features=\['user', 'age'\]",
    ):
        build_model(schema, config("history_attention"))


@pytest.mark.parametrize("what", ["weights", "activations"])
def test_a_frozen_attention_beside_trained_tables(what: str, small_schema, small_rows) -> None:
    """With a penalty, cohort heads and an optimizer of the tables; stripped it is still frozen."""
    rows = small_rows(32)
    model = build_model(small_schema, config("dhen", num_blocks=1, density_penalty=1.0), cohorts=("young",))
    freeze_attention(model, what)
    optimizer = make_optimizer(TrainingConfig(learning_rate=0.1, table_optimizer="row_wise_adagrad"), 10)
    model.compile(optimizer)
    attention = [w for w in model.weights if "/attention_" in w.path]
    assert len(attention) == 4
    before = [np.array(weight) for weight in attention]
    table = np.array(model.get_layer("field_embedding").table)
    step = compile_step(model, weighted_sum_of_tasks({"young": 0.3}), jit_compile=False)
    for _ in range(2):
        step(encode(small_schema, rows), tf.nest.map_structure(tf.constant, labels(rows)), tf.ones((32, 1)))
    for weight, old in zip(attention, before, strict=True):
        np.testing.assert_array_equal(weight, old)
    assert not np.array_equal(model.get_layer("field_embedding").table, table)
    stripped = strip_auxiliary_heads(model)
    assert not {w.path for w in stripped.trainable_weights} & {w.path for w in attention}
