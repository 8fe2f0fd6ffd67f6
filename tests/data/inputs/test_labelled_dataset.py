import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as hnp

from c2al_tf.cohorts import Cohort, Interval, Values
from c2al_tf.data.inputs.labelled_dataset import add_cohort_labels
from c2al_tf.data.inputs.labelling import features_of
from c2al_tf.data.inputs.labels import cohort_labels
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


def mapped(data, function):
    """Without AutoGraph, which parses this whole file for each lambda."""
    return data.map(tf.autograph.experimental.do_not_convert(function))


def labels_of(data):
    batches = [element[1] for element in data.as_numpy_iterator()]
    return {task: np.concatenate([batch[task] for batch in batches]) for task in batches[0]}


@pytest.mark.parametrize("weight", [(), (np.float32([2, 3, 4, 5, 6, 7]),)])
def test_designs_in_a_dataset(weight):
    label = np.float32([1, 0, 1, 1, 1, 0])
    given = weight[0] if weight else np.ones(6)
    members = add_cohort_labels(dataset(label, *weight), [YOUNG], design="membership")
    assert labels_of(members)["young"][:, 0].tolist() == [0, 1, 1, 0, 0, 1]
    batches = list(add_cohort_labels(dataset(label, *weight), [YOUNG], design="masked").as_numpy_iterator())
    by_task = {task: np.concatenate([batch[2][task] for batch in batches]) for task in ("primary", "young")}
    assert by_task["primary"].tolist() == given.tolist()
    assert by_task["young"].tolist() == (given * [0, 1, 1, 0, 0, 1]).tolist()
    assert np.concatenate([batch[1]["young"] for batch in batches])[:, 0].tolist() == label.tolist()


@settings(max_examples=5)  # of many rows each: tracing a graph takes longer than all of its rows
@given(
    hnp.arrays(np.float32, 200, elements=st.floats(0, 40, width=32) | st.sampled_from([18.0, 25.0, float("nan")])),
    hnp.arrays(np.int64, 200, elements=st.sampled_from([0, 1, 2, MISSING_INT])),
    hnp.arrays(np.float32, 200, elements=st.sampled_from([0.0, 1.0])),
)
def test_numpy_and_tf_data_agree(age, surface, label):
    columns = {"age": age, "surface": surface, "city": np.resize(CITY, 200)}
    cohorts = [YOUNG, ROMANS, BOTH]
    plain = cohort_labels(columns, label, cohorts)
    data = tf.data.Dataset.from_tensors((columns, label))
    graph = labels_of(add_cohort_labels(data, cohorts))
    for cohort in cohorts:
        np.testing.assert_array_equal(graph[cohort.name][:, 0], plain[cohort.name])


@pytest.mark.parametrize("shape", [(6,), (6, 1)])
@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.bool_])
def test_the_primary_label_stays_as_it_is(shape, dtype):
    label = LABEL.reshape(shape).astype(dtype)
    data = add_cohort_labels(dataset(label), [YOUNG, ROMANS])
    labels = labels_of(data)
    assert list(labels) == ["primary", "young", "romans"]
    assert labels["primary"].dtype == dtype
    np.testing.assert_array_equal(labels["primary"], label)
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
        np.testing.assert_array_equal(labels["buy"], buy)
        np.testing.assert_array_equal(labels["young"][:, 0], cohort_labels(COLUMNS, label, [YOUNG])["young"])
    with pytest.raises(ValueError, match=r"`primary` must be one of \['buy', 'click'\]. Received: primary='sale'"):
        add_cohort_labels(data, [YOUNG], primary="sale")
    with pytest.raises(ValueError, match="Received: primary='primary'"):  # tf.data sorts: none is the first
        add_cohort_labels(data, [YOUNG])
    labels = labels_of(add_cohort_labels(dataset({"another": buy, "primary": click}), [YOUNG]))
    np.testing.assert_array_equal(labels["young"][:, 0], cohort_labels(COLUMNS, click, [YOUNG])["young"])


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


