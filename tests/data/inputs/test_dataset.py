import functools
import itertools

import numpy as np
import pytest
import tensorflow as tf

from c2al_tf.cohorts import Cohort, Interval, Values
from c2al_tf.data.columns.readers import read_columns
from c2al_tf.data.columns.shards import write_parquet
from c2al_tf.data.inputs import stream
from c2al_tf.data.inputs.dataset import make_dataset
from c2al_tf.data.inputs.features import FeatureEncoder
from c2al_tf.data.inputs.labels import cohort_labels
from c2al_tf.data.inputs.packing import primary_tasks
from c2al_tf.schema import CategoricalFeature, Column, NumericFeature, Schema

YOUNG = Cohort("young", (Interval("age", 18, 30), Values("surface", (1, 2))))
# The schema of `numbered`. A row's number is its id less 2.
NUMBERED = Schema((CategoricalFeature("row", "int64", vocabulary=tuple(range(10_000))),))

pytestmark = pytest.mark.usefixtures("small_windows")


@functools.cache
def encoder():
    """One for all: its table, and what is traced for it, take longer than the rows."""
    return FeatureEncoder(NUMBERED)


def order(paths, **options):
    """Row numbers in the order in which they come, without padding."""
    batches = make_dataset(paths, NUMBERED, 16, encoder=encoder(), **options).as_numpy_iterator()
    return [int(row) - 2 for x, _, weight in batches for row, w in zip(x["row"], weight, strict=True) if w]


@pytest.mark.parametrize("suffix", ["parquet", "csv", "tfrecord"])
def test_rows_are_encoded_as_in_a_plain_call(tmp_path, schema, rows, write, suffix):
    batch = rows(150)
    path = write(tmp_path / f"a.{suffix}", batch, schema)
    encoder = FeatureEncoder(schema)
    data = make_dataset(path, schema, 16, encoder=encoder, cohorts=[YOUNG])
    elements = list(data.as_numpy_iterator())
    assert len(elements) == 10

    expected = encoder({name: tf.constant(batch[name]) for name in encoder.columns})
    for name, values in expected.items():
        got = np.concatenate([x[name] for x, _, _ in elements])[:150]
        np.testing.assert_array_equal(got, values, err_msg=name)
    labels = {"primary": batch["label"], **cohort_labels(batch, batch["label"], [YOUNG])}
    assert labels["young"].any()
    assert list(elements[0][1]) == ["primary", "young"]
    for task, label in labels.items():
        np.testing.assert_array_equal(np.concatenate([y[task] for _, y, _ in elements])[:150, 0], label)
    np.testing.assert_array_equal(np.concatenate([w for _, _, w in elements])[:150], batch["weight"])


def test_shapes_are_static(tmp_path, schema, rows, write):
    path = write(tmp_path / "a.parquet", rows(20), schema)
    x, y, weight = make_dataset(path, schema, 16, cohorts=[YOUNG]).element_spec
    assert list(x) == list(schema.inputs)
    for name, column in schema.inputs.items():
        assert x[name].shape == ((16,) if column.length is None else (16, column.length)), name
        assert x[name].dtype == (tf.float32 if column.dtype == "float32" else tf.int32)
    assert y == {"primary": tf.TensorSpec((16, 1), tf.float32), "young": tf.TensorSpec((16, 1), tf.float32)}
    assert weight == tf.TensorSpec((16,), tf.float32)


def test_last_batch_is_filled_up_with_weight_zero(tmp_path, schema, rows, write):
    batch = rows(20)
    path = write(tmp_path / "a.parquet", batch, schema)
    *_, (x, y, weight) = make_dataset(path, schema, 16).as_numpy_iterator()
    np.testing.assert_array_equal(weight, [17, 18, 19, 20] + [0] * 12)
    np.testing.assert_array_equal(x["city"][3:], [x["city"][3]] * 13)
    np.testing.assert_array_equal(y["primary"][3:], [y["primary"][3]] * 13)


def test_dropping_the_remainder(numbered):
    assert order(numbered, drop_remainder=True) == list(range(496))
    assert order(numbered[2:], drop_remainder=True) == list(range(460, 492))


