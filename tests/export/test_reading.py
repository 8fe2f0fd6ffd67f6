"""Columns of any number of values in an export that takes tf.Examples."""

import numpy as np
import pytest
import tensorflow as tf

from c2al_tf.export.reading import by_model
from c2al_tf.types import MISSING_INT

COLUMNS = {
    "ids": np.array([[7, 8], [9, MISSING_INT], [MISSING_INT, MISSING_INT]]),
    "hours": np.array([[40.0], [np.nan], [38.0]], np.float32),
    "tags": np.array([[b"a", b""], [b"", b""], [b"b", b"c"]], object),
}
PARSING = {
    "ids": tf.io.VarLenFeature(tf.int64),
    "hours": tf.io.VarLenFeature(tf.float32),
    "tags": tf.io.VarLenFeature(tf.string),
}


def test_cells_without_a_value_are_absent_from_examples_and_come_back() -> None:
    reading = by_model(None, COLUMNS, dict, PARSING)
    examples = reading.write(COLUMNS)
    stored = [tf.train.Example.FromString(example).features.feature for example in examples]
    assert [list(row["ids"].int64_list.value) for row in stored] == [[7, 8], [9], []]
    assert [list(row["hours"].float_list.value) for row in stored] == [[40.0], [], [38.0]]
    assert [list(row["tags"].bytes_list.value) for row in stored] == [[b"a"], [], [b"b", b"c"]]
    for name, values in reading.parse(tf.constant(examples)).items():
        np.testing.assert_array_equal(values, COLUMNS[name])


def test_a_column_of_any_number_of_values_is_a_matrix() -> None:
    reading = by_model(None, {"tags": np.array(["a"], object)}, dict, PARSING)
    with pytest.raises(ValueError, match=r"must be string of shape \(None, None\)"):
        reading.columns({"tags": np.array(["a"], object)})