@pytest.mark.parametrize(
    ("element", "options"),
    [
        (COLUMNS, {}),
        ((AGE, LABEL), {}),
        ((COLUMNS, LABEL), {"label_key": "label"}),
        (CITY, {"label_key": "label"}),
    ],
)
def test_dataset_of_another_form(element, options):
    with pytest.raises(ValueError, match="`dataset` must have elements .* with `label_key`; .* Received: label_key="):
        add_cohort_labels(tf.data.Dataset.from_tensors(element), [YOUNG], **options)


@pytest.mark.parametrize("wrong", [5.0, -1.0, 0.5, np.nan])
def test_labels_that_are_not_0_or_1(wrong):
    ratings = np.float32([1, 0, 1, 0, wrong, 1])
    data = add_cohort_labels(dataset({"click": ratings, "rating": ratings}), [YOUNG], primary="click")
    with pytest.raises(
        tf.errors.InvalidArgumentError, match=rf"Label `click`.*must be 0 or 1. Received:\] \[{wrong:g}\]"
    ):
        list(data)


def test_another_primary_task_may_be_no_classes():
    labels = labels_of(add_cohort_labels(dataset({"click": LABEL, "rating": 5 * LABEL}), [YOUNG], primary="click"))
    np.testing.assert_array_equal(labels["rating"], 5 * LABEL)


def test_an_iterator_with_the_check_can_be_saved(tmp_path):
    iterator = iter(add_cohort_labels(dataset(LABEL), [YOUNG]))
    next(iterator)
    tf.train.Checkpoint(iterator=iterator).save(tmp_path / "iterator")


def age_model(inputs):
    """A model of `age` and `surface`, its inputs a dict, a list, or one."""
    age, surface = keras.Input((), name="age"), keras.Input((), name="surface")
    x = {"dict": {"surface": surface, "age": age}, "list": [surface, age], "one": age, "sequential": age}[inputs]
    if inputs == "sequential":
        return keras.Sequential([age, keras.layers.Reshape((1,)), keras.layers.Dense(1)])
    return keras.Model(x, keras.layers.Dense(1)(keras.layers.Reshape((1,))(age)))


@pytest.mark.parametrize(
    ("keep", "names"),
    [
        ("dict", ["age", "surface"]),
        ("list", ["age", "surface"]),
        ("one", ["age"]),
        ("sequential", ["age"]),
        (("city",), ["city"]),
        ("age", ["age"]),
    ],
)
def test_only_what_the_model_reads_is_kept(keep, names):
    keep = age_model(keep) if keep in ("dict", "list", "one", "sequential") else keep
    data = add_cohort_labels(dataset(LABEL), [YOUNG, ROMANS], keep=keep)
    assert sorted(data.element_spec[0]) == names
    np.testing.assert_array_equal(labels_of(data)["romans"][:, 0], [1, 1, 0, 1, 0, 0])
    for x, _ in data.take(1):
        assert names == ["city"] or x["age"].numpy().tolist() == AGE[:2].tolist()


def test_keep_of_what_is_not_there():
    for keep, received in ((["income", "age"], "income"), (age_model("dict"), "surface"), ([], "")):
        data = mapped(dataset(LABEL), lambda x, y: ({"age": x["age"], "city": x["city"]}, y))
        with pytest.raises(
            ValueError, match=rf"`keep` must be .*Received: \[.*{received}.*there are \['age', 'city'\]"
        ):
            add_cohort_labels(data, [YOUNG], keep=keep)


def test_columns_may_come_from_anywhere():
    features = tf.data.Dataset.from_tensor_slices((np.stack([AGE, AGE], 1), LABEL)).batch(2)
    data = add_cohort_labels(features, [YOUNG], columns=lambda x: {"age": x[:, 1]})
    assert data.element_spec[0] == tf.TensorSpec((None, 2), tf.float32)
    np.testing.assert_array_equal(labels_of(data)["young"][:, 0], cohort_labels(COLUMNS, LABEL, [YOUNG])["young"])
    nested = mapped(dataset(LABEL), lambda x, y: ({"raw": x, "encoded": x["age"]}, y))
    data = add_cohort_labels(nested, [YOUNG], columns=lambda x: x["raw"], keep=["encoded"])
    assert list(data.element_spec[0]) == ["encoded"]
    np.testing.assert_array_equal(labels_of(data)["young"][:, 0], cohort_labels(COLUMNS, LABEL, [YOUNG])["young"])