def test_unshuffled_order_is_that_of_read_columns(numbered):
    assert order(numbered) == list(range(500))
    assert np.concatenate([b["row"] for b in read_columns(numbered, NUMBERED.columns, 7)]).tolist() == list(range(500))


@pytest.mark.parametrize("suffix", ["parquet", "csv", "tfrecord"])
def test_shuffled_order_follows_from_seed_and_epoch_alone(numbered, write, suffix):
    paths = []
    for path in numbered:
        (batch,) = read_columns(path, NUMBERED.columns)
        same = suffix == "parquet"
        paths.append(path if same else write(path.with_suffix(f".{suffix}"), batch, NUMBERED))
    first = order(paths, shuffle=True, seed=1, epoch=2)
    assert sorted(first) == list(range(500))
    assert first == order(paths, shuffle=True, seed=1, epoch=2)
    others = [order(paths, shuffle=True, seed=seed, epoch=epoch) for seed, epoch in [(0, 0), (2, 1), (1, 0), (1, 1)]]
    for a, b in itertools.combinations([first, list(range(500)), *others], 2):
        assert a != b


def test_every_order_has_a_random_stream_of_its_own(numbered, monkeypatch):
    seeds = []
    make_rng = np.random.default_rng
    monkeypatch.setattr(np.random, "default_rng", lambda seed: (seeds.append(seed), make_rng(seed))[1])
    order(numbered, shuffle=True, seed=1, epoch=2)
    # The row groups, and five windows of 100 rows or a little more.
    states = {tuple(np.random.SeedSequence(seed).generate_state(4)) for seed in seeds}
    assert len(states) == len(seeds) == 6


