"""The proof of an export does not share the fault of its encoder: models of others, each refused or right."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from c2al_tf.config import ModelConfig
from c2al_tf.data.columns.readers import read_columns
from c2al_tf.data.inputs.dataset import make_dataset
from c2al_tf.data.inputs.features import FeatureEncoder
from c2al_tf.export import export_for_serving
from c2al_tf.export.facts import ExportError, ExportFacts
from c2al_tf.export.probes import probe_rows, spellings
from c2al_tf.losses import weighted_sum_of_tasks
from c2al_tf.model import build_model
from c2al_tf.saved_model import SavedModel
from c2al_tf.schema import CategoricalFeature, NumericFeature, Schema
from c2al_tf.training import predict, train

COLORS = ("red", "green", "blue")
SCHEMA = Schema(
    (CategoricalFeature("color", "string", vocabulary=COLORS), NumericFeature("age", "standard", 40.0, 9.0))
)
ROWS = {
    "color": np.array(["red", "blue", "never seen", "green"], object),
    "age": np.array([20.0, 41.5, 60.0, 33.0], np.float32),
}


def theirs(num_ids: int = 5) -> keras.Model:
    """A team's own model: of ids that their own lookup makes, and of a value that they scale themselves."""
    color, age = keras.Input((), dtype="int32", name="color"), keras.Input((), dtype="int32", name="age")
    value = keras.Input((), name="age_value")
    h = keras.layers.Embedding(num_ids, 3, embeddings_initializer="normal")(color)
    h = keras.layers.Concatenate()([h, keras.ops.expand_dims(value, 1), keras.ops.cast(age[:, None] * 0, "float32")])
    return keras.Model({"color": color, "age": age, "age_value": value}, keras.layers.Dense(1, name="click")(h))


def by_their_path(model: keras.Model, offset: int) -> np.ndarray:
    """Logits from raw rows: the ids of a StringLookup, `offset` higher, and their own scaling."""
    lookup = keras.layers.StringLookup(vocabulary=COLORS, num_oov_indices=1)
    ids = np.asarray(lookup(ROWS["color"].tolist())) + offset
    x = {"color": ids, "age": np.ones(4, np.int32), "age_value": (ROWS["age"] - 40) / 9}
    return np.asarray(model({name: tf.constant(values) for name, values in x.items()}))


def test_a_lookup_of_their_own_with_other_ids_is_refused(tmp_path) -> None:
    """StringLookup's out-of-vocabulary slot is id 0; the schema's is 1, and 0 is no value: off by one."""
    model = theirs()
    with pytest.raises(ExportError, match="`logits` of .*beside the caller's predictions on raw rows.* must be equal"):
        export_for_serving(
            model, tmp_path, schema=SCHEMA, sample=ROWS, reference=theirs(), expected=by_their_path(model, offset=0)
        )
    assert list(tmp_path.iterdir()) == []


def test_a_lookup_of_their_own_with_the_schemas_ids_is_published(tmp_path) -> None:
    model = theirs()
    expected = by_their_path(model, offset=1)
    export = export_for_serving(model, tmp_path, schema=SCHEMA, sample=ROWS, reference=theirs(), expected=expected)
    assert export.proof == "the caller's predictions on raw rows"
    with SavedModel(export.directory) as served:
        np.testing.assert_allclose(served.run(ROWS)["logits"], expected, atol=1e-5)
    text = (export.directory / "assets.extra" / "README.md").read_text()
    assert "its outputs were compared with the caller's predictions on raw rows." in text


def test_an_export_without_anything_to_compare_with_is_refused(tmp_path) -> None:
    with pytest.raises(ValueError, match="proved against `expected`.* or against `encoder`.* Received: neither"):
        export_for_serving(theirs(), tmp_path, schema=SCHEMA, sample=ROWS, reference=theirs())


def test_the_encoder_of_training_is_said_to_be_the_proof(tmp_path) -> None:
    export = export_for_serving(
        theirs(), tmp_path, schema=SCHEMA, sample=ROWS, reference=theirs(), encoder=FeatureEncoder(SCHEMA)
    )
    assert export.proof == "the model behind the encoder of training"


