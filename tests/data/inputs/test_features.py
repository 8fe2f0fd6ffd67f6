import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings, strategies as st

from c2al_tf.data.columns.parsing import parse_examples
from c2al_tf.data.columns.wire import to_examples
from c2al_tf.data.inputs.features import FeatureEncoder, hash_buckets
from c2al_tf.schema import CategoricalFeature, Column, NumericFeature, Schema
from c2al_tf.types import MISSING_INT


def encode(feature, values):
    encoded = FeatureEncoder(Schema((feature,)))({feature.name: tf.constant(values)})
    assert list(encoded) == list(feature.inputs)
    return {name: value.numpy() for name, value in encoded.items()}


def test_vocabulary_ids_by_hand():
    feature = CategoricalFeature("x", "string", vocabulary=("b", "a"))
    ids = encode(feature, ["a", "b", "", "c"])["x"]
    assert ids.tolist() == [3, 2, 0, 1]
    assert ids.dtype == np.int32


def test_integer_vocabulary_ids_by_hand():
    feature = CategoricalFeature("x", "int64", vocabulary=(-7, 2**62))
    values = np.array([2**62, -7, MISSING_INT, 0])
    assert encode(feature, values)["x"].tolist() == [3, 2, 0, 1]
    assert encode(CategoricalFeature("x", "int64", vocabulary=()), values)["x"].tolist() == [1, 1, 0, 1]


@pytest.mark.parametrize(("default", "expected"), [("a", 2), ("unseen", 1)])
def test_default_stands_for_a_null(default, expected):
    feature = CategoricalFeature("x", "string", vocabulary=("a",), missing="default", default=default)
    assert encode(feature, ["", "a"])["x"].tolist() == [expected, 2]


def test_multi_valued_ids_by_hand():
    values = np.array([[5, 6, 9], [6, MISSING_INT, MISSING_INT], [MISSING_INT] * 3])
    slot = CategoricalFeature("x", "int64", vocabulary=(5, 6), length=3, missing="slot")
    assert encode(slot, values)["x"].tolist() == [[2, 3, 1], [3, 0, 0], [0, 0, 0]]
    default = CategoricalFeature("x", "int64", vocabulary=(5, 6), length=3, missing="default", default=6)
    assert encode(default, values)["x"].tolist() == [[2, 3, 1], [3, 0, 0], [3, 0, 0]]
    gap = np.array([[MISSING_INT, 5, MISSING_INT]])
    assert encode(default, gap)["x"].tolist() == encode(slot, gap)["x"].tolist() == [[0, 2, 0]]


def test_hashed_ids():
    feature = CategoricalFeature("x", "string", num_hash_buckets=5, missing="slot")
    ids = encode(feature, ["", *map(str, range(1000))])["x"]
    assert ids[0] == 0
    assert set(ids[1:]) == {1, 2, 3, 4, 5}
    # A value keeps its id for good: these are part of every exported model.
    assert encode(feature, ["rome", "bonn"])["x"].tolist() == [3, 2]


def test_integers_hash_as_their_decimal_text():
    numbers = np.array([0, -5, 2**62, 17])
    np.testing.assert_array_equal(
        hash_buckets(tf.constant(numbers), 97), hash_buckets(tf.constant(numbers.astype(str)), 97)
    )
    feature = CategoricalFeature("x", "int64", num_hash_buckets=97, missing="default", default=17)
    ids = encode(feature, np.array([17, MISSING_INT, 0]))["x"]
    assert ids[0] == ids[1] != ids[2]


def test_buckets_and_standard_scaling_by_hand():
    feature = NumericFeature("x", "standard", mean=2.0, std=4.0, boundaries=(0.0, 10.0), missing="slot")
    encoded = encode(feature, np.float32([-1, 0, 9.5, 10, 11, np.nan, np.inf]))
    assert encoded["x"].tolist() == [1, 2, 2, 3, 3, 0, 0]
    assert encoded["x_value"].tolist() == [-0.75, -0.5, 1.875, 2.0, 2.25, 0.0, 0.0]
    assert (encoded["x"].dtype, encoded["x_value"].dtype) == (np.int32, np.float32)


