import math

import hypothesis.strategies as st
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings

from c2al_tf.cohorts import Interval, Values
from c2al_tf.types import MISSING_INT

# TensorFlow takes a float32 below the smallest normal one, 1.2e-38, for 0; NumPy does not.
FLOATS = st.floats(width=32, allow_infinity=False, allow_subnormal=False)
EDGES = st.floats(-1e30, 1e30, allow_nan=False).filter(lambda edge: edge == 0 or abs(edge) > 1.2e-38)


def both(condition, column):
    """Membership by NumPy, after checking that TensorFlow gives the same, eagerly and in a graph."""
    expected = condition.contains({"x": column})
    tensor = tf.constant(column.tolist() if column.dtype == object else column)
    graph = tf.function(lambda x: condition.contains({"x": x}), input_signature=[tf.TensorSpec([None], tensor.dtype)])
    assert expected.dtype == bool
    np.testing.assert_array_equal(condition.contains({"x": tensor}).numpy(), expected)
    np.testing.assert_array_equal(graph(tensor).numpy(), expected)
    return expected.tolist()


@pytest.mark.parametrize("dtype", [object, "U10"])
def test_values_of_strings(dtype):
    column = np.array(["a", "", "é", "b", "a"], dtype=dtype)
    assert both(Values("x", ("a", "é")), column) == [True, False, True, False, True]


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.float32])
def test_values_of_numbers(dtype):
    column = np.array([1, 2, 3, -7], dtype)
    assert both(Values("x", (2, -7)), column) == [False, True, False, True]


def test_a_missing_value_is_in_no_condition():
    integers = np.array([MISSING_INT, 0, 5])
    floats = np.array([np.nan, -np.inf, 5], np.float32)
    assert both(Interval("x"), integers) == [False, True, True]
    assert both(Interval("x", high=3), integers) == [False, True, False]
    assert both(Interval("x"), floats) == [False, True, True]
    assert both(Interval("x", high=3), floats) == [False, True, False]
    assert both(Values("x", (5,)), floats) == [False, False, True]


def test_an_interval_includes_its_low_edge_only():
    for dtype in (np.float32, np.float64, np.int64):
        assert both(Interval("x", 1, 3), np.array([0, 1, 2, 3], dtype)) == [False, True, True, False]


def test_an_edge_is_rounded_to_the_column():
    # 0.1 is no float32: the column holds 0.100000001, and 0.1 as an edge must not lie beside it.
    column = np.array([0.1, np.nextafter(np.float32(0.1), np.float32(0))], np.float32)
    assert both(Interval("x", 0.1), column) == [True, False]
    assert both(Interval("x", high=0.1), column) == [False, True]
    assert both(Interval("x", np.float64(0.1), np.float64(1)), column) == [True, False]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_infinite_values_are_in_the_interval_that_is_open_at_their_end(dtype):
    column = np.array([-np.inf, 0, np.inf, np.nan], dtype)
    assert both(Interval("x"), column) == [True, True, True, False]
    assert both(Interval("x", low=1), column) == [False, False, True, False]
    assert both(Interval("x", high=1), column) == [True, True, False, False]
    assert both(Interval("x", -1, 1), column) == [False, True, False, False]


def test_booleans():
    assert both(Values("x", (True,)), np.array([True, False])) == [True, False]
    assert both(Values("x", (False, True)), np.array([True, False])) == [True, True]


def test_edges_between_integers():
    assert both(Interval("x", 0.5, 2.5), np.array([0, 1, 2, 3])) == [False, True, True, False]
    assert both(Interval("x", -0.5, 0.5), np.array([-1, 0, 1], np.int32)) == [False, True, False]


def test_edges_beyond_an_integer_type():
    column = np.array([2**31 - 1, -(2**31)], np.int32)
    assert both(Interval("x", 1e12), column) == [False, False]
    assert both(Interval("x", -1e25, 1e25), column) == [True, True]
    assert both(Interval("x", 1e25), np.array([2**63 - 1])) == [False]


@settings(max_examples=50)
@given(st.lists(FLOATS, min_size=1, max_size=20), EDGES, EDGES)
def test_numpy_and_tensors_agree_on_floats(values, a, b):
    if a < b:
        both(Interval("x", a, b), np.array([*values, a, b, np.nan], np.float32))