@pytest.mark.parametrize(
    ("dtypes", "message"),
    [
        ({"age": "float32"}, r"`age`: the model reads float \(None,\), the schema makes ids \(None,\)"),
        ({"color": "string"}, r"`color`: the model reads string \(None,\), the schema makes ids \(None,\)"),
        ({"city": "int32"}, r"`city`: the model reads ids \(None,\), the schema makes None"),
    ],
)
def test_a_model_that_reads_raw_columns_is_refused(tmp_path, dtypes, message) -> None:
    """A float input `age` would get bucket numbers; strings, ids."""
    kinds = {"color": "int32", "age": "int32", "age_value": "float32"} | dtypes
    inputs = {name: keras.Input((), dtype=dtype, name=name) for name, dtype in kinds.items()}
    numbers = [x for name, x in inputs.items() if x.dtype != "string"]
    h = keras.ops.stack([keras.ops.cast(x, "float32") for x in numbers], axis=1)
    model = keras.Model(inputs, keras.layers.Dense(1)(h))
    with pytest.raises(ValueError, match=message):
        export_for_serving(model, tmp_path, schema=SCHEMA, sample=ROWS, reference=model, expected=np.zeros(4))


@pytest.mark.parametrize("ending", [keras.layers.Activation("sigmoid"), keras.ops.sigmoid])
def test_a_sigmoid_output_is_refused(tmp_path, ending) -> None:
    """It would be published as a logit and squashed again: 0.500 as 0.622. `expected` would not tell."""
    model = theirs()
    squashed = keras.Model(model.input, ending(model.output))
    expected = np.asarray(tf.sigmoid(by_their_path(model, offset=1)))
    with pytest.raises(ValueError, match="Output `primary` must be logits.* Received: probabilities of layer"):
        export_for_serving(squashed, tmp_path, schema=SCHEMA, sample=ROWS, reference=squashed, expected=expected)


@pytest.mark.parametrize(
    ("expected", "message"),
    [
        (np.zeros(3), r"{'logits': \(4, 1\), .*}. Received: {'logits': \(3, 1\), "),
        ([0.0, np.nan, 0.0, 0.0], r"Received: {'logits': \(4, 1\), .*}, not all finite"),
        ({"click": np.zeros(4), "buy": np.zeros(4)}, r"Received: {'click_logits': \(4, 1\), "),
        (np.zeros((4, 2)), r"must be \(batch, 1\) or \(batch,\) each .* Received: `primary` of shape \(4, 2\)"),
    ],
)
def test_expected_logits_of_another_form(tmp_path, expected, message) -> None:
    with pytest.raises(ValueError, match=message):
        export_for_serving(theirs(), tmp_path, schema=SCHEMA, sample=ROWS, reference=theirs(), expected=expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"age": [20.0, 41.5]}, r"all with as many rows, at least one. Received: columns of \[2, 4\] rows"),
        ({name: values[:0] for name, values in ROWS.items()}, r"Received: columns of \[0\] rows"),
        ({"color": [None, "red", "red", "red"]}, "column `color` must hold `str`, a null as"),
        ({"color": np.array([b"red"] * 4)}, "column `color` must be string of shape"),
    ],
)
def test_samples_of_another_form(tmp_path, change, message) -> None:
    with pytest.raises(ValueError, match=message):
        export_for_serving(
            theirs(), tmp_path, schema=SCHEMA, sample=ROWS | change, reference=theirs(), encoder=FeatureEncoder(SCHEMA)
        )


def test_samples_as_pandas_and_lists_have_them(tmp_path) -> None:
    """float64 and lists of integers where the column is float32, `U` arrays of strings."""
    for version, age in enumerate((ROWS["age"].astype(np.float64), [20, 41, 60, 33]), 1):
        sample = {"color": ROWS["color"].astype(str), "age": age}
        export_for_serving(
            theirs(), tmp_path, schema=SCHEMA, sample=sample, reference=theirs(), encoder=FeatureEncoder(SCHEMA)
        )
        assert (tmp_path / str(version)).exists()


def test_examples_of_other_rows(tmp_path) -> None:
    with pytest.raises(ValueError, match=r"`examples` must be the 4 rows of `sample`, \(rows,\). Received: \(3,\)"):
        export_for_serving(
            theirs(), tmp_path, schema=SCHEMA, sample=ROWS, reference=theirs(), encoder=FeatureEncoder(SCHEMA),
            examples=[b"", b"", b""],
        )  # fmt: skip