def test_columns_of_another_form():
    with pytest.raises(ValueError, match="`columns` must return a dict"):
        add_cohort_labels(dataset(LABEL), [YOUNG], columns=lambda x: x["age"])
    with pytest.raises(ValueError, match=r"Cohort `young`.*'age'; there are \['years'\]"):
        add_cohort_labels(dataset(LABEL), [YOUNG], columns=lambda x: {"years": x["age"]})


def weights_of(data):
    batches = [element[2] for element in data.as_numpy_iterator()]
    if not isinstance(batches[0], dict):
        return np.concatenate(batches).tolist()
    return {task: np.concatenate([batch[task] for batch in batches]).tolist() for task in batches[0]}


WEIGHT = np.float32([1, 2, 3, 4, 5, 6])


def test_weights_by_task_are_those_of_the_primary_for_cohorts():
    weights = weights_of(add_cohort_labels(dataset(LABEL, {"primary": WEIGHT}), [YOUNG, ROMANS]))
    assert weights == dict.fromkeys(["primary", "young", "romans"], WEIGHT.tolist())
    data = dataset({"click": LABEL, "buy": LABEL}, {"click": WEIGHT, "buy": 2 * WEIGHT})
    weights = weights_of(add_cohort_labels(data, [YOUNG], primary="buy"))
    assert weights == {"click": WEIGHT.tolist(), "buy": (2 * WEIGHT).tolist(), "young": (2 * WEIGHT).tolist()}
    with pytest.raises(ValueError, match=r"Weights by task must be of \['primary'\]. Received: weights of \['click'\]"):
        add_cohort_labels(dataset(LABEL, {"click": WEIGHT}), [YOUNG])


@pytest.mark.parametrize(
    ("weight", "expected"),
    [
        ((), [5, 5, 5, 5, 5, 2]),
        ((WEIGHT,), [5, 10, 15, 20, 25, 12]),
        ((WEIGHT[:, None].astype(np.int64),), [[5], [10], [15], [20], [25], [12]]),
        (({"primary": WEIGHT},), {task: [5, 10, 15, 20, 25, 12] for task in ("primary", "young")}),
    ],
)
def test_class_weights(weight, expected):
    data = add_cohort_labels(dataset(LABEL, *weight), [YOUNG], class_weight={0: 2, 1: 5})
    assert weights_of(data) == expected
    assert not isinstance(expected, list) or data.element_spec[2].dtype == tf.float32


def test_a_weight_of_none():
    data = mapped(dataset(LABEL), lambda x, y: (x, y, None))
    assert next(iter(add_cohort_labels(data, [YOUNG])))[2] is None
    assert weights_of(add_cohort_labels(data, [YOUNG], class_weight={0: 2, 1: 5})) == [5, 5, 5, 5, 5, 2]


@pytest.mark.parametrize("class_weight", [{1: 5.0}, {0: 1.0, 1: -1.0}, {0: 1.0, 1: np.nan}, {0: 1.0, 1: 1.0, 2: 1.0}])
def test_class_weights_that_do_not_fit(class_weight):
    with pytest.raises(ValueError, match="`class_weight` must give the classes 0 and 1"):
        add_cohort_labels(dataset(LABEL), [YOUNG], class_weight=class_weight)


@pytest.mark.parametrize("by_task", [False, True])
def test_class_weights_train_as_those_of_fit_do(by_task):
    """Where the cohort's loss has weight 0, the primary learns what one output learns by `fit(class_weight=...)`."""

    def train(outputs, data, loss_weights=None, **options):
        keras.utils.set_random_seed(0)
        x = keras.Input((), name="age")
        h = keras.layers.Dense(2, "tanh", name="h")(keras.layers.Reshape((1,))(x / 40))
        heads = {task: keras.layers.Dense(1, name=task)(h) for task in outputs}
        model = keras.Model({"age": x}, heads if len(heads) > 1 else heads["primary"])
        loss = keras.losses.BinaryCrossentropy(from_logits=True)
        losses = dict.fromkeys(heads, loss) if len(heads) > 1 else loss
        model.compile(keras.optimizers.SGD(0.5), losses, loss_weights, jit_compile=False)
        model.fit(data, shuffle=False, verbose=0, **options)
        return [weight.numpy() for weight in model.weights if not weight.path.startswith("young")]

    ages = np.float32([20, 30, 40, 22])
    y = np.float32([1, 0, 1, 0])
    plain = tf.data.Dataset.from_tensor_slices(({"age": ages}, y)).batch(2)
    expected = train(["primary"], plain, class_weight={0: 1.0, 1: 5.0})
    given = tf.data.Dataset.from_tensor_slices(({"age": ages}, y, {"primary": np.ones(4, np.float32)})).batch(2)
    data = add_cohort_labels(given if by_task else plain, [YOUNG], class_weight={0: 1.0, 1: 5.0})
    got = train(["primary", "young"], data, {"primary": 1.0, "young": 0.0})
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


