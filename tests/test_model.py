import keras
import numpy as np
import pytest
import tensorflow as tf

from c2al_tf.config import ModelConfig
from c2al_tf.data.inputs.features import FeatureEncoder
from c2al_tf.layers import TaskHead
from c2al_tf.model import add_cohort_heads, build_model, strip_auxiliary_heads
from c2al_tf.schema import CategoricalFeature, Schema

CONFIG = ModelConfig(embedding_dim=4, num_outputs=2, attention_units=4, shared_units=(8, 6), head_units=(5,))


def encode(schema, rows: dict) -> dict:
    return FeatureEncoder(schema)({f.name: tf.constant(rows[f.name]) for f in schema.features})


def two_towers() -> keras.Model:
    """Someone else's functional model with one output."""
    a, b = keras.Input((3,), name="a"), keras.Input((2,), name="b")
    h = keras.layers.Dense(4, "relu", name="h")(keras.layers.Concatenate()([a, b]))
    return keras.Model({"a": a, "b": b}, keras.layers.Dense(1, name="click")(h))


def test_outputs_and_priors(small_schema, small_rows) -> None:
    priors = {"primary": 0.2, "young": 0.05, "old": 0.01}
    model = build_model(small_schema, CONFIG, cohorts=("young", "old"), priors=priors)
    assert list(model.output) == ["primary", "young", "old"]
    assert {task: tuple(output.shape) for task, output in model.output.items()} == dict.fromkeys(priors, (None, 1))
    assert [model.get_layer(f"task_{task}").prior for task in priors] == [0.2, 0.05, 0.01]
    assert set(model.input) == set(small_schema.inputs)


def test_cohort_heads_leave_the_shared_initial_values_alone(small_schema) -> None:
    keras.utils.set_random_seed(3)
    baseline = build_model(small_schema, CONFIG)
    keras.utils.set_random_seed(3)
    model = build_model(small_schema, CONFIG, cohorts=("young",))
    for ours, theirs in zip(baseline.weights, strip_auxiliary_heads(model).weights, strict=True):
        assert ours.path == theirs.path
        np.testing.assert_array_equal(ours, theirs)


def test_stripping_keeps_the_primary_logits_bit_for_bit(small_schema, small_rows) -> None:
    """Property 6."""
    model = build_model(small_schema, CONFIG, cohorts=("young", "old"))
    x = encode(small_schema, small_rows(64))
    stripped = strip_auxiliary_heads(model)
    assert list(stripped.output) == ["primary"]
    assert not any(isinstance(layer, TaskHead) and layer.auxiliary for layer in stripped.layers)
    np.testing.assert_array_equal(stripped(x)["primary"], model(x)["primary"])


def test_stripping_a_saved_model(small_schema, small_rows, tmp_path) -> None:
    model = build_model(small_schema, CONFIG, cohorts=("young", "old"))
    model.save(tmp_path / "model.keras")
    stripped = strip_auxiliary_heads(keras.saving.load_model(tmp_path / "model.keras"))
    x = encode(small_schema, small_rows(8))
    assert stripped.count_params() == build_model(small_schema, CONFIG).count_params()
    np.testing.assert_array_equal(stripped(x)["primary"], model(x)["primary"])


@pytest.mark.parametrize("representation", ["h", "tensor"])
def test_any_functional_model_gets_heads_and_loses_them(representation: str) -> None:
    theirs = two_towers()
    x = {"a": np.ones((2, 3), np.float32), "b": np.ones((2, 2), np.float32)}
    h = theirs.get_layer("h").output if representation == "tensor" else representation
    model = add_cohort_heads(theirs, h, ("rich", "poor"), priors={"rich": 0.1})
    assert list(model.output) == ["primary", "rich", "poor"]
    np.testing.assert_array_equal(model(x)["primary"], theirs(x))
    assert strip_auxiliary_heads(model).count_params() == theirs.count_params()


def test_in_compile_and_fit(small_schema, small_rows, small_cohorts) -> None:
    """The pieces work without our training loop."""
    from c2al_tf.data.inputs.labels import cohort_labels

    rows = small_rows(256)
    model = build_model(small_schema, CONFIG, cohorts=[cohort.name for cohort in small_cohorts])
    y = {"primary": rows["label"], **cohort_labels(rows, rows["label"], small_cohorts)}
    model.compile(
        loss=dict.fromkeys(y, keras.losses.BinaryCrossentropy(from_logits=True)),
        loss_weights={"primary": 1.0, "young": 0.3, "old": 0.3},
        jit_compile=True,
    )
    x = {name: np.asarray(values) for name, values in encode(small_schema, rows).items()}
    history = model.fit(x, {task: label[:, None] for task, label in y.items()}, epochs=3, verbose=0)
    assert history.history["loss"][-1] < history.history["loss"][0]


def test_several_primary_tasks(small_schema) -> None:
    model = build_model(small_schema, CONFIG, primary=("click", "buy"), cohorts=("young",))
    assert list(strip_auxiliary_heads(model).output) == ["click", "buy"]


def test_features_that_share_embeddings() -> None:
    shown = CategoricalFeature("shown", "int64", vocabulary=(3, 5))
    seen = CategoricalFeature("seen", "int64", vocabulary=(3, 5), length=2, shares="shown")
    embedding = build_model(Schema((shown, seen)), CONFIG).get_layer("field_embedding")
    table = np.asarray(embedding.table)
    assert len(table) == shown.num_ids + 1  # and a row for padding, as id 0 of the other is a value
    X = np.asarray(embedding({"shown": np.array([2]), "seen": np.array([[2, 0]])}))
    np.testing.assert_array_equal(X[0, 0], X[0, 1])


def test_static_attention_and_no_mixing(small_schema, small_rows) -> None:
    config = ModelConfig(embedding_dim=4, attention="static", mixing_outputs=0)
    assert build_model(small_schema, config)(encode(small_schema, small_rows(3)))["primary"].shape == (3, 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("h", ("a", "a")), "Every cohort needs a name that no other output has"),
        (("h", ("primary",)), "Every cohort needs a name that no other output has"),
        (("h", ()), "at least one is needed"),
        (("x", ("a",)), r"`representation` must name a layer. Received: 'x'; there are \['a', 'b'"),
        (("a", ("c",)), None),
    ],
)
def test_bad_heads(arguments: tuple, message: str | None) -> None:
    if message is None:  # an input is a representation too
        assert list(add_cohort_heads(two_towers(), *arguments).output) == ["primary", "c"]
        return
    with pytest.raises(ValueError, match=message):
        add_cohort_heads(two_towers(), *arguments)


def test_a_representation_with_fields() -> None:
    x = keras.Input((3, 2), name="x")
    model = keras.Model(x, keras.layers.Dense(1)(keras.layers.Flatten()(x)))
    with pytest.raises(ValueError, match=r"must have shape \(batch, units\). Received: shape=\(None, 3, 2\)"):
        add_cohort_heads(model, x, ("a",))


def test_a_subclassed_model() -> None:
    class Theirs(keras.Model):
        def call(self, x):
            return x

    with pytest.raises(ValueError, match="The model must be functional, .*Received: Theirs"):
        add_cohort_heads(Theirs(), "h", ("a",))
