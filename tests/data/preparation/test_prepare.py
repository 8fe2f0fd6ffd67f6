import dataclasses
from functools import partial

import numpy as np
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from c2al_tf.cohorts import Cohort, Interval
from c2al_tf.data.columns import shards
from c2al_tf.data.columns.readers import read_columns
from c2al_tf.data.columns.shards import split_files
from c2al_tf.data.inputs.features import FeatureEncoder
from c2al_tf.data.inputs.priors import count_tasks
from c2al_tf.data.preparation.learned_schema import build_schema
from c2al_tf.data.preparation.prepare import prepare
from c2al_tf.data.preparation.source import FeatureSpec, Source
from c2al_tf.schema import CategoricalFeature, Column, NumericFeature, Schema
from c2al_tf.types import MISSING_INT

SPECS = (
    FeatureSpec("city", "categorical", min_count=3, max_size=2, missing="slot"),
    FeatureSpec("user", "categorical", num_hash_buckets=7, missing="slot"),
    FeatureSpec("genres", "categorical", dtype="string", length=3, combiner="sum", missing="slot"),
    FeatureSpec("codes", "categorical", length=2, missing="default", default=5),
    FeatureSpec("age", "numeric", num_buckets=4, scaling="log", missing="slot"),
)


@pytest.fixture
def splits(rows):
    """Rows of each split, and how they are cut into batches."""
    batches = {
        "train": [rows(40, 0), {name: values[:0] for name, values in rows(1).items()}, rows(53, 1)],
        "validation": [rows(20, 2)],
        "test": [rows(31, 3)],
    }
    return {name: [{k: v for k, v in b.items() if k != "weight"} for b in parts] for name, parts in batches.items()}


@pytest.fixture
def source(splits):
    opened = {name: partial(iter, batches) for name, batches in splits.items()}
    return Source(SPECS, "label", (("age",),), opened, (Column("surface", "int64"),))


def replaced(source, split, change):
    """A source with the last batch of one split changed in place."""
    *others, last = source.splits[split]()
    last = {name: values.copy() for name, values in last.items()}
    change(last)
    return dataclasses.replace(source, splits={**source.splits, split: lambda: iter([*others, last])})


def column(splits, name):
    return np.concatenate([batch[name] for batch in splits["train"]])


def test_schema_is_what_numpy_finds(source, splits, tmp_path):
    schema = prepare(source, tmp_path, progress=False)
    city, user, genres, _, age = schema.features
    assert schema.labels == ("label",)
    assert schema.axes == (("age",),)

    values, counts = np.unique(column(splits, "city"), return_counts=True)
    ranked = sorted((-n, v) for v, n in zip(values, counts, strict=True) if v and n >= 3)
    assert city == CategoricalFeature("city", "string", tuple(v for _, v in ranked[:2]), missing="slot")
    assert user == CategoricalFeature("user", "int64", num_hash_buckets=7, missing="slot")
    assert set(genres.vocabulary) == {"a", "b", "unseen"}
    assert (genres.length, genres.combiner) == (3, "sum")

    ages = column(splits, "age")
    ages = ages[~np.isnan(ages)].astype(np.float64)
    scaled = np.sign(ages) * np.log1p(np.abs(ages))
    quartiles = np.quantile(ages, [0.25, 0.5, 0.75], method="inverted_cdf")
    assert isinstance(age, NumericFeature)
    assert age.boundaries == tuple(float(q) for q in quartiles)
    np.testing.assert_allclose([age.mean, age.std], [scaled.mean(), scaled.std()], rtol=1e-9)


def test_default_counts_where_it_stands_for_a_null(source, splits, tmp_path):
    codes = column(splits, "codes")
    missing = np.iinfo(np.int64).min
    empty = (codes == missing).all(axis=1).sum()
    assert empty > 0
    counts = {value: int((codes == value).sum()) for value in (5, -1, 77)}
    counts[5] += int(empty)
    expected = tuple(sorted(counts, key=lambda value: (-counts[value], value)))
    assert prepare(source, tmp_path, progress=False).features[3].vocabulary == expected
    (codes,) = build_schema(
        splits["train"],
        dataclasses.replace(source, features=(dataclasses.replace(SPECS[3], min_count=counts[5]),), axes=()),
    ).features
    assert 5 in codes.vocabulary

    specs = (FeatureSpec("age", "numeric", scaling="standard", missing="default", default=1000),)
    (age,) = prepare(dataclasses.replace(source, features=specs), tmp_path, progress=False).features
    ages = np.nan_to_num(column(splits, "age"), nan=1000).astype(np.float64)
    np.testing.assert_allclose([age.mean, age.std], [ages.mean(), ages.std()], rtol=1e-9)


