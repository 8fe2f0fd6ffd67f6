"""The same records, read by the graph of an export and by the reader of files."""

import re
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings, strategies as st

from c2al_tf.data.columns.examples import ExampleReader
from c2al_tf.data.columns.parsing import may_hold_integers, parse_any_kind, parse_as_stored, parse_examples
from c2al_tf.data.columns.wire import to_examples
from c2al_tf.feature import Column
from c2al_tf.types import MISSING_INT

LONG = "n" * 130
COLUMNS = (
    Column("x", "float32"),
    Column(LONG, "float32"),
    Column("öl", "float32", 3),
    Column("i", "int64"),
    Column("many", "int64", 2),
    Column("s", "string"),
)
DTYPES = {column.name: column.dtype for column in COLUMNS}
FLOATS = ["x", LONG, "öl"]
PARSE = tf.function(
    lambda records: parse_examples(records, COLUMNS), input_signature=[tf.TensorSpec((None,), tf.string)]
)


def feature(values):
    """A Feature whose kind is that of the values; without values its kind is `values` itself."""
    if values in ([], "float_list", "int64_list", "bytes_list"):
        made = tf.train.Feature()
        if values:
            getattr(made, values).SetInParent()
        return made
    if isinstance(values[0], bytes):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))
    if isinstance(values[0], float):
        return tf.train.Feature(float_list=tf.train.FloatList(value=values))
    return tf.train.Feature(int64_list=tf.train.Int64List(value=values))


def example(features):
    made = {name: feature(values) for name, values in features.items()}
    return tf.train.Example(features=tf.train.Features(feature=made)).SerializeToString()


def read(records):
    """The raw columns as the reader of files gives them."""
    serialized = tf.constant(records, tf.string)
    full = example({column.name: [] for column in COLUMNS})  # so that no column is absent
    reader = ExampleReader(Path("a.tfrecord"), {c.name: c for c in COLUMNS}, tf.constant([*records, full], tf.string))
    return {
        name: values.decode() if hasattr(values, "decode") else values
        for name, values in reader.read(serialized, 0).items()
    }


def expected(rows):
    """The raw columns by hand, without TensorFlow."""
    columns = {}
    for column in COLUMNS:
        length = column.length or 1
        missing = {"float32": np.nan, "int64": MISSING_INT, "string": ""}[column.dtype]
        values = [row.get(column.name, []) for row in rows]
        values = [[] if isinstance(v, str) else [missing if x == MISSING_INT else x for x in v] for v in values]
        padded = [([*v, *[missing] * length])[:length] for v in values]
        if column.dtype == "string":
            padded = [[x.decode() if isinstance(x, bytes) else x for x in v] for v in padded]
        dtype = {"float32": np.float32, "int64": np.int64, "string": object}[column.dtype]
        array = np.array([np.array(v, np.int64).astype(dtype) if _whole(v) else v for v in padded], dtype)
        array = array.reshape(len(rows), length)
        columns[column.name] = array[:, 0] if column.length is None else array
    return columns


def _whole(values):
    return all(isinstance(value, int) for value in values)


def as_text(column, values):
    values = values.numpy()
    return np.array([v.decode() for v in values], object) if column.dtype == "string" else values


INTEGERS = st.integers(-(2**63), 2**63 - 1) | st.integers(-3, 300)
KINDLESS = st.sampled_from([[], "float_list", "int64_list", "bytes_list"])


def numbers(most):
    whole = st.lists(INTEGERS, min_size=1, max_size=most)
    return whole | st.lists(st.floats(width=32), min_size=1, max_size=most) | KINDLESS


ROWS = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "x": numbers(1),
            LONG: numbers(1),
            "öl": numbers(40),
            "i": st.lists(INTEGERS, max_size=1),
            "many": st.lists(INTEGERS, max_size=5),
            # An entry for `x`, as its bytes stand in a record.
            "s": st.lists(
                st.text(max_size=5).map(str.encode) | st.just(b"\n\x01x\x12\x05\x1a\x03\n\x01\x07"), max_size=1
            ),
            "other": numbers(3),
        },
    ),
    max_size=6,
)


@settings(max_examples=200)
@given(ROWS)
def test_graph_and_reader_give_the_values_that_were_written(rows):
    records = [example(row) for row in rows]
    wanted = expected(rows)
    serialized = tf.constant(records, tf.string)
    by_reader = read(records)
    by_graph = PARSE(serialized)
    for column in COLUMNS:
        name = column.name
        np.testing.assert_array_equal(by_reader[name], wanted[name], err_msg=f"reader: {name}")
        np.testing.assert_array_equal(as_text(column, by_graph[name]), wanted[name], err_msg=f"graph: {name}")


@settings(max_examples=200)
@given(ROWS)
def test_no_integers_are_overlooked(rows):
    records = [example(row) for row in rows]
    holds = [
        any(isinstance(row.get(name), list) and _whole(row[name]) and row[name] for name in FLOATS) for row in rows
    ]
    found = may_hold_integers(tf.constant(records, tf.string), FLOATS).numpy()
    assert (found | ~np.array(holds, bool)).all()


