"""Gradient boosting on a run's rows: what it sees, what it reaches on real data, where it is said."""

import dataclasses

import numpy as np
import pytest
from c2al_pipelines.datasets import census
from c2al_pipelines.run import yardstick as module
from c2al_pipelines.run.config import DataConfig, RunConfig
from c2al_pipelines.run.folder import RunFolder
from c2al_pipelines.run.yardstick import categorical_columns, encode, measure_yardstick
from threadpoolctl import threadpool_limits

from c2al_tf.cohorts import Cohort, Discovery, Guard, Interval
from c2al_tf.data.inputs.features import FeatureEncoder
from c2al_tf.data.preparation.prepare import prepare
from c2al_tf.data.preparation.source import FeatureSpec, Source
from c2al_tf.files import read_json
from c2al_tf.schema import CategoricalFeature, NumericFeature

ROWS = 6000
YOUNG = Cohort("young", (Interval("age", high=30.0),))


def draw(rows, seed):
    """Clicks that depend on a pair of columns, of which a tenth of the ages are missing."""
    rng = np.random.default_rng(seed)
    columns = {
        "city": rng.choice(np.array(["rome", "oslo"], object), rows),
        "age": rng.uniform(15, 60, rows).astype(np.float32),
    }
    p = np.where((columns["city"] == "rome") == (columns["age"] < 30), 0.3, 0.02)
    columns["age"][rng.random(rows) < 0.1] = np.nan
    return {**columns, "click": (rng.random(rows) < p).astype(np.float32)}


@pytest.fixture(autouse=True)
def one_thread():
    """The threads of scikit-learn wait by spinning: beside other jobs a fit of two seconds took eighty."""
    import sklearn.ensemble  # noqa: F401  its thread pool must be there to be limited

    with threadpool_limits(1, user_api="openmp"):
        yield


@pytest.fixture
def prepared(tmp_path):
    """Maps options of `prepare` to a prepared run whose targeted cohort is the young."""

    def make(**options):
        splits = {name: lambda i=i: iter([draw(ROWS, i)]) for i, name in enumerate(("train", "validation", "test"))}
        features = (FeatureSpec("city", "categorical", "string"), FeatureSpec("age", "numeric", missing="slot"))
        folder = tmp_path / "-".join(options)
        prepare(Source(features, "click", (("age",),), splits), folder, progress=False, **options)
        run = RunFolder(folder, RunConfig("t", DataConfig("files"), yardstick=True))
        run.__dict__["cohorts"] = (YOUNG,)
        run.__dict__["discovery"] = Discovery("js", ROWS, 1, Guard(), (), (), None)
        return run

    return make


def test_ids_of_few_values_are_categories_and_numbers_stay(small_schema, small_rows):
    vocabulary = tuple(range(254))
    features = (*small_schema.features, CategoricalFeature("many", "int64", vocabulary), NumericFeature("raw"))
    schema = dataclasses.replace(small_schema, features=features)
    rows = {**small_rows(4), "many": np.array([0, 1, 253, 999]), "raw": np.float32([1, 2, 3, 4])}
    rows["age"][1] = np.nan
    encoded = encode(rows, FeatureEncoder(schema))
    assert encoded.shape == (4, 7)  # tags are two columns
    np.testing.assert_array_equal(encoded[:, 4], rows["age"])
    np.testing.assert_array_equal(encoded[:, 5], [2, 3, 255, 1])
    np.testing.assert_array_equal(encoded[:, 6], rows["raw"])
    assert categorical_columns(schema).tolist() == [True, True, True, True, False, False, False]


def test_it_learns_and_is_kept(prepared, monkeypatch):
    run = prepared()
    found = measure_yardstick(run)
    assert found == read_json(run.path / "yardstick.json")
    assert (found["rows"], found["total_rows"], list(found["metrics"])) == (ROWS, ROWS, ["all", "young", "rest"])
    assert found["metrics"]["all"]["ne"] < 0.88
    assert found["metrics"]["all"]["rows"] == ROWS
    monkeypatch.setattr(module, "_train", None)
    assert measure_yardstick(run) == found
    run.__dict__["cohorts"] = (Cohort("young", (Interval("age", high=25.0),)),)
    with pytest.raises(TypeError):
        measure_yardstick(run)


def test_it_takes_a_sample_that_is_always_the_same(prepared, monkeypatch):
    run = prepared(rows_per_shard=700)
    monkeypatch.setattr(module, "MOST_ROWS", 1500)
    found = measure_yardstick(run)
    assert 1300 < found["rows"] <= 1500
    (run.path / "yardstick.json").unlink()
    assert measure_yardstick(run) == found


def test_it_weighs_sampled_negatives(prepared):
    """Trained on a third of the negatives it predicts the click rate of all rows."""
    whole, sampled = (measure_yardstick(prepared(**options)) for options in ({}, {"negative_sampling": 0.33}))
    assert sampled["total_rows"] < 0.6 * ROWS
    assert sampled["metrics"]["all"]["calibration"] == pytest.approx(1, abs=0.15)
    assert sampled["metrics"]["all"]["ne"] == pytest.approx(whole["metrics"]["all"]["ne"], abs=0.03)


@pytest.mark.slow
def test_on_census_it_reaches_what_was_measured(real_data, tmp_path):
    prepare(census.open_source(real_data / "census_income_kdd"), tmp_path, progress=False)
    run = RunFolder(tmp_path, RunConfig("t", DataConfig("census"), yardstick=True))
    run.__dict__["cohorts"] = (Cohort("young", (Interval("age", 18.0, 25.0),)),)
    metrics = measure_yardstick(run)["metrics"]
    assert (metrics["all"]["rows"], metrics["all"]["positives"]) == (99_762, 6_186)
    assert metrics["all"]["ne"] < 0.477
    assert metrics["all"]["auc"] > 0.955
    assert metrics["young"]["rows"] < metrics["rest"]["rows"]


@pytest.mark.slow
def test_a_run_with_sampled_negatives_and_a_yardstick_says_both(script, small_words, tmp_path):
    words = small_words(tmp_path, yardstick=True, data__negative_sampling=0.5, seeds=1)
    outcome = script("run", *words)
    assert outcome.status == 0, outcome.error
    rows = read_json(tmp_path / "details.json")["rows"]
    assert rows["train"] < 20_000
    assert (rows["validation"], rows["test"]) == (15_000, 15_000)
    assert f"Trained on {rows['train']:,} rows: all positives, and half of the negatives at weight 2" in outcome.output
    assert "Gradient boosting as a yardstick" in outcome.output
    page = (tmp_path / "report.html").read_text()
    assert "half of the negatives at weight 2" in page
    assert "Beside gradient boosting" in page
    before = (tmp_path / "yardstick.json").stat().st_mtime_ns
    again = script("run", *words)
    assert again.status == 0, again.error
    assert (tmp_path / "yardstick.json").stat().st_mtime_ns == before
    # The yardstick may be taken away, and the rest of the run stays.
    assert script("run", *words, "--yardstick=false").status == 0
    assert "Beside gradient boosting" not in (tmp_path / "report.html").read_text()