@settings(max_examples=50)
@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=20), EDGES, EDGES)
def test_numpy_and_tensors_agree_on_integers(values, a, b):
    if a < b:
        inside = both(Interval("x", a, b), np.array(values))
        assert inside == [value != MISSING_INT and a <= value < b for value in values]


@settings(max_examples=50)
@given(st.lists(st.text(alphabet="ab é", max_size=2), min_size=1), st.sets(st.text("ab é", min_size=1, max_size=2)))
def test_numpy_and_tensors_agree_on_strings(column, values):
    if values:
        inside = both(Values("x", tuple(values)), np.array(column, dtype=object))
        assert inside == [value in values for value in column]


@pytest.mark.parametrize(
    ("condition", "text"),
    [
        (Values("sex", ("Female",)), "sex is Female"),
        (Values("job", ("a", "b")), "job in {a, b}"),
        (Interval("age", 0, 18), "age in [0, 18)"),
        (Interval("age", high=18.5), "age below 18.5"),
        (Interval("age", low=0.1), "age from 0.1"),
        (Interval("age"), "age present"),
        (Interval("value", 12.5, quantiles=(0.95, 1)), "value in top 5 % (from 12.5)"),
        (Interval("value", high=3, quantiles=(0, 0.05)), "value in bottom 5 % (below 3)"),
        (Interval("v", 3, 9, (0.25, 0.75)), "v between quantiles 25 % and 75 % (in [3, 9))"),
    ],
)
def test_description(condition, text):
    assert str(condition) == text


@pytest.mark.parametrize("values", [(), (1, "a"), (1.5,), (True, 1), ("a", "a"), ("",), (MISSING_INT,), (None,)])
def test_wrong_values(values):
    with pytest.raises(ValueError, match=r"`values` of column `x` must be .* Received: values="):
        Values("x", values)


@pytest.mark.parametrize(("low", "high"), [(1, 1), (2, 1), (math.nan, 1), (0, 1e39), (-1e39, 0), (math.inf, math.inf)])
def test_wrong_edges(low, high):
    with pytest.raises(ValueError, match="low < high"):
        Interval("x", low, high)


@pytest.mark.parametrize("quantiles", [(0.5, 0.5), (-0.1, 0.5), (0.5, 1.1)])
def test_wrong_quantiles(quantiles):
    with pytest.raises(ValueError, match="two rising shares"):
        Interval("x", 0, 1, quantiles)


def test_an_absent_column_lists_those_present():
    for columns in ({"age": np.zeros(2), "sex": np.zeros(2)}, {"age": tf.zeros(2), "sex": tf.zeros(2)}):
        with pytest.raises(ValueError, match=r"No column `x` in the data\. Columns there: age, sex"):
            Interval("x", 0, 1).contains(columns)


def test_a_multi_valued_column_is_refused():
    column = np.array([["a", "b"], ["c", ""]])
    for values in (column, tf.constant(column), tf.ragged.constant([["a"], ["b", "c"]])):
        with pytest.raises(ValueError, match=r"one value per row.*Received: column `x` of shape \(2, "):
            Values("x", ("a",)).contains({"x": values})


def test_types_that_do_not_fit():
    strings, numbers = np.array(["1", "2"], dtype=object), np.array([1, 2])
    for column in (strings, tf.constant(strings.tolist())):
        with pytest.raises(ValueError, match="needs a numeric column"):
            Interval("x", 0, 1).contains({"x": column})
        with pytest.raises(ValueError, match="holds string values"):
            Values("x", (1,)).contains({"x": column})
    for column in (numbers, tf.constant(numbers)):
        with pytest.raises(ValueError, match="holds integer values"):
            Values("x", ("1",)).contains({"x": column})
    for column in (np.array([True]), tf.constant([True])):
        with pytest.raises(ValueError, match="holds boolean values"):
            Values("x", (1,)).contains({"x": column})
        with pytest.raises(ValueError, match="needs a numeric column. Column `x` holds boolean values"):
            Interval("x", 0, 1).contains({"x": column})
    with pytest.raises(ValueError, match="holds integer values"):
        Values("x", (True,)).contains({"x": numbers})
    with pytest.raises(ValueError, match="Received: dtype complex128"):
        Values("x", (1,)).contains({"x": np.array([1j])})