@pytest.mark.parametrize("count", [1, 2, 6, 13, 70, 123, 124, 125, 126, 127, 128, 2000, 16_380, 20_000])
@pytest.mark.parametrize("packed", [True, False])
def test_integers_of_any_number_and_encoding_are_found_and_read(count, packed):
    record = example({"öl": [5] * count})
    if not packed:
        values = b"\x08\x05" * count
        record = entry("öl", b"\x1a" + varint(len(values)) + values)
    assert may_hold_integers(tf.constant([record]), FLOATS).numpy().tolist() == [True]
    values = PARSE(tf.constant([record]))["öl"].numpy()
    np.testing.assert_array_equal(values, np.float32([[5] * min(count, 3) + [np.nan] * (3 - min(count, 3))]))


def test_floats_one_by_one_beside_integers():
    packed = example({"x": [1]})
    single = entry("x", b"\x12\x05\x0d\x00\x00\x20\x40")
    assert PARSE(tf.constant([packed, single]))["x"].numpy().tolist() == [1.0, 2.5]


def varint(value):
    low, rest = value & 127, value >> 7
    return bytes([low | 128]) + varint(rest) if rest else bytes([low])


def entry(name, value):
    """A tf.Example with one feature, byte by byte."""
    key = name.encode()
    inner = b"\n" + varint(len(key)) + key + b"\x12" + varint(len(value)) + value
    outer = b"\n" + varint(len(inner)) + inner
    return b"\n" + varint(len(outer)) + outer


def test_plain_records_take_the_fast_way(small_schema, small_rows):
    """Floats whose bytes may be anything: fewer than one record in a thousand is taken for one with integers."""
    rows = small_rows(2000)
    columns = {feature.name: feature.column for feature in small_schema.features}
    floats = [name for name, column in columns.items() if column.dtype == "float32"]
    assert may_hold_integers(tf.constant(to_examples(rows, columns)), floats).numpy().mean() < 0.001
    # A Feature without any list, and then an entry of 26 bytes, the tag of an int64_list.
    record = example({"x": [], "y" * 14: [1.0]})
    assert b"\n\x1a\n\x0e" + b"y" * 14 in record
    assert not may_hold_integers(tf.constant([record]), ["x"]).numpy().any()


def test_what_looks_like_an_entry_within_a_string_is_a_string():
    lookalike = b"\n\x01x\x12\x05\x1a\x03\n\x01\x07"
    record = example({"x": [0.5], "s": [lookalike]})
    assert may_hold_integers(tf.constant([record]), ["x"]).numpy().all()
    got = PARSE(tf.constant([record]))
    assert (got["x"].numpy().tolist(), got["s"].numpy().tolist()) == ([0.5], [lookalike])


@pytest.mark.parametrize("others", [[], [{"x": [1]}]])  # on the fast way and on the other
def test_bytes_are_no_numbers(others):
    records = [example(row) for row in [*others, {"x": [b"1"], "y": [0.5]}]]
    with pytest.raises(tf.errors.InvalidArgumentError, match="float" if not others else "another list as.*x"):
        PARSE(tf.constant(records))


@pytest.mark.parametrize("row", [{"i": [0.5]}, {"i": [b"1"]}, {"s": [1]}, {"s": [0.5]}])
@pytest.mark.parametrize("others", [[], [{"x": [1]}]])
def test_integers_and_strings_are_of_one_kind(row, others):
    with pytest.raises(tf.errors.InvalidArgumentError, match="Data types don't match"):
        PARSE(tf.constant([example(each) for each in [*others, row]]))


def test_the_last_entry_of_a_name_counts():
    """As in protobuf, which joins messages that stand one after the other."""
    twice = example({"x": [1]}) + example({"x": [2.5]}) + example({"i": [3]})
    other = example({"x": [1.5]}) + example({"x": [2]}) + example({"i": [4]})
    got = PARSE(tf.constant([twice, other]))
    assert (got["x"].numpy().tolist(), got["i"].numpy().tolist()) == ([2.5, 2.0], [3, 4])


def test_no_records_and_empty_ones():
    assert {name: len(values) for name, values in PARSE(tf.constant([], tf.string)).items()} == dict.fromkeys(DTYPES, 0)
    for parse in (parse_any_kind, parse_as_stored):
        parsed = parse(tf.constant([b"", b""]), DTYPES)
        assert {name: values.shape for name, values in parsed.items()} == dict.fromkeys(DTYPES, (2, 0))


def test_columns_without_numbers_take_no_detour():
    graph = tf.function(lambda x: parse_examples(x, COLUMNS[3:]), input_signature=[tf.TensorSpec((None,), tf.string)])
    types = {node.op for node in graph.get_concrete_function().graph.as_graph_def().node}
    assert not {name for name in types if re.search("Regex|If|DecodeProto", name)}
