import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings, strategies as st

from c2al_tf.data.columns.examples import write_tfrecord
from c2al_tf.data.columns.readers import count_rows, read_columns
from c2al_tf.data.columns.wire import to_examples
from c2al_tf.feature import Column
from c2al_tf.types import MISSING_INT

VALUES = {
    "int64": st.integers(-(2**63), 2**63 - 1) | st.integers(-2, 300),
    "float32": st.floats(width=32),
    "string": st.text(st.characters(exclude_categories=["Cs"]), max_size=5) | st.just("x" * 200),
}
MISSING = {"int64": MISSING_INT, "float32": np.float32("nan"), "string": ""}
TYPES = {"int64": np.int64, "float32": np.float32, "string": object}


def parsed(record):
    """What protobuf reads in a record: {name: (kind, values)}."""
    features = tf.train.Example.FromString(record).features.feature
    kinds = {name: feature.WhichOneof("kind") for name, feature in features.items()}
    return {name: (kind, list(getattr(features[name], kind).value) if kind else []) for name, kind in kinds.items()}


@st.composite
def batches(draw):
    dtypes = draw(st.lists(st.sampled_from(sorted(VALUES)), min_size=1, max_size=4))
    rows = draw(st.integers(0, 6))
    batch, columns = {}, {}
    for number, dtype in enumerate(dtypes):
        # Names and values of more than 127 bytes have sizes of two bytes.
        name = draw(st.sampled_from(["a", "öl", "n" * 130])) + str(number)
        length = draw(st.sampled_from([None, 1, 3, 40]))
        count = rows * (length or 1)
        values = draw(st.lists(VALUES[dtype] | st.just(MISSING[dtype]), min_size=count, max_size=count))
        array = np.empty(count, TYPES[dtype])
        array[:] = values
        batch[name] = array if length is None else array.reshape(rows, length)
        columns[name] = Column(name, dtype, length)
    return batch, columns


@settings(max_examples=200)
@given(batches())
def test_protobuf_reads_what_was_written(drawn):
    batch, columns = drawn
    kinds = {"string": "bytes_list", "int64": "int64_list", "float32": "float_list"}
    records = to_examples(batch, columns)
    assert len(records) == len(next(iter(batch.values())))
    for row, record in enumerate(records):
        features = parsed(record)
        assert set(features) == set(columns)
        for name, column in columns.items():
            values = batch[name][row : row + 1].reshape(-1)  # not `atleast_1d`, which drops NULs at a string's end
            gone = np.isnan(values) if column.dtype == "float32" else values == MISSING[column.dtype]
            kept = values[~gone].tolist()
            expected = [value.encode() for value in kept] if column.dtype == "string" else kept
            assert features[name] == (kinds[column.dtype] if expected else None, expected)


def test_size_of_a_record_is_that_of_protobuf():
    # Canonical: neither a longer varint nor a surplus field.
    batch = {"x": np.array([5, 300, -1]), "y": np.float32([1, 2, np.nan]), "z": np.array(["a", "", "ö" * 100], object)}
    columns = {"x": Column("x", "int64"), "y": Column("y", "float32"), "z": Column("z", "string")}
    for record in to_examples(batch, columns):
        assert len(record) == len(tf.train.Example.FromString(record).SerializeToString())


@pytest.mark.parametrize("suffix", ["tfrecord", "tfrecord.gz"])
def test_file_holds_all_rows_of_all_batches(tmp_path, schema, rows, suffix, monkeypatch):
    monkeypatch.setattr("c2al_tf.data.columns.examples._WRITE_ROWS", 7)
    path = tmp_path / f"a.{suffix}"
    empty = {name: values[:0] for name, values in rows(1).items()}
    write_tfrecord(path, [rows(20), empty, rows(3, seed=1)], schema.columns)
    (got,) = read_columns(path, schema.columns)
    for name, values in got.items():
        np.testing.assert_array_equal(values, np.concatenate([rows(20)[name], rows(3, seed=1)[name]]), err_msg=name)


def test_no_rows(tmp_path, schema, rows):
    empty = {name: values[:0] for name, values in rows(1).items()}
    assert to_examples(empty, schema.columns) == []
    for number, batches in enumerate([[], [empty]]):
        path = tmp_path / f"{number}.tfrecord"
        write_tfrecord(path, batches, schema.columns)
        assert count_rows(path) == 0