def test_log_scaling_keeps_the_sign():
    feature = NumericFeature("x", "log", mean=0.5, std=2.0)
    encoded = encode(feature, np.float32([np.e - 1, 1 - np.e, 0]))
    np.testing.assert_allclose(encoded["x_value"], [0.25, -0.75, -0.25], rtol=1e-6)
    assert encoded["x"].tolist() == [1, 1, 1]


def test_numeric_default_and_no_scaling():
    feature = NumericFeature("x", boundaries=(1.0,), missing="default", default=3.0)
    assert encode(feature, np.float32([np.nan, 0]))["x"].tolist() == [2, 1]
    scaled = NumericFeature("x", "standard", mean=1.0, missing="default", default=3.0)
    assert encode(scaled, np.float32([np.nan, 0]))["x_value"].tolist() == [2.0, -1.0]


def test_missing_where_none_is_declared_is_no_value_in_a_served_request():
    assert encode(CategoricalFeature("x", "string", vocabulary=("a",)), ["", "a"])["x"].tolist() == [0, 2]
    encoded = encode(NumericFeature("x", "standard", mean=1.0), np.float32([np.nan, 1]))
    assert encoded["x"].tolist() == [0, 1]
    assert encoded["x_value"].tolist() == [0.0, 0.0]


@settings(max_examples=50)
@given(
    st.lists(st.floats(-1e6, 1e6, width=32, allow_subnormal=False), min_size=1, max_size=8, unique=True),
    st.lists(st.floats(-1e6, 1e6, width=32), max_size=20),
)
def test_buckets_agree_with_searchsorted_in_float32(boundaries, others):
    feature = NumericFeature("x", boundaries=tuple(sorted(boundaries)))
    values = np.float32([*boundaries, *np.nextafter(np.float32(boundaries), np.float32(-np.inf)), *others])
    # TensorFlow flushes subnormal numbers to zero.
    values = values[(values == 0) | (np.abs(values) >= np.finfo(np.float32).tiny)]
    expected = 1 + np.searchsorted(np.float32(feature.boundaries), values, side="right")
    np.testing.assert_array_equal(encode(feature, values)["x"], expected)


def test_boundaries_are_compared_as_float32():
    # float32(0.7) < 0.7: compared as doubles, it would be in the bucket below.
    feature = NumericFeature("x", boundaries=(0.1, 0.7))
    assert encode(feature, np.float32([0.1, 0.7]))["x"].tolist() == [2, 3]


def test_features_together_are_encoded_as_each_alone():
    many = Schema(
        (
            CategoricalFeature("a", "int64", num_hash_buckets=7, missing="slot"),
            NumericFeature("u", "standard", mean=1.0, std=2.0, boundaries=(0.0,), missing="slot"),
            CategoricalFeature("b", "int64", num_hash_buckets=7, missing="default", default=3),
            CategoricalFeature("c", "int64", num_hash_buckets=9),
            NumericFeature("v", "log", mean=3.0, boundaries=(-1.0, 1.0), missing="default", default=5.0),
            CategoricalFeature("d", "string", num_hash_buckets=7, length=2, missing="slot"),
            CategoricalFeature("e", "string", num_hash_buckets=7),
            NumericFeature("w", boundaries=(2.0,), missing="slot"),
            CategoricalFeature("f", "string", num_hash_buckets=7, length=2, missing="default", default="x"),
            CategoricalFeature("g", "int64", vocabulary=(1, 2)),
            NumericFeature("x", "standard", mean=-1.0, std=0.5),
        )
    )
    integers, texts = np.array([1, 2, 3, MISSING_INT]), np.array(["x", "y", "z", ""])
    numbers = np.float32([-3, 0.5, 7, np.nan])
    rows = {
        feature.name: numbers
        if isinstance(feature, NumericFeature)
        else integers
        if feature.dtype == "int64"
        else np.stack([texts, texts[::-1]], axis=1)
        if feature.length
        else texts
        for feature in many.features
    }
    together = FeatureEncoder(many)({name: tf.constant(values) for name, values in rows.items()})
    alone = {name: values for f in many.features for name, values in encode(f, rows[f.name]).items()}
    assert list(together) == list(alone)
    for name, values in alone.items():
        np.testing.assert_array_equal(together[name], values, strict=True)


