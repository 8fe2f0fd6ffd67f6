import json

import numpy as np
import pytest
import tensorflow as tf

from c2al_tf.cohorts import Cohort, Interval, Values

YOUNG_WOMEN = Cohort("young_women", (Interval("age", 18, 25), Values("sex", ("Female",))))
TOP = Cohort("top", (Interval("value", 0.1, quantiles=(0.95, 1)),))
COLUMNS = {
    "age": np.array([17, 18, 24, 24, 25]),
    "sex": np.array(["Female", "Female", "Female", "Male", ""], dtype=object),
    "value": np.array([0.1, np.nan, 0.2, 0.0, 7.0], np.float32),
}


@pytest.mark.parametrize(
    ("cohort", "rows"), [(YOUNG_WOMEN, [False, True, True, False, False]), (TOP, [True, False, True, False, True])]
)
def test_the_same_rows_in_numpy_and_in_tf_data(cohort, rows):
    assert cohort.contains(COLUMNS).tolist() == rows
    tensors = {name: tf.constant(column.tolist(), tf.as_dtype(column.dtype)) for name, column in COLUMNS.items()}
    batches = tf.data.Dataset.from_tensor_slices(tensors).batch(2).map(cohort.contains)
    assert np.concatenate(list(batches.as_numpy_iterator())).tolist() == rows


def test_a_cross_is_read_in_words():
    assert str(YOUNG_WOMEN) == "age in [18, 25) and sex is Female"
    assert YOUNG_WOMEN.columns == ("age", "sex")


@pytest.mark.parametrize("cohort", [YOUNG_WOMEN, TOP, Cohort("codes", (Values("code", (3, -1)),))])
def test_json_round_trip(cohort):
    again = Cohort.from_json(json.loads(json.dumps(cohort.to_json(), allow_nan=False)))
    assert again == cohort
    assert hash(again) == hash(cohort)


@pytest.mark.parametrize("name", ["", "primary", "a b", "a/b", "_a", 5])
def test_wrong_names(name):
    with pytest.raises(ValueError, match="Received: name="):
        Cohort(name, TOP.conditions)


def test_wrong_conditions():
    with pytest.raises(ValueError, match="each on a column of its own"):
        Cohort("empty", ())
    with pytest.raises(ValueError, match="each on a column of its own"):
        Cohort("twice", (Interval("age", 0, 1), Interval("age", 1, 2)))


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ([], "must be an object"),
        ({"name": "a"}, r"missing: \['conditions'\]"),
        ({"name": "a", "conditions": [], "colour": 1}, r"Unknown: \['colour'\]"),
        ({"name": "a", "conditions": [{"column": "x", "values": ["b"], "low": 1}]}, r"Unknown: \['low'\]"),
        ({"name": "a", "conditions": [{"column": "x", "values": "b"}]}, "must be a list"),
        ({"name": "a", "conditions": [{"column": "x", "lo": 1, "high": 2}]}, r"Unknown: \['lo'\], missing: \['low'\]"),
        ({"name": "a", "conditions": [{"column": "x", "low": "1", "high": 2}]}, "must be numbers"),
    ],
)
def test_wrong_json(wrong, match):
    with pytest.raises(ValueError, match=match):
        Cohort.from_json(wrong)
