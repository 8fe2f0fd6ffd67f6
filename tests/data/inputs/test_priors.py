"""Positives per task, counted by hand; every cohort that has nothing to learn from is an error or a warning."""

import numpy as np
import pytest

from c2al_tf.cohorts import Cohort, Interval, Values
from c2al_tf.data.columns.shards import write_parquet
from c2al_tf.data.inputs import priors
from c2al_tf.data.inputs.priors import TaskCounts, count_tasks
from c2al_tf.schema import CategoricalFeature, Column, NumericFeature, Schema

SCHEMA = Schema(
    (NumericFeature("age", missing="slot"), CategoricalFeature("city", "string", vocabulary=("a", "b"))),
    labels=("click", "buy"),
    axis_columns=(Column("region", "int64"),),
)
ROWS = {
    "age": np.array([10, 20, 30, 40, 50, np.nan], np.float32),
    "city": np.array(["a", "a", "b", "b", "c", "c"], object),
    "region": np.array([1, 2, 1, 2, 1, 2]),
    "click": np.array([1, 1, 1, 0, 0, 1], np.float32),
    "buy": np.array([0, 1, 0, 0, 0, 0], np.float32),
}
YOUNG = Cohort("young", (Interval("age", high=30.0),))
OLD = Cohort("old", (Interval("age", low=30.0),))
CROSS = Cohort("cross", (Values("city", ("a", "b")), Values("region", (1,))))


@pytest.fixture
def files(tmp_path):
    """The rows in two files, of four and two."""
    paths = [tmp_path / "train-0.parquet", tmp_path / "train-1.parquet"]
    for path, part in zip(paths, (slice(4), slice(4, 6)), strict=True):
        write_parquet(path, [{name: values[part] for name, values in ROWS.items()}], SCHEMA.columns)
    return paths


@pytest.fixture(autouse=True)
def _one_positive_is_enough(monkeypatch) -> None:
    monkeypatch.setattr(priors, "FEW_POSITIVES", 1)


def test_counts(files) -> None:
    """Clicks: rows 0, 1, 2 and 5; of the young (rows 0, 1) two, of the old (2, 3, 4) one, of the cross (0, 2) two."""
    counts = count_tasks(files, SCHEMA, [YOUNG, OLD, CROSS])
    assert (counts.rows, counts.positives) == (6, {"click": 4, "buy": 1, "young": 2, "old": 1, "cross": 2})
    assert counts.priors == {"click": 4 / 6, "buy": 1 / 6, "young": 2 / 6, "old": 1 / 6, "cross": 2 / 6}


def test_counts_of_memberships(files) -> None:
    """The young are rows 0 and 1, the old rows 2, 3 and 4."""
    counts = count_tasks(files, SCHEMA, [YOUNG, OLD], "membership")
    assert counts.positives == {"click": 4, "buy": 1, "young": 2, "old": 3}
    assert counts.priors == {"click": 4 / 6, "buy": 1 / 6, "young": 2 / 6, "old": 3 / 6}


def test_counts_of_masked_labels_are_of_members_alone(files) -> None:
    """Of the old, rows 2, 3 and 4, one clicked; of the young both."""
    counts = count_tasks(files, SCHEMA, [OLD], "masked")
    assert (counts.positives["old"], counts.priors["old"]) == (1, 1 / 3)
    message = "Task `young` .* must have positives and negatives. Received: 2 positives in 2 rows"
    with pytest.raises(ValueError, match=message):
        count_tasks(files, SCHEMA, [YOUNG], "masked")


def test_a_single_label_is_the_primary_task(tmp_path) -> None:
    schema = Schema(SCHEMA.features, labels=("click",))
    path = tmp_path / "rows.parquet"
    write_parquet(path, [{name: ROWS[name] for name in schema.columns}], schema.columns)
    assert count_tasks(path, schema) == TaskCounts(6, {"primary": 4}, {"primary": 4 / 6})
    assert list(count_tasks(path, schema, [OLD, YOUNG]).positives) == ["primary", "old", "young"]


def test_only_what_is_needed_is_read(files, tmp_path) -> None:
    path = tmp_path / "labels.parquet"
    labels = {name: SCHEMA.columns[name] for name in SCHEMA.labels}
    write_parquet(path, [{name: ROWS[name] for name in labels}], labels)
    assert count_tasks(path, SCHEMA).positives == {"click": 4, "buy": 1}
    with pytest.raises(ValueError, match=r"labels\.parquet: no column `age`"):
        count_tasks(path, SCHEMA, [YOUNG])


def test_a_cohort_that_matches_nothing(files) -> None:
    nobody = Cohort("nobody", (Interval("age", low=90.0),))
    message = r"Task `nobody` \(age from 90\) must have rows to learn from. Received: a cohort that matches none of 6"
    with pytest.raises(ValueError, match=message):
        count_tasks(files, SCHEMA, [YOUNG, nobody])


def test_a_cohort_without_a_positive(files) -> None:
    forty = Cohort("forty", (Interval("age", 40.0, 50.0),))
    message = (
        r"Task `forty` \(age in \[40, 50\)\) must have positives and negatives. Received: 0 positives in 6 rows. "
        "Choose a cohort with more positives, or bring more rows"
    )
    with pytest.raises(ValueError, match=message):
        count_tasks(files, SCHEMA, [forty])


@pytest.mark.parametrize(("label", "positives"), [(0.0, 0), (1.0, 6)])
def test_a_primary_task_of_one_class(tmp_path, label, positives) -> None:
    path = tmp_path / "rows.parquet"
    write_parquet(path, [ROWS | {"buy": np.full(6, label, np.float32)}], SCHEMA.columns)
    with pytest.raises(ValueError, match=rf"Task `buy` must have .* Received: {positives} positives in 6 rows"):
        count_tasks(path, SCHEMA)


def test_few_positives_warn(files, monkeypatch) -> None:
    monkeypatch.setattr(priors, "FEW_POSITIVES", 2)
    message = r"Task `old` \(age from 30\) has 1 positives in 6 rows: too few to learn from; 2 or more are wanted"
    with pytest.warns(UserWarning, match=message) as warned:
        assert count_tasks(files, SCHEMA, [YOUNG, OLD]).positives["old"] == 1
    assert len(warned) == 1, "`young` has enough, and of the primary task `buy` nobody is warned"


def test_a_cohort_on_a_column_that_the_data_lacks(files) -> None:
    with pytest.raises(ValueError, match=r"Cohort `far` is on a column that the data lacks. Received: 'distance'"):
        count_tasks(files, SCHEMA, [Cohort("far", (Interval("distance", low=1.0),))])


def test_two_tasks_of_one_name(files) -> None:
    with pytest.raises(ValueError, match="Every task needs a name of its own"):
        count_tasks(files, SCHEMA, [Cohort("buy", OLD.conditions)])