def test_encoded_inputs_are_those_of_the_schema(schema, rows):
    encoder = FeatureEncoder(schema)
    batch = {name: tf.constant(rows(6)[name]) for name in encoder.columns}
    encoded = encoder(batch)
    assert list(encoded) == list(schema.inputs)
    for name, column in schema.inputs.items():
        assert encoded[name].shape == ((6,) if column.length is None else (6, column.length))
        assert encoded[name].dtype == (tf.float32 if column.dtype == "float32" else tf.int32)


def test_graph_of_the_raw_specs_gives_what_a_plain_call_gives(schema, rows):
    encoder = FeatureEncoder(schema)
    batch = {name: tf.constant(rows(50)[name]) for name in encoder.columns}
    graph = tf.function(encoder, input_signature=[encoder.raw_specs])
    for (name, plain), traced in zip(encoder(batch).items(), graph(batch).values(), strict=True):
        np.testing.assert_array_equal(plain, traced, err_msg=name)


def test_serialized_examples_give_what_raw_columns_give(schema, rows):
    encoder = FeatureEncoder(schema)
    batch = rows(50)
    serialized = tf.constant(to_examples(batch, encoder.columns))
    plain = encoder({name: tf.constant(batch[name]) for name in encoder.columns})
    signature = [tf.TensorSpec((None,), tf.string)]
    served = tf.function(lambda x: encoder(encoder.parse_examples(x)), input_signature=signature)(serialized)
    for name, values in plain.items():
        np.testing.assert_array_equal(values, served[name], err_msg=name)


def test_empty_example_is_a_row_without_values(schema):
    encoder = FeatureEncoder(schema)
    encoded = encoder(encoder.parse_examples(tf.constant([b""])))
    assert encoded["city"].numpy().tolist() == [0]
    assert encoded["genres"].numpy().tolist() == [[0, 0, 0]]
    assert encoded["codes"].numpy().tolist() == [[2, 0]]
    assert encoded["age_value"].numpy().tolist() == [0.0]


@pytest.mark.parametrize("counts", [(0, 0), (0, 1), (3, 0, 1), (2, 2), (1, 5, 2)])
def test_absent_values_are_missing_and_surplus_ones_cut_off(counts):
    def example(count):
        lists = tf.train.Int64List(value=[10 + place for place in range(count)])
        feature = tf.train.Feature(int64_list=lists)
        return tf.train.Example(features=tf.train.Features(feature={"one": feature, "two": feature}))

    serialized = tf.constant([example(count).SerializeToString() for count in counts])
    columns = parse_examples(serialized, [Column("one", "int64"), Column("two", "int64", length=2)])
    padded = [[*range(10, 10 + count), MISSING_INT, MISSING_INT][:2] for count in counts]
    assert columns["one"].numpy().tolist() == [row[0] for row in padded]
    assert columns["two"].numpy().tolist() == padded


def test_saved_encoder_gives_the_same(schema, rows, tmp_path):
    encoder = FeatureEncoder(schema)
    module = tf.Module()
    module.encoder = encoder
    module.encode = tf.function(encoder, input_signature=[encoder.raw_specs])
    tf.saved_model.save(module, str(tmp_path / "saved"))
    batch = {name: tf.constant(rows(50)[name]) for name in encoder.columns}
    loaded = tf.saved_model.load(str(tmp_path / "saved")).encode(batch)
    for name, values in encoder(batch).items():
        np.testing.assert_array_equal(values, loaded[name], err_msg=name)
