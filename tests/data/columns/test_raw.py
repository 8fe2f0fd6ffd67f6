import itertools

import numpy as np
import pytest
from hypothesis import given, strategies as st

from c2al_tf.data.columns.raw import as_raw, is_missing, rebatch
from c2al_tf.schema import Column
from c2al_tf.types import MISSING_INT


@given(st.lists(st.integers(0, 12), max_size=8), st.integers(1, 7))
def test_rebatching_keeps_rows_and_order(sizes, size):
    ends = np.cumsum([0, *sizes])
    batches = [{"a": np.arange(i, j), "b": -np.arange(i, j)} for i, j in itertools.pairwise(ends)]
    got = list(rebatch(batches, size))
    rows = sum(sizes)
    assert [len(batch["a"]) for batch in got] == [size] * (rows // size) + [rows % size] * (rows % size > 0)
    assert [value for batch in got for value in batch["a"]] == list(range(rows))
    assert all((batch["a"] == -batch["b"]).all() for batch in got)


def test_missing_values():
    assert is_missing(np.array(["", "a"], object), "string").tolist() == [True, False]
    assert is_missing(np.array([MISSING_INT, 0]), "int64").tolist() == [True, False]
    assert is_missing(np.float32([np.nan, 0]), "float32").tolist() == [True, False]


def test_arrays_in_another_form_become_raw_columns():
    assert as_raw(np.array(["a", "b"]), Column("x", "string"), "s").dtype == object
    assert as_raw(np.array([True, False]), Column("x", "int64"), "s").dtype == np.int64
    assert as_raw(np.array([1, 2], np.int8), Column("x", "float32"), "s").dtype == np.float32
    assert np.isinf(as_raw(np.array([1e300]), Column("x", "float32"), "s"))


@pytest.mark.parametrize(
    ("values", "column"),
    [
        (np.float32([1]), Column("x", "int64")),
        (np.array([1]), Column("x", "string")),
        (np.array(["a"]), Column("x", "float32")),
        (np.array([b"a"], object), Column("x", "string")),
        (np.array([[1]]), Column("x", "int64")),
        (np.array([[1]]), Column("x", "int64", 2)),
        (np.array([1]), Column("x", "int64", 1)),
    ],
)
def test_other_arrays_are_refused(values, column):
    with pytest.raises(ValueError, match=r"train: column `x` must .*Received: "):
        as_raw(values, column, "train")