COHORTS = [YOUNG, ROMANS, BOTH]
EXPECTED = cohort_labels(COLUMNS, LABEL, COHORTS)


def serialized_rows():
    """Rows as tf.Examples, where a feature without a value is left out; and the label."""
    feature = {"age": "float_list", "city": "bytes_list", "surface": "int64_list"}
    rows = []
    for age, city, surface, label in zip(AGE, CITY, SURFACE, LABEL, strict=True):
        values = {"age": [age], "city": [city.encode()], "surface": [surface]} if city else {}
        example = tf.train.Example()
        for name, value in values.items():
            getattr(example.features.feature[name], feature[name]).value.extend(value)
        example.features.feature["label"].int64_list.value.append(int(label))
        rows.append(example.SerializeToString())
    return rows


TYPES = {"age": tf.float32, "city": tf.string, "surface": tf.int64}
VAR_LEN = {name: tf.io.VarLenFeature(dtype) for name, dtype in TYPES.items()}
RAGGED = {name: tf.io.RaggedFeature(dtype) for name, dtype in TYPES.items()}
ROW_LABEL = {"label": tf.io.FixedLenFeature([], tf.int64)}
SERIALIZED = tf.data.Dataset.from_tensor_slices(serialized_rows())
ROWS = tf.data.Dataset.from_tensor_slices((COLUMNS, LABEL))
BATCHES = ROWS.batch(2, drop_remainder=True)


def parsed(spec, parse=tf.io.parse_example):
    def read(serialized):
        columns = parse(serialized, spec | ROW_LABEL)
        return columns, columns.pop("label")

    return read


def expanded(values):
    return tf.nest.map_structure(lambda value: value[..., tf.newaxis], values)