def test_half_precision_does_not_hide_a_permuted_vocabulary(tmp_path) -> None:
    """The logits of an untrained model are closer to each other than the bound for one row."""
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model, reference = theirs(), theirs()
    finally:
        keras.config.set_dtype_policy("float32")
    permuted = Schema((CategoricalFeature("color", "string", vocabulary=("green", "red", "blue")), SCHEMA.features[1]))
    logits = np.asarray(model(FeatureEncoder(permuted)({k: tf.constant(v) for k, v in ROWS.items()})))
    with pytest.raises(ExportError, match="in the root mean square over the rows"):
        export_for_serving(model, tmp_path, schema=SCHEMA, sample=ROWS, reference=reference, expected=logits)


def test_probes_hold_null_empty_unseen_and_longest_values(small_schema, small_rows) -> None:
    rows = probe_rows(small_schema, small_rows(20))
    assert {"", "\u2603 never seen", "x" * 1000} < set(rows["color"])
    assert {np.iinfo(np.int64).min, np.iinfo(np.int64).max} < set(rows["user"].tolist())
    assert np.isnan(rows["age"]).any()
    assert np.isinf(rows["age"]).any()
    assert (rows["tags"] == "").all(axis=1).any()
    written = spellings(small_schema, rows)
    assert len({len(examples) for examples in written.values()}) == 1
    first, absent, whole, more = written.values()
    assert sum(map(len, absent)) < sum(map(len, first)) < sum(map(len, more))
    assert any(tf.train.Example.FromString(example).features.feature["age"].int64_list.value for example in whole)


def test_an_export_that_errs_on_null_values_alone_is_refused(tmp_path, monkeypatch) -> None:
    """No row of the sample has one: only the probes see it."""
    from c2al_tf.export import reading

    class Wrong(FeatureEncoder):
        def __call__(self, columns):
            x = super().__call__(columns)
            return x | {"color": tf.where(x["color"] == 0, 1, x["color"])}

    monkeypatch.setattr(reading, "FeatureEncoder", Wrong)
    with pytest.raises(ExportError, match="rows of null, empty, unseen and longest values"):
        export_for_serving(
            theirs(), tmp_path, schema=SCHEMA, sample=ROWS, reference=theirs(), encoder=FeatureEncoder(SCHEMA)
        )


def test_the_bound_in_half_precision_follows_spread_and_mean() -> None:
    """Two steps of the spread, 0.1 at least, and half of one of the mean."""
    logits = np.array([-5.0, -3.0])
    half = ExportFacts(0, (), 0, 0, 0, 0, precision="bfloat16")
    assert half.max_rms_error(logits) == 2**-7 * (2 * 1 + 4 / 2)
    assert half.max_rms_error(np.zeros(3)) == pytest.approx(2**-7 * 2 * 0.1)
    assert ExportFacts(0, (), 0, 0, 0, 0).max_rms_error(logits) == np.inf


@pytest.mark.slow
def test_half_precision_is_proved_within_its_rounding(small_schema, small_file, small_rows, tmp_path) -> None:
    """Predicted with XLA, served without: two executables round bfloat16 differently."""
    config = ModelConfig(embedding_dim=4, num_blocks=1, num_outputs=2, attention_units=4, mixed_precision=True)
    keras.utils.set_random_seed(0)
    model, reference = build_model(small_schema, config, cohorts=("young",)), build_model(small_schema, config)
    rows = make_dataset(small_file, small_schema, 100)
    labelled = rows.map(lambda x, y, weight: (x, {"primary": y["primary"], "young": y["primary"]}, weight))
    model.compile("adam")
    train(model, labelled, weighted_sum_of_tasks({"young": 0.3}), epochs=3, jit_compile=False)
    expected = predict(model, rows, 1000)
    columns = {feature.name: feature.column for feature in small_schema.features}
    sample = next(iter(read_columns(small_file, columns)))
    export = export_for_serving(
        model, tmp_path, schema=small_schema, sample=sample, reference=reference, expected=expected,
        encoder=FeatureEncoder(small_schema),
    )  # fmt: skip
    assert export.facts.precision == "bfloat16"
    assert export.facts.max_error == 16 * 2**-7
    with pytest.raises(ExportError, match="must be equal within 0.125"):
        export_for_serving(
            model, tmp_path, schema=small_schema, sample=sample, reference=reference, expected=expected + 0.2
        )
