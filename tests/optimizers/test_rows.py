import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings, strategies as st

from c2al_tf.optimizers.rows import dense, sum_rows


def sums(rows: np.ndarray, values: np.ndarray, num_rows: int) -> np.ndarray:
    total = np.zeros((num_rows, *values.shape[1:]))
    np.add.at(total, rows, values)
    return total


@settings(max_examples=60)
@given(
    rows=st.lists(st.integers(0, 40), min_size=1, max_size=60),
    num_rows=st.sampled_from([41, 200]),
    row=st.sampled_from([(), (1,), (3,), (2, 2)]),
    wide=st.booleans(),
    dtype=st.sampled_from(["float32", "float64"]),
)
def test_every_occurrence_has_the_sums_of_its_row(rows, num_rows, row, wide, dtype) -> None:
    rng = np.random.default_rng(len(rows))
    rows, values = np.array(rows), rng.integers(-8, 8, (len(rows), *row)).astype(dtype)
    start = rng.random((num_rows, *(row if wide else [1] * len(row)))).astype(dtype)
    scratch = tf.Variable(start)
    gradient = sum_rows(tf.IndexedSlices(values, rows), scratch, keep_squares=True)
    total, squares = sums(rows, values, num_rows), sums(rows, values**2, num_rows)
    assert float(gradient.squared_norm) == (total**2).sum()
    if num_rows <= len(rows):
        np.testing.assert_array_equal(gradient.total, total)
        np.testing.assert_array_equal(gradient.squares, squares)
        np.testing.assert_array_equal(np.ravel(gradient.touched), np.isin(np.arange(num_rows), rows))
    else:
        np.testing.assert_array_equal(gradient.total, total[rows])
        np.testing.assert_array_equal(gradient.squares, squares[rows])
        np.testing.assert_array_equal(gradient.scratch, start[rows])
        others = np.setdiff1d(np.arange(num_rows), rows)
        np.testing.assert_array_equal(scratch.numpy()[others], start[others])


@pytest.mark.parametrize("num_rows", [2, 1000])
def test_the_number_of_occurrences_may_be_unknown(num_rows: int) -> None:
    scratch = tf.Variable(tf.ones((num_rows, 1)))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int64), tf.TensorSpec([None, 2])])
    def total(rows, values):
        return sum_rows(tf.IndexedSlices(values, rows), scratch, keep_squares=False).total

    np.testing.assert_array_equal(total([1, 0, 1], np.eye(3, 2)), [[1, 0], [0, 1], [1, 0]])


def test_a_row_that_is_not_a_number_leaves_the_others_alone() -> None:
    scratch = tf.Variable([[np.nan], [0.0], [0.0], [0.0]])
    gradient = sum_rows(tf.IndexedSlices([[1.0], [2.0], [4.0]], [1, 0, 0]), scratch, keep_squares=False)
    np.testing.assert_array_equal(gradient.total, [[1.0], [6.0], [6.0]])


def test_more_occurrences_than_a_float_counts() -> None:
    """2^24 + 1 is no float32: the numbers are kept as bits."""
    number = 2**24 + 3
    rows = np.zeros(number, np.int32)
    rows[-1] = 1
    values = np.zeros((number, 1), np.float32)
    values[-1] = 5.0
    gradient = sum_rows(tf.IndexedSlices(values, rows), tf.Variable(tf.zeros((number + 1, 1))), keep_squares=False)
    assert gradient.total[0] == 0
    assert gradient.total[-1] == 5


def test_a_factor_scales_sums_and_squares() -> None:
    slices = tf.IndexedSlices(tf.constant([[2.0], [4.0]]), tf.constant([3, 3]))
    gradient = sum_rows(slices, tf.Variable(tf.zeros((9, 1))), keep_squares=True).scaled(tf.constant(0.5))
    np.testing.assert_array_equal(gradient.total, [[3.0], [3.0]])
    np.testing.assert_array_equal(gradient.squares, [[5.0], [5.0]])
    assert dense(tf.constant([3.0, 4.0])).scaled(tf.constant(2.0)).squares is None
