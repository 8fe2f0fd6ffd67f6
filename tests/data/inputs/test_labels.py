import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from c2al_tf.cohorts import Cohort, Interval, Values
from c2al_tf.data.inputs.labels import cohort_labels, task_weights
from c2al_tf.types import MISSING_INT

YOUNG = Cohort("young", (Interval("age", 18, 25),))
ROMANS = Cohort("romans", (Values("city", ("rome", "ostia")),))
BOTH = Cohort("both", (Interval("age", 18, 25), Values("surface", (1,))))

AGE = np.float32([17, 18, 24.9, 25, np.nan, 20])
CITY = np.array(["rome", "ostia", "bonn", "rome", "", "bonn"], object)
SURFACE = np.array([1, 1, 2, 1, MISSING_INT, 1])
COLUMNS = {"age": AGE, "city": CITY, "surface": SURFACE}
LABEL = np.float32([1, 1, 1, 1, 1, 0])


def test_labels_by_hand():
    labels = cohort_labels(COLUMNS, LABEL, [YOUNG, ROMANS, BOTH])
    assert {name: y.tolist() for name, y in labels.items()} == {
        "young": [0, 1, 1, 0, 0, 0],
        "romans": [1, 1, 0, 1, 0, 0],
        "both": [0, 1, 0, 0, 0, 0],
    }
    assert labels["young"].dtype == np.float32


def test_other_designs_by_hand():
    label = np.float32([1, 0, 1, 1, 1, 0])
    young = [False, True, True, False, False, True]
    assert cohort_labels(COLUMNS, label, [YOUNG], "membership")["young"].tolist() == young
    assert cohort_labels(COLUMNS, label, [YOUNG], "masked")["young"].tolist() == label.tolist()
    weight = np.float32([2, 3, 4, 5, 6, 7])
    assert task_weights(weight, np.array(young), "masked").tolist() == [0, 3, 4, 0, 0, 7]
    assert task_weights(weight, np.array(young), "conflict").tolist() == weight.tolist()
    with pytest.raises(ValueError, match="`design` must be one of .*'masked'.*Received: design='mask'"):
        cohort_labels(COLUMNS, label, [YOUNG], "mask")


@pytest.mark.parametrize(
    ("columns", "label"),
    [
        (COLUMNS, LABEL.tolist()),
        (pd.DataFrame(COLUMNS), pd.Series(LABEL)),
        ({name: column[:, None] for name, column in COLUMNS.items()}, LABEL[:, None]),
        ({name: tf.constant(column.tolist()) for name, column in COLUMNS.items()}, tf.constant(LABEL[:, None])),
        ({name: tf.constant(column.tolist()) for name, column in COLUMNS.items()}, LABEL),
    ],
)
def test_columns_and_labels_in_other_forms(columns, label):
    expected = cohort_labels(COLUMNS, LABEL, [YOUNG, ROMANS, BOTH])
    for name, labels in cohort_labels(columns, label, [YOUNG, ROMANS, BOTH]).items():
        assert tuple(labels.shape) == (6,)
        np.testing.assert_array_equal(labels, expected[name])


def test_labels_that_are_not_0_or_1():
    for wrong in (5.0, -1.0, 0.5, np.nan):
        with pytest.raises(ValueError, match=f"`label` must be 0 or 1. Received: {wrong} in row 4"):
            cohort_labels(COLUMNS, np.float32([1, 0, 1, 0, wrong, 1]), [YOUNG])


def test_without_tensorflow(run_python):
    code = """
import sys
sys.modules["tensorflow"] = None
import c2al_tf
young = c2al_tf.Cohort("young", (c2al_tf.Interval("age", 18, 25),))
print(c2al_tf.cohort_labels({"age": [17, 20, 20]}, [1, 1, 0], [young])["young"].tolist())
"""
    assert run_python(code).stdout == "[0, 1, 0]\n"