def test_encoded_training_rows_are_standardised(source, splits, tmp_path):
    specs = tuple(FeatureSpec("age", "numeric", scaling=s, num_buckets=4, missing="slot") for s in ("log", "standard"))
    for spec in specs:
        schema = prepare(dataclasses.replace(source, features=(spec,)), tmp_path, progress=False)
        ages = column(splits, "age")
        encoded = FeatureEncoder(schema)({"age": tf.constant(ages)})
        values = encoded["age_value"].numpy()[~np.isnan(ages)].astype(np.float64)
        np.testing.assert_allclose([values.mean(), values.std()], [0, 1], atol=1e-5)
        counts = np.bincount(encoded["age"].numpy()[~np.isnan(ages)], minlength=5)[1:]
        assert counts.min() >= len(values) // 4 - 1


@pytest.mark.parametrize("rows_per_shard", [10, 25, 1000])
def test_shards_hold_the_rows(source, splits, tmp_path, monkeypatch, rows_per_shard):
    monkeypatch.setattr(shards, "GROUP_ROWS", 10)
    schema = prepare(source, tmp_path, rows_per_shard=rows_per_shard, progress=False)
    for split, batches in splits.items():
        files = split_files(tmp_path, split)
        assert files[0].name == f"{split}-00000.parquet"
        sizes = [pq.read_metadata(file).num_rows for file in files]
        assert max(sizes) <= rows_per_shard
        assert len(sizes) == -(-sum(sizes) // min(rows_per_shard // 10 * 10, sum(sizes)))
        got = list(read_columns(files, schema.columns))
        for name in schema.columns:
            expected = np.concatenate([batch[name] for batch in batches])
            np.testing.assert_array_equal(np.concatenate([batch[name] for batch in got]), expected, err_msg=name)


def test_schema_is_saved(source, tmp_path):
    schema = prepare(source, tmp_path, progress=False)
    assert Schema.load(tmp_path / "schema.json") == schema


def test_build_schema_learns_the_same_without_writing(source, splits, tmp_path):
    assert build_schema(splits["train"], source) == prepare(source, tmp_path, progress=False)
    with pytest.raises(ValueError, match="at least one row"):
        build_schema([], source)


def test_statistics_come_from_train_alone(source, tmp_path):
    def change(batch):
        batch["age"][:] = 1e6
        batch["city"][:] = "elsewhere"

    changed = replaced(replaced(source, "validation", change), "test", change)
    assert prepare(changed, tmp_path / "b", progress=False) == prepare(source, tmp_path / "a", progress=False)


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_empty_split(source, tmp_path, split):
    empty = dataclasses.replace(source, splits={**source.splits, split: lambda: iter([])})
    with pytest.raises(ValueError, match=f"The split '{split}' has no rows"):
        prepare(empty, tmp_path, progress=False)


def test_missing_split(source, tmp_path):
    splits = {name: stream for name, stream in source.splits.items() if name != "test"}
    with pytest.raises(ValueError, match=r"must have the splits \['train', 'validation', 'test'\]. Received: \['train"):
        prepare(dataclasses.replace(source, splits=splits), tmp_path, progress=False)


def put(name, row, value):
    def change(batch):
        batch[name][row] = value

    return change


def retype(name, value):
    def change(batch):
        batch[name] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put("label", 5, 2), r"test: row 5: label `label` must be 0 or 1. Received: 2"),
        (put("age", 5, np.inf), r"test: row 5: feature `age` must be finite"),
        (lambda batch: batch.pop("user"), r"test: no column `user`; present are \['age', 'city'"),
        (retype("age", np.array(["a"] * 31, object)), r"test: column `age` must be float32 .*Received: object"),
        (retype("user", np.zeros(31)), r"test: column `user` must be int64 .*Received: float64"),
        (retype("genres", np.array(["a"] * 31)), r"column `genres` must be string of shape \(rows, 3\)"),
        (put("city", 5, None), r"column `city` must hold `str`, a null as \"\". Received: None"),
        (
            retype("user", np.zeros(30, np.int64)),
            r"column `user` must have as many rows as the others, 31. Received: 30",
        ),
    ],
)
def test_bad_rows_are_named_and_nothing_written_is_lost(source, tmp_path, change, message):
    schema = prepare(source, tmp_path, progress=False)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match=message):
        prepare(replaced(source, "test", change), tmp_path, progress=False)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert Schema.load(tmp_path / "schema.json") == schema


def test_row_number_counts_over_batches(source, tmp_path):
    with pytest.raises(ValueError, match="train: row 45: label"):
        prepare(replaced(source, "train", put("label", 5, -1)), tmp_path, progress=False)


