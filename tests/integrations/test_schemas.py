"""Schemas of columns that are declared elsewhere, and parsing specs of schemas, on rows that are written and read."""

import re
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

import c2al_tf
from c2al_tf import CategoricalFeature, Column, FeatureEncoder, NumericFeature, Schema, make_parsing_spec, make_schema
from c2al_tf.data.columns.examples import write_tfrecord
from c2al_tf.data.columns.raw import MISSING
from c2al_tf.types import MISSING_INT

PAGE = Path(__file__).parents[2] / "pipelines" / "datasets" / "TFRECORD.md"
Fixed, VarLen = tf.io.FixedLenFeature, tf.io.VarLenFeature


def write_examples(path: Path, rows: list[dict[str, list]]) -> None:
    kinds = {bytes: "bytes_list", float: "float_list", int: "int64_list"}
    with tf.io.TFRecordWriter(str(path)) as writer:
        for row in rows:
            example = tf.train.Example()
            for name, values in row.items():
                for value in values:
                    getattr(example.features.feature[name], kinds[type(value)]).value.append(value)
            writer.write(example.SerializeToString())


@pytest.mark.filterwarnings(  # by Keras: the first of any dataset, the second of one that does not say its size
    "ignore:`shuffle=True` was passed, but will be ignored:UserWarning", "ignore:Your input ran out of data:UserWarning"
)
def test_the_guide_as_printed_learns_what_decides(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    rows = []
    for _ in range(4000):
        city, genre = rng.choice([b"rome", b"bonn"]), rng.choice([b"jazz", b"rock"])
        click = (city == b"rome") != (genre == b"jazz")
        genres = [bytes(genre)] * int(rng.integers(1, 4))
        rows.append({"user": [int(rng.integers(0, 50))], "city": [bytes(city)], "genres": genres})
        rows[-1] |= {"price": [float(rng.lognormal())], "click": [float(click)]}
    write_examples(tmp_path / "train-0.tfrecord", rows)
    monkeypatch.chdir(tmp_path)
    keras.utils.set_random_seed(0)
    namespace: dict = {}
    code, _ = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    exec(code, namespace)
    dataset = c2al_tf.make_dataset("train-*.tfrecord", namespace["schema"], batch_size=256)
    x, y, _ = next(iter(dataset))
    clicks = y["primary"].numpy() == 1
    assert ((namespace["model"](x)["primary"].numpy() > 0) == clicks).mean() > 0.95
    parsed = next(iter(namespace["columns"]))
    assert parsed["genres"].shape == (256, 3)
    np.testing.assert_array_equal(parsed["click"] == 1, clicks[:, 0])


SPEC = {
    "user": Fixed([], tf.int64),
    "shop": Fixed([], tf.int64, default_value=-1),
    "city": Fixed([], tf.string, default_value=MISSING["string"]),
    "price": Fixed([], tf.float32, default_value=1.5),
    "score": Fixed([], tf.float32, default_value=MISSING["float32"]),
    "tags": tf.io.FixedLenSequenceFeature([], tf.string, True, MISSING["string"]),
    "slot": Fixed([], tf.int64, default_value=MISSING_INT),
    "click": Fixed([], tf.float32),
    "weight": Fixed([], tf.float32),
}
DECLARED = {"labels": ["click"], "weight": "weight", "axis_columns": ["slot"], "num_hash_buckets": 9, "length": 3}


def test_a_spec_becomes_a_schema_and_comes_back():
    schema = make_schema(SPEC, axes=["city", ("slot", "user")], **DECLARED)
    assert schema == Schema(
        (
            CategoricalFeature("user", "int64", num_hash_buckets=9),
            CategoricalFeature("shop", "int64", num_hash_buckets=9, missing="default", default=-1),
            CategoricalFeature("city", "string", num_hash_buckets=9, missing="slot"),
            NumericFeature("price", "log", missing="default", default=1.5),
            NumericFeature("score", "log", missing="slot"),
            CategoricalFeature("tags", "string", num_hash_buckets=9, length=3, missing="slot"),
        ),
        ("click",),
        (("city",), ("slot", "user")),
        (Column("slot", "int64"),),
        "weight",
    )
    assert make_parsing_spec(schema) == SPEC
    assert make_schema(make_parsing_spec(schema), axes=schema.axes, **DECLARED) == schema


@pytest.mark.parametrize(
    ("declared", "dtype", "length", "missing", "default"),
    [
        (Fixed([1], tf.string, default_value=b"none"), "string", None, "default", "none"),
        (Fixed([1], tf.int64, default_value=[0]), "int64", None, "default", 0),
        (Fixed([2], tf.int64), "int64", 2, "error", None),
        (Fixed([2], tf.string, default_value=["", ""]), "string", 2, "slot", None),
        (VarLen(tf.int64), "int64", 4, "slot", None),
        (tf.io.RaggedFeature(tf.string), "string", 4, "slot", None),
    ],
)
def test_forms_of_ids(declared, dtype, length, missing, default):
    (feature,) = make_schema({"x": declared}, labels=(), length=4).features
    expected = CategoricalFeature("x", dtype, None, 100_000, length, missing=missing, default=default)
    assert feature == expected


def test_a_vocabulary_that_is_given_and_names_that_are_no_inputs():
    spec = {"Price (EUR)": VarLen(tf.float32), "tag": VarLen(tf.string), "old": Fixed([3, 3], tf.float32)}
    tag = CategoricalFeature("tag", "string", vocabulary=("a",), length=2, missing="slot")
    schema = make_schema(spec, labels=(), axes=["Price (EUR)"], ignore=["old"], features=[tag])
    assert schema.features == (NumericFeature("Price_EUR", "log", missing="slot"), tag)
    assert schema.axes == (("Price_EUR",),)
    assert make_schema({"x": VarLen(tf.int64)}, labels=(), length=1).features[0].length is None


def test_the_spec_parses_what_the_library_wrote(tmp_path):
    """Nulls in every column that may have some; the reader and the encoder say what is right."""
    schema = make_schema(SPEC, **DECLARED)
    rows = {
        "user": np.array([3, 2**62, -1]),
        "shop": np.array([MISSING_INT, 4, 5]),
        "city": np.array(["", "köln", "rome"], object),
        "price": np.float32([np.nan, 2, 0]),
        "score": np.float32([1, np.nan, -1]),
        "tags": np.array([["a", "b", "c"], ["", "", ""], ["a", "", ""]], object),
        "slot": np.array([MISSING_INT, 0, 1]),
        "click": np.float32([0, 1, 0]),
        "weight": np.float32([1, 2, 0]),
    }
    write_tfrecord(tmp_path / "rows.tfrecord", [rows], schema.columns)
    (read,) = c2al_tf.read_columns(tmp_path / "rows.tfrecord", schema.columns)
    records = next(iter(tf.data.TFRecordDataset(str(tmp_path / "rows.tfrecord")).batch(3)))
    parsed = tf.io.parse_example(records, make_parsing_spec(schema))
    for name, values in parsed.items():
        filled = read[name] if name not in ("shop", "price") else np.where([True, False, False], values, read[name])
        texts = np.vectorize(bytes.decode, otypes=[object]) if values.dtype == tf.string else np.asarray
        np.testing.assert_array_equal(texts(values.numpy()), filled, err_msg=name)
    assert (parsed["shop"][0], parsed["price"][0]) == (-1, 1.5), "the defaults, which the encoder fills in otherwise"
    encoder = FeatureEncoder(schema)
    expected = encoder({name: tf.constant(read[name]) for name in encoder.columns})
    for name, values in encoder({name: parsed[name] for name in encoder.columns}).items():
        np.testing.assert_array_equal(values, expected[name], err_msg=name)


def test_a_metadata_schema_gives_its_domains(tmp_path):
    path = tmp_path / "schema.pbtxt"
    path.write_text("""
        feature { name: "click" type: INT presence { min_fraction: 1.0 } value_count { min: 1 max: 1 } }
        feature { name: "hour" type: INT int_domain { min: -1 max: 2 } shape { dim { size: 1 } } }
        feature { name: "user" type: INT int_domain { min: 0 max: 9223372036854775807 } value_count { max: 1 } }
        feature { name: "item" type: INT int_domain { min: 5 } value_count { max: 7 } }
        feature { name: "city" type: BYTES string_domain { value: "rome" value: "" value: "bonn" } shape { } }
        feature { name: "tags" type: BYTES value_count { min: 1 max: 4 } domain: "tags" }
        feature { name: "open" type: BYTES int_domain { min: 0 max: 1 } }
        feature { name: "price" type: FLOAT float_domain { min: 0 } }
        string_domain { name: "tags" value: "a" value: "b" }
    """)
    assert make_schema(path, labels=["click"], num_hash_buckets=6, length=2).features == (
        CategoricalFeature("hour", "int64", vocabulary=(-1, 0, 1, 2)),
        CategoricalFeature("user", "int64", num_hash_buckets=6, missing="slot"),
        CategoricalFeature("item", "int64", num_hash_buckets=6, length=7, missing="slot"),
        CategoricalFeature("city", "string", vocabulary=("rome", "bonn")),
        CategoricalFeature("tags", "string", vocabulary=("a", "b"), length=4, missing="slot"),
        CategoricalFeature("open", "string", num_hash_buckets=6, length=2, missing="slot"),
        NumericFeature("price", "log", missing="slot"),
    )


def space_of(**features) -> keras.utils.FeatureSpace:
    return keras.utils.FeatureSpace(features)


def test_a_feature_space_is_encoded_as_it_encodes():
    space = keras.utils.FeatureSpace
    ints = {"output_mode": "int"}
    space = keras.utils.FeatureSpace(
        {
            "city": space.string_categorical(**ints),
            "shop": space.integer_categorical(**ints),
            "user": space.integer_hashed(5, **ints),
            "tag": space.string_hashed(7, **ints),
            "age": space.float_normalized(),
            "price": space.float_discretized(4, **ints),
            "half": space.float_rescaled(0.5, 3.0),
            "plain": "float",
        },
        crosses=[space.cross(("city", "shop"), 8)],
        output_mode="dict",
    )
    rng = np.random.default_rng(0)
    rows = {
        "city": rng.choice(np.array(["rome", "bonn", "oslo"], object), 64),
        "shop": rng.integers(3, 9, 64),
        "user": rng.integers(0, 9, 64),
        "tag": rng.choice(np.array(["a", "b"], object), 64),
        **{name: rng.normal(5, 3, 64).astype(np.float32) for name in ("age", "price", "half", "plain")},
    }
    dataset = tf.data.Dataset.from_tensor_slices(
        {k: v.astype(str) if v.dtype == object else v for k, v in rows.items()}
    )
    space.adapt(dataset)
    schema = make_schema(space, labels=["click"], axes=["city"])
    assert [feature.num_ids for feature in schema.features] == [5, 8, 6, 8, 2, 5, 2, 2]
    ours = FeatureEncoder(schema)({name: tf.constant(values) for name, values in rows.items()})
    theirs = {
        name: np.asarray(layer(tf.constant(rows[name])[:, None]))[:, 0] for name, layer in space.preprocessors.items()
    }
    for name in ("city", "shop", "price"):
        np.testing.assert_array_equal(ours[name], theirs[name] + 1, err_msg=name)
    for name in ("age", "half", "plain"):
        np.testing.assert_allclose(ours[f"{name}_value"], theirs[name], rtol=1e-5, atol=1e-6, err_msg=name)


def test_a_data_frame_and_its_parquet_file_are_read_as_declared(tmp_path):
    frame = pd.DataFrame(
        {
            "city": pd.Categorical(["rome", None, "bonn"], ["bonn", "rome"]),
            "stars": pd.Categorical([1, 5, 5]),
            "name": ["x", "y", None],
            "user": [1, 2, 3],
            "old": [True, False, True],
            "price": [1.5, None, 3.0],
            "tags": [["a"], [], ["a", "b"]],
            "day": pd.to_datetime(["2020-01-01"] * 3),
            "click": [0, 1, 0],
        }
    )
    declared = {"labels": ["click"], "ignore": ["day"], "num_hash_buckets": 9, "length": 2}
    schema = make_schema(frame, **declared)
    assert schema.features == (
        CategoricalFeature("city", "string", vocabulary=("bonn", "rome"), missing="slot"),
        CategoricalFeature("stars", "int64", vocabulary=(1, 5), missing="slot"),
        CategoricalFeature("name", "string", num_hash_buckets=9, missing="slot"),
        CategoricalFeature("user", "int64", num_hash_buckets=9, missing="slot"),
        CategoricalFeature("old", "int64", vocabulary=(0, 1), missing="slot"),
        NumericFeature("price", "log", missing="slot"),
        CategoricalFeature("tags", "string", num_hash_buckets=9, length=2, missing="slot"),
    )
    frame.to_parquet(tmp_path / "rows.parquet")
    fields = pq.read_schema(tmp_path / "rows.parquet")
    assert make_schema(fields, **declared).columns == schema.columns
    x, y, _ = next(iter(c2al_tf.make_dataset(tmp_path / "rows.parquet", schema, 3)))
    ids = {name: x[name].numpy().tolist() for name in ("city", "stars", "old")}
    assert ids == {"city": [3, 0, 2], "stars": [2, 3, 3], "old": [3, 2, 3]}
    assert y["primary"].numpy().ravel().tolist() == [0, 1, 0]


def test_arrow_types():
    types = {
        "int64": [pa.uint8(), pa.decimal128(18, 0), pa.bool_(), pa.dictionary(pa.int8(), pa.int32())],
        "float32": [pa.float16(), pa.float64(), pa.decimal128(19, 0), pa.decimal128(5, 2)],
        "string": [pa.large_string(), pa.binary(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())],
    }
    for dtype, stored in types.items():
        schema = make_schema(pa.schema([(f"c{i}", each) for i, each in enumerate(stored)]), labels=())
        assert {column.dtype for column in schema.columns.values()} == {dtype}
    (pair,) = make_schema(pa.schema([pa.field("x", pa.list_(pa.int32(), 2), nullable=False)]), labels=()).features
    assert (pair.length, pair.missing) == (2, "error")


CUSTOM = keras.utils.FeatureSpace.feature("float32", keras.layers.Dense(1), "float")
LABEL = {"label": Fixed([], tf.int64)}


@pytest.mark.parametrize(
    ("source", "arguments", "message"),
    [
        (3, {}, "`source` must be a parsing spec .*Received: <class 'int'>"),
        ({"x": VarLen(tf.int64)}, {}, r"`labels` and `weight` must name .*Received: \['label'\]; there are \['x'\]"),
        (LABEL, {"ignore": ["y"]}, r"`ignore` must name columns of `source`. Received: \['y'\]"),
        (LABEL, {"features": [NumericFeature("y")]}, r"`features` must name columns of `source`. Received: \['y'\]"),
        (LABEL | {"x": VarLen(tf.int64)}, {"length": 0}, "`length` of feature `x` must be .* Received: length=0"),
        (LABEL | {"x": Fixed([], tf.int64)}, {"num_hash_buckets": 0}, "`num_hash_buckets` of feature `x` must be"),
        ({"label": VarLen(tf.string)}, {}, "`label` must be one number a row. Received: VarLenFeature"),
        (LABEL | {"x": VarLen(tf.int64)}, {}, "`length` must be given.* `x` .*Received: length=None; VarLenFeature"),
        (LABEL | {"x": Fixed([], tf.bool)}, {}, "`x` must be a FixedLenFeature.* of string, int64, float32.*tf.bool"),
        (LABEL | {"x": tf.io.SparseFeature("i", "v", tf.int64, 9)}, {}, "`x` must be a Fixed.*Received: SparseFeature"),
        (LABEL | {"x": tf.io.RaggedFeature(tf.int64, "v")}, {}, "`x` must be a Fixed.*Received: RaggedFeature"),
        (LABEL | {"x": Fixed([3], tf.float32)}, {}, r"`x` must have shape \(\), .*Received: FixedLenFeature"),
        (LABEL | {"x": Fixed([2, 3], tf.int64)}, {}, r"`x` must have shape \(\), .*Received: FixedLenFeature"),
        (LABEL | {"x": Fixed([2], tf.int64, [1, 2])}, {}, r"`x` must have one default .*Received: \[1, 2\]"),
        (space_of(x="string_categorical"), {}, "`x` must have learnt its values: call the FeatureSpace's `adapt`"),
        (space_of(x="float_normalized"), {}, "`x` must have learnt its values"),
        (space_of(x=CUSTOM), {}, "`x` must be looked up, hashed, .*Received: <Dense"),
        (space_of(x=keras.utils.FeatureSpace.float_rescaled(-1.0)), {}, "`x` must be .*Received: <Rescaling"),
        (pa.schema([("x", pa.timestamp("s"))]), {"labels": ()}, "`x` must be of strings, .*Received: timestamp"),
        (pa.schema([("x", pa.list_(pa.float32()))]), {"labels": ()}, "`x` must be of strings, .*Received: list<"),
    ],
)
def test_what_is_refused(source, arguments, message):
    with pytest.raises(ValueError, match=message):
        make_schema(source, **arguments)