def test_shuffling_mixes_rows_of_distant_row_groups(numbered):
    rows = order(numbered, shuffle=True)
    assert {row // 30 for row in rows[:16]} != {rows[0] // 30}
    assert max(rows[:100]) - min(rows[:100]) > 250
    # Row groups, not only files, change places: a window of one file is not its first four.
    assert {row // 30 for row in order(numbered[:1], shuffle=True)[:100]} != {0, 1, 2, 3}


@pytest.mark.parametrize(
    ("suffix", "shuffle"), [("parquet", False), ("parquet", True), ("csv", False), ("tfrecord", True)]
)
def test_skipping_batches_leaves_the_others_as_they_are(numbered, write, suffix, shuffle):
    (batch,) = read_columns(numbered[0], NUMBERED.columns)
    paths = numbered if suffix == "parquet" else [write(numbered[0].with_suffix(f".{suffix}"), batch, NUMBERED)]
    whole = order(paths, shuffle=shuffle, seed=3, epoch=1)
    for skip in (1, 6, 7, 14, 40):
        assert order(paths, shuffle=shuffle, seed=3, epoch=1, skip_batches=skip) == whole[16 * skip :], skip


def test_skipped_windows_are_not_read(numbered, monkeypatch):
    loaded = []
    load = stream.Chunk.__getattribute__
    monkeypatch.setattr(
        stream.Chunk, "__getattribute__", lambda c, name: (loaded.append(c) if name == "load" else 0) or load(c, name)
    )
    assert len(order(numbered, shuffle=True, skip_batches=26)) == 500 - 26 * 16
    assert len(loaded) <= 8


def test_its_end_waits_for_no_tuning(numbered):
    """With autotune the end of a pass waits until a thread wakes that sleeps for up to a minute."""
    assert make_dataset(numbered, NUMBERED, 16).options().autotune.enabled is False


def test_without_weights_every_row_counts_once(numbered):
    weight = np.concatenate([w for _, _, w in make_dataset(numbered, NUMBERED, 16).as_numpy_iterator()])
    assert weight.tolist() == [1.0] * 500 + [0.0] * 12


def test_several_labels_are_several_primary_tasks(tmp_path):
    schema = Schema((NumericFeature("age"),), labels=("click", "buy"))
    columns = {"age": np.float32([20, 40]), "click": np.float32([1, 0]), "buy": np.float32([0, 1])}
    write_parquet(tmp_path / "a.parquet", [columns], schema.columns)
    cohort = Cohort("young", (Interval("age", 18, 30),))
    ((_, y, _),) = make_dataset(tmp_path / "a.parquet", schema, 2, cohorts=[cohort]).as_numpy_iterator()
    assert {task: label[:, 0].tolist() for task, label in y.items()} == {
        "click": [1, 0],
        "buy": [0, 1],
        "young": [1, 0],
    }
    assert primary_tasks(schema) == {"click": "click", "buy": "buy"}


def test_axis_columns_are_read_only_for_cohorts(tmp_path):
    schema = Schema((NumericFeature("age"),), axis_columns=(Column("surface", "int64"),))
    without = {name: column for name, column in schema.columns.items() if name != "surface"}
    columns = {"age": np.float32([20, 40]), "label": np.float32([1, 0])}
    write_parquet(tmp_path / "a.parquet", [columns], without)
    assert len(list(make_dataset(tmp_path / "a.parquet", schema, 2))) == 1
    with pytest.raises(tf.errors.OpError, match="no column `surface`"):
        list(make_dataset(tmp_path / "a.parquet", schema, 2, cohorts=[YOUNG]))


def test_bad_row_is_named(tmp_path, schema, rows, write):
    batch = rows(90)
    batch["label"][77] = 2
    for suffix in ("parquet", "csv", "tfrecord"):
        path = write(tmp_path / f"a.{suffix}", batch, schema)
        with pytest.raises(tf.errors.OpError, match=rf"a\.{suffix}: row 77: label `label` must be 0 or 1. Received: 2"):
            list(make_dataset(path, schema, 16, shuffle=True))


def test_bad_arguments(tmp_path, schema, numbered):
    with pytest.raises(ValueError, match="no such file"):
        make_dataset(tmp_path / "z.parquet", schema, 16)
    with pytest.raises(ValueError, match=r"Cohort `rich` is on a column that the data lacks. Received: 'income'"):
        make_dataset(numbered, NUMBERED, 16, cohorts=[Cohort("rich", (Interval("income", 1),))])
    with pytest.raises(ValueError, match="Received: cohort named 'young'"):
        make_dataset(numbered, schema, 16, cohorts=[YOUNG, YOUNG])
    for wrong in ({"batch_size": 0}, {"skip_batches": -1}, {"seed": -1}, {"epoch": -1}):
        ((name, value),) = wrong.items()
        with pytest.raises(ValueError, match=f"`{name}` must be at least [01]. Received: {name}={value}"):
            make_dataset(numbered, NUMBERED, **({"batch_size": 16} | wrong))


def test_an_input_may_have_the_name_of_a_task_or_of_the_weight(tmp_path):
    """Columns of packed rows are told by their places."""
    names = ("primary", "weight", "young")
    schema = Schema(
        tuple(CategoricalFeature(name, "int64", vocabulary=(5, 6, 7)) for name in names),
        axis_columns=(Column("age", "float32"),),
    )
    columns = {name: np.array([5, 6, 7, 7]) for name in names}
    write_parquet(
        tmp_path / "a.parquet",
        [columns | {"label": np.float32([0, 1, 0, 1]), "age": np.float32([20] * 4)}],
        schema.columns,
    )
    young = Cohort("young", (Interval("age", 18, 30),))
    x, y, weight = next(iter(make_dataset(tmp_path / "a.parquet", schema, 4, cohorts=[young])))
    for name in names:
        assert x[name].numpy().tolist() == [2, 3, 4, 4]
    assert [y[task][:, 0].numpy().tolist() for task in ("primary", "young")] == [[0, 1, 0, 1]] * 2
    assert weight.numpy().tolist() == [1, 1, 1, 1]


def test_two_cohorts_of_one_name(numbered):
    few, more = (Cohort("few", (Interval("row", 0, high),)) for high in (9, 10))
    with pytest.raises(ValueError, match="Cohorts of one name must be equal. Received: `few`"):
        make_dataset(numbered, NUMBERED, 16, cohorts=[few], members=[more])