def test_null_in_a_feature_that_declares_none(source, tmp_path):
    strict = tuple(dataclasses.replace(spec, missing="error", default=None) for spec in SPECS)
    with pytest.raises(ValueError, match=r"train: row \d+: (?s:.*)feature `city` must have a value.*Received: null"):
        prepare(dataclasses.replace(source, features=strict), tmp_path, progress=False)


def test_features_that_share_a_vocabulary_learn_it_from_both():
    features = (
        FeatureSpec("shown", "categorical", max_size=2),
        FeatureSpec("seen", "categorical", length=2, missing="slot", shares="shown"),
    )
    batch = {
        "shown": np.array([7, 7, 8]),
        "seen": np.array([[9, 9], [9, 8], [MISSING_INT, MISSING_INT]]),
        "label": np.array([0, 1, 0], np.float32),
    }
    shown, seen = build_schema([batch], Source(features, "label", (), {})).features
    assert shown.vocabulary == seen.vocabulary == (9, 7)
    assert seen.shares == "shown"


def test_numbers_are_no_categories(source, tmp_path):
    specs = (FeatureSpec("age", "categorical"),)
    with pytest.raises(ValueError, match=r"Categorical column `age` must hold strings or integers.*float32"):
        prepare(dataclasses.replace(source, features=specs), tmp_path, progress=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "number"}, "`kind` of feature `x` must be one of categorical, numeric. Received: kind='number'"),
        ({"kind": "categorical", "dtype": "float32"}, "`dtype` of feature `x` must be"),
        ({"kind": "categorical", "dtype": "str"}, "`dtype` of feature `x` must be one of string, int64"),
        ({"kind": "numeric", "dtype": "int64"}, "`dtype` of feature `x` must be"),
        ({"kind": "numeric", "length": 3}, "`length` of feature `x` is for categorical features.*Received: .*length=3"),
        ({"kind": "numeric", "num_hash_buckets": 3}, "`num_hash_buckets` of feature `x` is for categorical features"),
        ({"kind": "categorical", "scaling": "log"}, "`scaling` of feature `x` is for numeric features"),
        ({"kind": "categorical", "scaling": "lgo"}, "`scaling` of feature `x` is for numeric features"),
        ({"kind": "numeric", "scaling": "lgo"}, "`scaling` of feature `x` must be one of none, standard, log"),
        ({"kind": "numeric", "missing": "skip"}, "`missing` of feature `x` must be one of error, slot, default"),
        ({"kind": "categorical", "combiner": "max"}, "`combiner` of feature `x` must be one of mean, sum"),
        ({"kind": "categorical", "max_size": 0}, "`max_size` of feature `x` must be a whole number of at least 1"),
        ({"kind": "categorical", "min_count": 0}, "`min_count` of feature `x` must be .* at least 1. Received: min_co"),
        ({"kind": "categorical", "num_hash_buckets": 0}, "`num_hash_buckets` of feature `x` must be .* at least 1"),
        ({"kind": "categorical", "length": 0}, "`length` of feature `x` must be .* at least 1"),
        ({"kind": "numeric", "num_buckets": -1}, "`num_buckets` of feature `x` must be .* at least 0"),
        ({"kind": "numeric", "missing": "default", "default": "0"}, "`default` of feature `x` must be a finite number"),
        ({"kind": "categorical", "missing": "default", "default": 0.5}, "`default` of feature `x` must be a string"),
        ({"kind": "categorical", "missing": "default", "default": ""}, "`default` of feature `x` must be a string"),
        ({"kind": "categorical", "missing": "default"}, "`x` needs a `default` with missing='default'"),
        ({"kind": "numeric", "shares": "y"}, "`shares` of feature `x` is for categorical features"),
        ({"kind": "categorical", "shares": "y", "min_count": 2}, "`min_count` and `max_size` of feature `x` are those"),
    ],
)
def test_feature_that_cannot_be(arguments, message):
    with pytest.raises(ValueError, match=message):
        FeatureSpec("x", **arguments)


def test_default_of_another_type_than_the_column_turns_out_to_have(source, tmp_path):
    specs = (FeatureSpec("user", "categorical", missing="default", default="nobody"),)
    with pytest.raises(ValueError, match=r"`default` of feature `user` must be an integer.*Received: 'nobody'"):
        prepare(dataclasses.replace(source, features=specs), tmp_path, progress=False)


def test_name_that_could_not_be_served_is_known_before_anything_is_written(source, tmp_path):
    specs = (FeatureSpec("user id", "categorical"),)
    renamed = {
        name: lambda split=split: ({"user id": b["user"], **b} for b in split())
        for name, split in source.splits.items()
    }
    with pytest.raises(ValueError, match=r"Received: \['user id'\]"):
        prepare(dataclasses.replace(source, features=specs, splits=renamed), tmp_path, progress=False)
    assert list(tmp_path.iterdir()) == []


