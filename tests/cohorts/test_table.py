import re

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from c2al_tf.cohorts import Cohort, Interval, Values, raw_column, raw_columns
from c2al_tf.types import MISSING_INT

NAN = float("nan")
TEXT, BYTES = ["é", "", "bonn"], ["é".encode(), b"", b"bonn"]
NULL_TEXT = ["é", None, "bonn"]
FORMS = {
    "string": {
        "objects": np.array(TEXT, object),
        "objects (rows, 1)": np.array(TEXT, object)[:, None],
        "objects with None": np.array(NULL_TEXT, object),
        "objects with NaN": np.array(["é", NAN, "bonn"], object),
        "bytes": np.array(BYTES, object),
        "bytes and text": np.array([BYTES[0], np.str_(""), "bonn"], object),
        "U": np.array(TEXT),
        "S": np.array(BYTES),
        "T": np.array(TEXT, np.dtypes.StringDType()),
        "list": NULL_TEXT,
        "list of lists": [[text] for text in NULL_TEXT],
        "Series": pd.Series(NULL_TEXT),
        "Series of objects": pd.Series(NULL_TEXT, dtype=object),
        "Series of string": pd.Series(NULL_TEXT, dtype="string"),
        "Categorical": pd.Categorical(NULL_TEXT),
        "Series of categories": pd.Series(NULL_TEXT, dtype="category"),
        "Index": pd.Index(NULL_TEXT),
        "tensor": tf.constant(TEXT),
        "tensor (rows, 1)": tf.constant(TEXT)[:, None],
    },
    "integer": {
        "array": np.array([1, MISSING_INT, 3]),
        "list": [1, None, 3],
        "tuple": (np.int8(1), None, 3),
        "objects": np.array([1, pd.NA, 3], object),
        "Int64": pd.Series([1, None, 3], dtype="Int64"),
        "UInt8": pd.array([1, None, 3], dtype="UInt8"),
        "categories": pd.Categorical([1, None, 3], categories=np.array([3, 1], np.int8)),
        "tensor (rows, 1)": tf.constant([[1], [MISSING_INT], [3]], tf.int64),
    },
    "float": {
        "array (rows, 1)": np.array([[1.0], [NAN], [3.0]], np.float32),
        "list": [1, None, 3.0],
        "objects": np.array([np.float32(1), NAN, 3], object),
        "Series": pd.Series([1, None, 3]),
        "Float32": pd.Series([1, None, 3], dtype="Float32"),
        "categories": pd.Series([1.0, None, 3.0], dtype="category"),
        "tensor": tf.constant([1.0, NAN, 3.0]),
    },
    "boolean": {
        "array": np.array([True, False, True]),
        "list": [True, False, True],
        "boolean": pd.Series([True, False, True], dtype="boolean"),
        "categories": pd.Categorical([True, False, True]),
        "tensor (rows, 1)": tf.constant([[True], [False], [True]]),
    },
}
COHORTS = {
    "string": Cohort("c", (Values("x", ("é", "rome")),)),
    "integer": Cohort("c", (Interval("x", high=2),)),
    "float": Cohort("c", (Interval("x", high=2),)),
    "boolean": Cohort("c", (Values("x", (True,)),)),
}


@pytest.mark.parametrize(("kind", "form"), [(kind, form) for kind, forms in FORMS.items() for form in forms])
def test_every_form_holds_the_same_values(kind, form):
    plain = {"string": np.array(TEXT, object), "integer": [1, MISSING_INT, 3], "float": [1, NAN, 3]}
    given = FORMS[kind][form]
    read = raw_columns({"x": given}, ["x"])["x"]
    assert read.kind == raw_column({"x": given}, "x").kind == kind
    np.testing.assert_array_equal(read.values, plain.get(kind, [True, False, True]))
    expected = [True, False, kind == "boolean"]
    assert np.asarray(COHORTS[kind].contains({"x": given})).tolist() == expected
    assert COHORTS[kind].contains({"x": read}).tolist() == expected
    frame = pd.DataFrame({"x": given}) if isinstance(given, pd.Series) else {"x": given}
    assert np.asarray(COHORTS[kind].contains({"user": {"x": given}} | dict(frame))).tolist() == expected


def test_integers_without_a_missing_value_keep_their_type():
    column = raw_columns({"x": pd.Series([2**64 - 1], dtype="UInt64")}, ["x"])["x"].values
    assert (column.dtype, column.tolist()) == (np.uint64, [2**64 - 1])


def test_columns_of_dicts_are_found_by_path():
    columns = {"user": {"age": np.array([1, 5])}, "user/sex": np.array(["m", "f"])}
    assert Cohort("c", (Interval("user/age", 2), Values("user/sex", ("f",)))).contains(columns).tolist() == [
        False,
        True,
    ]
    for name in ("age", "user", "user/age/x"):
        with pytest.raises(ValueError, match=f"No column `{name}` in the data. Columns there: user/age, user/sex"):
            raw_column(columns, name)


def test_no_values_are_strings():
    assert raw_column({"x": []}, "x").kind == raw_column({"x": [None]}, "x").kind == "string"


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ([b"\xff"], r"Column `x` must hold text, its bytes in UTF-8. Received: b'\xff'"),
        (["a", 1], "Column `x` must hold strings, integers, booleans or floats, all of one type. Received: int, str"),
        ([True, 1], "all of one type. Received: bool, int"),
        ([{"a": 1}], "all of one type. Received: dict"),
        ([["a", "b"]], "must have one value per row, shape (rows,) or (rows, 1); multi-valued columns are not cut. "),
        (np.zeros(()), "Received: column `x` of shape ()"),
        ([True, None], "Column `x` must have a value in every row, since booleans have none for a missing one."),
        (pd.Series([True, None], dtype="boolean"), "Column `x` must have a value in every row"),
        (pd.Categorical([True, None]), "Column `x` must have a value in every row"),
        (pd.Series(pd.to_datetime(["2020-01-01"])), "Column `x` must hold strings, integers, booleans or floats."),
    ],
)
def test_columns_that_cannot_be_read(column, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        raw_columns({"x": column}, ["x"])
