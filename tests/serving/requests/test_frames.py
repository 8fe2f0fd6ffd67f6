"""DataFrames and Tables as a batch: what the model makes of them is what it makes of the arrays."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from c2al_serving.client import PredictClient
from c2al_serving.requests.casting import as_array, named_columns


@pytest.fixture(scope="module")
def client(server):
    with PredictClient(f"127.0.0.1:{server.grpc_port}") as client:
        yield client


@pytest.fixture
def frame(export):
    return pd.DataFrame(export.columns | {"tags": export.columns["tags"].tolist()})


@pytest.mark.parametrize(
    "types",
    [
        {},
        {"city": object},
        {"city": "string", "user": "Int64", "price": "Float32"},
        {"city": "category"},
        {"city": pd.ArrowDtype(pa.string()), "user": pd.ArrowDtype(pa.int16()), "price": pd.ArrowDtype(pa.float64())},
    ],
    ids=["as pandas reads it", "objects", "nullable", "categorical", "arrow"],
)
def test_a_dataframe_is_the_arrays(client, export, frame, types):
    np.testing.assert_allclose(client.predict(frame.astype(types))["logits"], export.logits, rtol=1e-6)


def test_rows_are_taken_in_order_whatever_the_index(client, export, frame):
    outputs = client.predict(frame.iloc[::-1])
    np.testing.assert_allclose(outputs["logits"], export.logits[::-1], rtol=1e-6)


@pytest.mark.parametrize("as_dictionary", [False, True])
def test_a_table_is_the_arrays(client, export, as_dictionary):
    table = pa.table(export.columns | {"tags": export.columns["tags"].tolist()})
    if as_dictionary:
        table = table.set_column(0, "city", table["city"].dictionary_encode())
    np.testing.assert_allclose(client.predict(table)["logits"], export.logits, rtol=1e-6)


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (pd.Series([1.5, float("nan")]), [1.5, float("nan")]),
        (pd.Series([3, 1], dtype="category"), [3, 1]),
        (pd.Series([True, False], dtype="boolean"), [True, False]),
        (pd.Series([("a", "b"), np.array(["c", "d"])]), [[b"a", b"b"], [b"c", b"d"]]),
        (pd.Series([], dtype="string"), []),
        (pa.chunked_array([[[1, 2]], [[3, 4]]]), [[1, 2], [3, 4]]),
        (pa.chunked_array([[1.5, float("nan")]]), [1.5, float("nan")]),
    ],
)
def test_columns_as_arrays(column, expected):
    array = as_array("x", column)
    np.testing.assert_array_equal(array, np.array(expected, array.dtype))


@pytest.mark.parametrize(
    "column",
    [
        pd.Series([1, 2, pd.NA], dtype="Int64"),
        pd.Series([1.5, 2.5, None], dtype="Float64"),
        pd.Series([True, False, None], dtype="boolean"),
        pd.Series(["a", "b", None]),
        pd.Series(["a", "b", None], dtype=object),
        pd.Series(["a", "b", float("nan")], dtype="category"),
        pd.Series([["a"], ["b"], None]),
        pd.Series([1, 2, None], index=[7, 8, 9], dtype=pd.ArrowDtype(pa.int64())),
        pa.chunked_array([[1, 2], [None]]),
    ],
    ids=lambda column: str(getattr(column, "dtype", "arrow")),
)
def test_a_missing_value_names_column_and_row(column):
    with pytest.raises(ValueError, match=r"^column 'x': row 2: no value; fill it in first"):
        as_array("x", column)


def test_lists_of_several_lengths_name_column_and_row(client, frame):
    frame["tags"] = [["new"] * (2 if row == 5 else 3) for row in range(len(frame))]
    with pytest.raises(ValueError, match=r"column 'tags': row 5: must have 3 values.* Received: \['new', 'new'\]"):
        client.predict(frame)


def test_other_columns_are_refused_by_name(client, frame):
    frame["label"] = pd.array([None] * len(frame), "Int64")
    with pytest.raises(ValueError, match=r"Unknown: label\. Missing: none\. Inputs: city, price, tags, user"):
        client.predict(frame)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            np.zeros((2, 3)),
            "must be a dict of lists, a DataFrame or a Table. Received: ndarray",
        ),
        (pd.DataFrame(np.zeros((2, 2))), r"must have a string of its own as its name. Received: \[0, 1\]"),
        (pd.DataFrame(np.zeros((2, 2)), columns=["a", "a"]), r"Received: \['a', 'a'\]"),
    ],
)
def test_what_has_no_named_columns(rows, message):
    with pytest.raises(ValueError, match=message):
        named_columns(rows)


def test_a_dataframe_may_have_any_name():
    frame = pd.DataFrame({"columns": [1], "column_names": [2]})
    assert {name: list(column) for name, column in named_columns(frame).items()} == {
        "columns": [1],
        "column_names": [2],
    }