def test_rows_of_weight_0_teach_nothing_but_stay(source, splits, tmp_path):
    def weighted(split, weights):
        return lambda: ({**batch, "weight": weights[: len(batch["age"])]} for batch in splits[split])

    weights = np.tile(np.float32([0, 1, 2.5]), 20)
    opened = {split: weighted(split, weights) for split in splits}
    schema = prepare(dataclasses.replace(source, splits=opened, weight="weight"), tmp_path / "a", progress=False)
    assert schema.weight == "weight"
    (first, *_) = read_columns(split_files(tmp_path / "a", "train"), schema.columns)
    assert len(first["weight"]) == 93
    np.testing.assert_array_equal(first["weight"][:40], weights[:40])

    kept = [{k: v[weights[: len(v)] > 0] for k, v in b.items()} for b in splits["train"]]
    assert dataclasses.replace(schema, weight=None) == build_schema(kept, source)
    wrong = {**opened, "test": weighted("test", -weights)}
    with pytest.raises(ValueError, match=r"test: row 1: weight `weight` must be finite and at least 0. Received: -1.0"):
        prepare(dataclasses.replace(source, splits=wrong, weight="weight"), tmp_path / "b", progress=False)


def test_a_batch_of_weight_0_alone_teaches_nothing(source, splits):
    weighted = [
        {**batch, "weight": np.full(len(batch["age"]), number, np.float32)}
        for number, batch in enumerate(splits["train"])
    ]
    schema = build_schema(weighted, dataclasses.replace(source, weight="weight"))
    assert dataclasses.replace(schema, weight=None) == build_schema(splits["train"][1:], source)


def test_task_counts_of_weighted_rows(tmp_path, monkeypatch):
    """By weight: positives 1 + 4 of 1 + 2 + 4 + 3; the young's is the first row alone."""
    monkeypatch.setattr("c2al_tf.data.inputs.priors.FEW_POSITIVES", 1)
    schema = Schema((NumericFeature("age"),), weight="weight")
    columns = {
        "age": np.float32([20, 20, 40, 40, 20, 90]),
        "label": np.float32([1, 0, 1, 0, 1, 1]),
        "weight": np.float32([1, 2, 4, 3, 0, 0]),
    }
    shards.write_parquet(tmp_path / "a.parquet", [columns], schema.columns)
    young, ancient = Cohort("young", (Interval("age", high=30.0),)), Cohort("ancient", (Interval("age", 80.0),))
    counts = count_tasks(tmp_path / "a.parquet", schema, [young])
    assert counts.rows == 6
    assert counts.positives == {"primary": 2, "young": 1}
    assert counts.priors == {"primary": 5 / 10, "young": 1 / 10}
    with pytest.raises(ValueError, match=r"Task `ancient` .*a cohort that matches none of 4"):
        count_tasks(tmp_path / "a.parquet", schema, [ancient])


def test_files_of_a_split_that_was_not_prepared(tmp_path):
    with pytest.raises(ValueError, match=r"data: no files `train-\*\.parquet`; `prepare` writes them"):
        split_files(tmp_path, "train")


def test_an_earlier_schema_is_kept_and_nothing_is_learnt(source, tmp_path) -> None:
    """With the axes of the new rows."""
    earlier = prepare(source, tmp_path / "earlier", progress=False)
    others = replaced(source, "train", lambda batch: batch["city"].fill("Atlantis"))
    others = dataclasses.replace(others, axes=(("city",),))
    schema = prepare(others, tmp_path / "now", schema=earlier, progress=False)
    assert schema == dataclasses.replace(earlier, axes=(("city",),)) == Schema.load(tmp_path / "now" / "schema.json")
    assert schema.features != prepare(others, tmp_path / "learnt", progress=False).features


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"features": SPECS[1:]}, "features"),
        ({"features": (*SPECS[:-1], dataclasses.replace(SPECS[-1], scaling="none"))}, "features"),
        ({"features": (dataclasses.replace(SPECS[0], missing="error"), *SPECS[1:])}, "features"),
        ({"label": "surface", "axis_columns": ()}, "labels"),
    ],
)
def test_an_earlier_schema_of_other_columns_is_refused(source, tmp_path, change, name) -> None:
    earlier = prepare(source, tmp_path / "earlier", progress=False)
    with pytest.raises(ValueError, match=rf"`schema` must be of the rows' {name}\. Received: "):
        prepare(dataclasses.replace(source, **change), tmp_path / "now", schema=earlier, progress=False)
    assert not (tmp_path / "now").exists()
