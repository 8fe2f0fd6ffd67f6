"""Rows encoded once give the batches that files give, bit for bit, whatever is asked of them."""

import dataclasses
import functools

import numpy as np
import pytest
import tensorflow as tf

from c2al_tf.cohorts import Cohort, Interval, Values
from c2al_tf.data.columns.shards import write_parquet
from c2al_tf.data.inputs import encoded
from c2al_tf.data.inputs.dataset import make_dataset
from c2al_tf.data.inputs.encoded import encode_rows
from c2al_tf.data.inputs.features import FeatureEncoder
from c2al_tf.data.inputs.sharding import Shard
from c2al_tf.types import member_of

YOUNG = Cohort("young", (Interval("age", 18, 30), Values("surface", (1, 2))))
ROMANS = Cohort("romans", (Values("city", ("rome",)),))

pytestmark = pytest.mark.usefixtures("small_windows")


@pytest.fixture
def files(tmp_path, schema, rows, write):
    """Three files, of several row groups each."""
    return [write(tmp_path / "data" / f"{i}.parquet", rows(110, seed=i), schema) for i in range(3)]


encoder_of = functools.cache(FeatureEncoder)


def elements(rows, schema, **options):
    return list(make_dataset(rows, schema, 16, encoder=encoder_of(schema), **options).as_numpy_iterator())


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"cohorts": [YOUNG]},
        {"cohorts": [YOUNG, ROMANS], "shuffle": True, "seed": 3, "epoch": 1},
        {"cohorts": [ROMANS], "design": "membership", "members": [YOUNG, ROMANS], "shuffle": True},
        {"cohorts": [YOUNG], "design": "masked", "shuffle": True, "skip_batches": 9},
        {"shuffle": True, "shard": Shard(1, 2), "drop_remainder": True},
    ],
)
def test_batches_are_those_of_the_files(files, schema, tmp_path, options):
    expected = elements(files, schema, **options)
    got = elements(encode_rows(files, schema, tmp_path / "encoded"), schema, **options)
    assert len(got) == len(expected) > 5
    tf.nest.map_structure(np.testing.assert_array_equal, got, expected)


def test_memberships_travel_beside_the_labels(files, schema, rows):
    batches = elements(files, schema, cohorts=[YOUNG], members=[ROMANS])
    assert list(batches[0][1]) == ["primary", "young", member_of("romans")]
    got = np.concatenate([y[member_of("romans")] for _, y, _ in batches])[:330, 0]
    expected = np.concatenate([ROMANS.contains(rows(110, seed=i)) for i in range(3)])
    np.testing.assert_array_equal(got, expected)
    assert 0 < expected.sum() < 330


def test_masked_rows_count_for_members_alone(files, schema, rows):
    batches = elements(files, schema, cohorts=[ROMANS], design="masked")
    weight = {task: np.concatenate([w[task] for _, _, w in batches])[:330] for task in ("primary", "romans")}
    label = {task: np.concatenate([y[task] for _, y, _ in batches])[:330] for task in ("primary", "romans")}
    member = np.concatenate([ROMANS.contains(rows(110, seed=i)) for i in range(3)])
    np.testing.assert_array_equal(weight["romans"], np.where(member, weight["primary"], 0))
    np.testing.assert_array_equal(label["romans"], label["primary"])


def test_rows_are_encoded_once(files, schema, tmp_path, monkeypatch):
    encode_rows(files, schema, tmp_path / "encoded")
    again = encode_rows(files, schema, tmp_path / "encoded")
    with monkeypatch.context() as patch:
        patch.setattr("c2al_tf.data.columns.readers._load_row_group", lambda *_: pytest.fail("a file is read again"))
        assert len(elements(again, schema)) == 21
    monkeypatch.setattr(encoded, "_write", None)
    assert encode_rows(files, schema, tmp_path / "encoded").values.shape == again.values.shape


def test_other_rows_are_encoded_anew(files, schema, rows, tmp_path):
    folder = tmp_path / "encoded"
    before = encode_rows(files, schema, folder).values.copy()
    write_parquet(files[1], [rows(110, seed=9)], schema.columns)
    after = encode_rows(files, schema, folder).values
    assert before.shape == after.shape
    assert (before != after).any()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "encoded"]


def test_a_bad_row_is_named_and_leaves_nothing(files, schema, rows, tmp_path):
    bad = rows(50)
    bad["label"][40] = 2
    write_parquet(files[2], [bad], schema.columns)
    with pytest.raises(ValueError, match=r"2\.parquet: row 40: label `label` must be 0 or 1. Received: 2"):
        encode_rows(files, schema, tmp_path / "encoded")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]


def test_only_parquet(schema, rows, write, tmp_path):
    path = write(tmp_path / "a.csv", rows(10), schema)
    with pytest.raises(ValueError, match=r"`paths` must be Parquet files.*a\.csv"):
        encode_rows(path, schema, tmp_path / "encoded")


def test_another_schema_is_refused(files, schema, tmp_path):
    rows = encode_rows(files, schema, tmp_path / "encoded")
    other = dataclasses.replace(schema, weight=None)
    with pytest.raises(ValueError, match="`schema` must be the one that the rows were encoded by"):
        make_dataset(rows, other, 16)