USERS = [
    Cohort(cohort.name, tuple(type(c)(**vars(c) | {"column": f"user/{c.column}"}) for c in cohort.conditions))
    for cohort in COHORTS
]
FORMS = {
    "columns (batch, 1)": lambda: (mapped(BATCHES, lambda x, y: (expanded(x), y)), {}),
    "all (batch, 1)": lambda: (mapped(BATCHES, lambda x, y: expanded((x, y))), {}),
    "sparse": lambda: (mapped(SERIALIZED.batch(2, drop_remainder=True), parsed(VAR_LEN)), {}),
    "ragged": lambda: (mapped(SERIALIZED.batch(2, drop_remainder=True), parsed(RAGGED)), {}),
    "rows": lambda: (ROWS, {}),
    "rows of (1,)": lambda: (mapped(ROWS, lambda x, y: (expanded(x), y)), {}),
    "rows with a label (1,)": lambda: (mapped(ROWS, lambda x, y: (x, y[tf.newaxis])), {}),
    "sparse rows": lambda: (mapped(SERIALIZED, parsed(VAR_LEN, tf.io.parse_single_example)), {}),
    "ragged rows": lambda: (mapped(SERIALIZED, parsed(RAGGED, tf.io.parse_single_example)), {}),
    "dicts of dicts": lambda: (mapped(BATCHES, lambda x, y: ({"user": x}, y)), {"cohorts": USERS}),
    "a tuple of features": lambda: (
        mapped(BATCHES, lambda x, y: (tuple(x.values()), y)),
        {"columns": lambda x: dict(zip(COLUMNS, x, strict=True))},
    ),
    "serialized": lambda: (
        tf.data.Dataset.zip(SERIALIZED, mapped(ROWS, lambda _, y: y)).batch(2, drop_remainder=True),
        {"parse": VAR_LEN | {"other": tf.io.FixedLenFeature([], tf.string)}},
    ),
    "serialized, the label too": lambda: (
        SERIALIZED.batch(2, drop_remainder=True),
        {"parse": VAR_LEN | ROW_LABEL, "label_key": "label"},
    ),
    "serialized rows": lambda: (SERIALIZED, {"parse": RAGGED | ROW_LABEL, "label_key": "label"}),
    "a dict alone": lambda: (mapped(BATCHES, lambda x, y: x | {"clicked": y}), {"label_key": "clicked"}),
    "a dict alone, and columns": lambda: (
        mapped(BATCHES, lambda x, y: {"raw": x, "clicked": y}),
        {"label_key": "clicked", "columns": lambda x: x["raw"]},
    ),
    "a dict of dicts alone": lambda: (
        mapped(BATCHES, lambda x, y: {"user": x, "labels": {"clicked": y}}),
        {"label_key": "labels/clicked", "cohorts": USERS},
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_has_the_labels_of_numpy_arrays(form):
    given, options = FORMS[form]()
    options = {"cohorts": COHORTS} | options
    data = add_cohort_labels(given, options.pop("cohorts"), **options)
    before, after = features_of(given.element_spec), features_of(data.element_spec)
    assert {name: after[name] for name in before} == before if isinstance(before, dict) else after == before
    labels = mapped(data, lambda *element: element[1] if len(element) > 1 else element[0])
    labels = mapped(labels, lambda x: {name: x[name] for name in EXPECTED})
    labels = labels.batch(2, drop_remainder=True) if "row" in form else labels
    assert labels.element_spec == dict.fromkeys(EXPECTED, tf.TensorSpec((2, 1), tf.float32))
    batches = list(labels.as_numpy_iterator())
    for name, expected in EXPECTED.items():
        np.testing.assert_array_equal(np.concatenate([batch[name] for batch in batches])[:, 0], expected)


def test_booleans_and_short_integers():
    sure = Cohort("sure", (Values("known", (True,)), Interval("count", 1)))
    known, count = np.array([True, False] * 3), np.arange(6, dtype=np.int32)
    data = tf.data.Dataset.from_tensors(({"known": known, "count": tf.sparse.from_dense(count)}, LABEL))
    assert labels_of(add_cohort_labels(data, [sure]))["sure"][:, 0].tolist() == [0, 0, 1, 0, 1, 0]


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (tf.constant([[18.0, 3.0]] * 6), r"must have one value per row, .* Received: column `age` of shape \(6, 2\)"),
        (
            tf.ragged.constant([[[18.0]]] * 6),
            r"at most one value per row; .* Received: column `age` of shape \(6, None",
        ),
        (tf.sparse.from_dense([True] * 6), "Column `age` must be of integers, floats or strings .* Received: bool"),
        (tf.complex([1.0] * 6, 0.0), "Column `age` must hold strings, integers, .* Received: dtype complex64"),
    ],
)
def test_columns_that_cannot_be_read(column, message):
    data = tf.data.Dataset.from_tensors(({"age": column}, LABEL))
    with pytest.raises(ValueError, match=message):
        add_cohort_labels(data, [YOUNG])


@pytest.mark.parametrize("rows", [dataset(LABEL), tf.data.Dataset.from_tensor_slices((COLUMNS, LABEL))])
def test_a_column_of_unknown_rank(rows):
    def columns(x):
        return {"age": tf.numpy_function(lambda age: age, [x["age"]], tf.float32)}

    with pytest.raises(ValueError, match=r"`age` must have a known rank: .*Received: column `age` of unknown rank"):
        add_cohort_labels(rows, [YOUNG], columns=columns)


def test_two_values_in_a_row():
    for column in (tf.ragged.constant([[18.0, 3.0]] + [[1.0]] * 5), tf.sparse.from_dense([[18.0, 3.0]] * 6)):
        data = add_cohort_labels(tf.data.Dataset.from_tensors(({"age": column}, LABEL)), [YOUNG])
        with pytest.raises(tf.errors.InvalidArgumentError, match="Column `age` must have at most one value per row"):
            list(data)


