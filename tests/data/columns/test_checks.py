import numpy as np
import pytest

from c2al_tf.data.columns.checks import check_columns
from c2al_tf.schema import CategoricalFeature, NumericFeature, Schema
from c2al_tf.types import MISSING_INT

SCHEMA = Schema(
    (
        CategoricalFeature("s", "string", vocabulary=("a",)),
        CategoricalFeature("i", "int64", vocabulary=(1,)),
        CategoricalFeature("m", "int64", vocabulary=(1,), length=2),
        NumericFeature("f"),
        NumericFeature("g", missing="slot"),
        CategoricalFeature("t", "string", vocabulary=("a",), missing="default", default="a"),
    ),
    weight="w",
)


def good():
    return {
        "s": np.array(["a", "b", "c"], object),
        "i": np.array([1, 2, 3]),
        "m": np.array([[1, 2], [1, MISSING_INT], [1, 2]]),
        "f": np.float32([1, 2, 3]),
        "g": np.float32([1, np.nan, 3]),
        "t": np.array(["a", "", "c"], object),
        "label": np.float32([0, 1, 1]),
        "w": np.float32([0, 1, 2.5]),
    }


def test_good_rows_pass():
    check_columns(good(), SCHEMA, "rows")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("s", "", "feature `s` must have a value.*Received: null"),
        ("i", MISSING_INT, "feature `i` must have a value.*Received: null"),
        ("m", [MISSING_INT, MISSING_INT], "feature `m` must have a value"),
        ("f", np.nan, "feature `f` must have a value.*Received: null or NaN"),
        ("f", np.inf, "feature `f` must be finite.*Received: inf"),
        ("g", -np.inf, "feature `g` must be finite.*Received: -inf"),
        ("label", 0.5, "label `label` must be 0 or 1. Received: 0.5"),
        ("label", np.nan, "label `label` must be 0 or 1. Received: null or NaN"),
        ("w", -1, "weight `w` must be finite and at least 0. Received: -1"),
        ("w", np.nan, "weight `w` must be finite and at least 0. Received: null or NaN"),
        ("w", np.inf, "weight `w` must be finite and at least 0. Received: inf"),
    ],
)
def test_bad_value_is_named_with_its_place(name, value, message):
    columns = good()
    columns[name][1] = value
    with pytest.raises(ValueError, match=f"clicks.csv: row 41: {message}"):
        check_columns(columns, SCHEMA, "clicks.csv", first_row=40)
