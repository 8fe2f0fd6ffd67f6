import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as hnp

from c2al_tf.cohorts import Cohort, Interval, Values
from c2al_tf.data.inputs.labels import add_cohort_labels, cohort_labels
from c2al_tf.types import MISSING_INT

YOUNG = Cohort("young", (Interval("age", 18, 25),))
ROMANS = Cohort("romans", (Values("city", ("rome", "ostia")),))
BOTH = Cohort("both", (Interval("age", 18, 25), Values("surface", (1,))))

AGE = np.float32([17, 18, 24.9, 25, np.nan, 20])
CITY = np.array(["rome", "ostia", "bonn", "rome", "", "bonn"], object)
SURFACE = np.array([1, 1, 2, 1, MISSING_INT, 1])
COLUMNS = {"age": AGE, "city": CITY, "surface": SURFACE}
LABEL = np.float32([1, 1, 1, 1, 1, 0])


def dataset(label, *weight, batch=2):
    return tf.data.Dataset.from_tensor_slices((COLUMNS, label, *weight)).batch(batch)


def labels_of(data):
    batches = [element[1] for element in data.as_numpy_iterator()]
    return {task: np.concatenate([batch[task] for batch in batches]) for task in batches[0]}


def test_labels_by_hand():
    labels = cohort_labels(COLUMNS, LABEL, [YOUNG, ROMANS, BOTH])
    assert {name: y.tolist() for name, y in labels.items()} == {
        "young": [0, 1, 1, 0, 0, 0],
        "romans": [1, 1, 0, 1, 0, 0],
        "both": [0, 1, 0, 0, 0, 0],
    }
    assert labels["young"].dtype == np.float32


@settings(max_examples=50)
@given(
    hnp.arrays(np.float32, 20, elements=st.floats(0, 40, width=32) | st.sampled_from([18.0, 25.0, float("nan")])),
    hnp.arrays(np.int64, 20, elements=st.sampled_from([0, 1, 2, MISSING_INT])),
    hnp.arrays(np.float32, 20, elements=st.sampled_from([0.0, 1.0])),
)
def test_numpy_and_tf_data_agree(age, surface, label):
    columns = {"age": age, "surface": surface, "city": np.resize(CITY, 20)}
    cohorts = [YOUNG, ROMANS, BOTH]
    plain = cohort_labels(columns, label, cohorts)
    data = tf.data.Dataset.from_tensors((columns, label))
    graph = labels_of(add_cohort_labels(data, cohorts))
    for cohort in cohorts:
        np.testing.assert_array_equal(graph[cohort.name][:, 0], plain[cohort.name])


@pytest.mark.parametrize("shape", [(6,), (6, 1)])
@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.bool_])
def test_any_dataset_of_batches(shape, dtype):
    data = add_cohort_labels(dataset(LABEL.reshape(shape).astype(dtype)), [YOUNG, ROMANS])
    labels = labels_of(data)
    assert list(labels) == ["primary", "young", "romans"]
    np.testing.assert_array_equal(labels["primary"][:, 0], LABEL)
    np.testing.assert_array_equal(labels["young"][:, 0], cohort_labels(COLUMNS, LABEL, [YOUNG])["young"])
    assert data.element_spec[1]["young"] == tf.TensorSpec((None, 1), tf.float32)


def test_features_and_weights_pass_unchanged():
    weight = np.arange(6, dtype=np.float32)
    elements = list(add_cohort_labels(dataset(LABEL, weight), [YOUNG]).as_numpy_iterator())
    assert len(elements[0]) == 3
    np.testing.assert_array_equal(np.concatenate([e[2] for e in elements]), weight)
    np.testing.assert_array_equal(np.concatenate([e[0]["age"] for e in elements]), AGE)


def test_several_primary_tasks():
    click, buy = LABEL, 1 - LABEL
    data = dataset({"click": click, "buy": buy})
    for primary, label in (("click", click), ("buy", buy)):
        labels = labels_of(add_cohort_labels(data, [YOUNG], primary=primary))
        assert list(labels) == ["click", "buy", "young"] or list(labels) == ["buy", "click", "young"]
        np.testing.assert_array_equal(labels["buy"][:, 0], buy)
        np.testing.assert_array_equal(labels["young"][:, 0], cohort_labels(COLUMNS, label, [YOUNG])["young"])
    with pytest.raises(ValueError, match=r"`primary` must be one of \['buy', 'click'\]. Received: primary='sale'"):
        add_cohort_labels(data, [YOUNG], primary="sale")


def test_cohort_on_a_column_that_the_data_lacks():
    cohort = Cohort("rich", (Interval("income", 10),))
    with pytest.raises(ValueError, match=r"Cohort `rich`.*'income'; there are \['age', 'city', 'surface'\]"):
        add_cohort_labels(dataset(LABEL), [cohort])


def test_two_tasks_of_one_name():
    with pytest.raises(ValueError, match=r"name of its own.*Received: cohort named 'young'"):
        add_cohort_labels(dataset(LABEL), [YOUNG, YOUNG])
    with pytest.raises(ValueError, match="Received: cohort named 'young'"):
        add_cohort_labels(dataset({"young": LABEL}), [YOUNG])


@pytest.mark.parametrize("label", [CITY, np.ones((6, 2), np.float32), np.ones((6, 1, 1), np.float32)])
def test_label_of_wrong_type_or_shape(label):
    with pytest.raises(ValueError, match=r"Label `primary` must be numbers of shape \(batch,\) or \(batch, 1\)"):
        add_cohort_labels(dataset(label), [YOUNG])


def test_dataset_of_another_form():
    single = tf.data.Dataset.from_tensor_slices((COLUMNS, LABEL))
    with pytest.raises(ValueError, match="batch the dataset first"):
        add_cohort_labels(single, [YOUNG])
    with pytest.raises(ValueError, match="must have elements"):
        add_cohort_labels(tf.data.Dataset.from_tensors(COLUMNS), [YOUNG])
    with pytest.raises(ValueError, match="must have elements"):
        add_cohort_labels(tf.data.Dataset.from_tensors((AGE, LABEL)), [YOUNG])