def test_weights_of_rows():
    rows = tf.data.Dataset.from_tensor_slices((COLUMNS, LABEL, WEIGHT))
    data = add_cohort_labels(rows, [YOUNG], class_weight={0: 2, 1: 5}).batch(2)
    assert weights_of(data) == [5, 10, 15, 20, 25, 12]
    weights = weights_of(add_cohort_labels(ROWS, [YOUNG], class_weight={0: 2, 1: 5}, design="masked").batch(2))
    assert weights == {"primary": [5, 5, 5, 5, 5, 2], "young": [0, 5, 5, 0, 0, 2]}


def test_a_dict_alone_that_does_not_fit():
    data = mapped(BATCHES, lambda x, y: x | {"clicked": y})
    for options in ({"class_weight": {0: 1, 1: 2}}, {"design": "masked"}):
        with pytest.raises(ValueError, match="`class_weight`, and the design 'masked', .* Received: a dict"):
            add_cohort_labels(data, [YOUNG], label_key="clicked", **options)
    with pytest.raises(ValueError, match="No column `label` in the data. Columns there: age, city, surface, clicked"):
        add_cohort_labels(data, [YOUNG], label_key="label")
    with pytest.raises(ValueError, match="taken are .*'age'.* Received: cohort named 'age'"):
        add_cohort_labels(data, [Cohort("age", YOUNG.conditions)], label_key="clicked")
    kept = add_cohort_labels(data, [YOUNG], label_key="clicked", keep=["age"])
    assert sorted(kept.element_spec) == ["age", "clicked", "young"]


def test_parsing_that_does_not_fit():
    with pytest.raises(ValueError, match="features must be a tensor of strings. Received: {'age'"):
        add_cohort_labels(BATCHES, [YOUNG], parse=VAR_LEN)
    with pytest.raises(ValueError, match=r"'age'; there are \['label'\]"):
        add_cohort_labels(SERIALIZED, [YOUNG], parse=ROW_LABEL, label_key="label")
    with pytest.raises(ValueError, match="`columns` and `parse` must be given at most. Received: both"):
        add_cohort_labels(SERIALIZED, [YOUNG], parse=ROW_LABEL, columns=lambda x: {"age": x})


class Frames(keras.utils.PyDataset):
    """Batches of two rows, of pandas."""

    epochs = 0

    def __len__(self):
        return 3

    def __getitem__(self, index):
        rows = slice(2 * index, 2 * index + 2)
        columns = pd.DataFrame(COLUMNS)[rows]
        return {"frame": columns, "age": AGE[rows]}, LABEL[rows, None], WEIGHT[rows]

    def on_epoch_end(self):
        self.epochs += 1


def test_a_py_dataset():
    frames = Frames()
    options = {"columns": lambda x: x["frame"], "keep": ["age"]}
    data = add_cohort_labels(frames, COHORTS, **options)
    assert isinstance(data, keras.utils.PyDataset)
    assert (len(data), data.num_batches) == (3, 3)
    data.on_epoch_end()
    assert frames.epochs == 1
    batches = [data[index] for index in range(3)]
    for name, labels in EXPECTED.items():
        np.testing.assert_array_equal(np.concatenate([batch[1][name] for batch in batches])[:, 0], labels)
    assert [list(batch[0]) for batch in batches] == [["age"]] * 3
    np.testing.assert_array_equal(np.concatenate([batch[1]["primary"] for batch in batches])[:, 0], LABEL)
    np.testing.assert_array_equal(np.concatenate([batch[2] for batch in batches]), WEIGHT)
    masked = add_cohort_labels(frames, [YOUNG], **options, design="masked", class_weight={0: 1, 1: 2})
    assert masked[1][2]["primary"].tolist() == [6, 8]
    assert masked[1][2]["young"].tolist() == [6, 0]
    with pytest.raises(ValueError, match="Received: 2.0 in row 0"):
        add_cohort_labels(Doubled(), [YOUNG], **options)[0]
    with pytest.raises(ValueError, match="`parse` must be of a `tf.data.Dataset`"):
        add_cohort_labels(frames, [YOUNG], parse=VAR_LEN)


class Doubled(Frames):
    def __getitem__(self, index):
        x, y, weight = super().__getitem__(index)
        return x, 2 * y, weight
