"""Files in pieces are prepared as all at once, in this process and by Beam."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from c2al_pipelines.beam import preparation
from c2al_pipelines.beam.pieces import list_pieces
from c2al_pipelines.beam.preparation import prepare_files
from c2al_pipelines.beam.totals import Runner
from c2al_pipelines.datasets.files import Files, open_source

from c2al_tf.data.columns.csv_fields import CsvFormat
from c2al_tf.data.columns.readers import read_columns
from c2al_tf.data.columns.shards import split_files
from c2al_tf.data.preparation.prepare import prepare
from c2al_tf.data.preparation.source import SPLITS, FeatureSpec
from c2al_tf.feature import NumericFeature
from c2al_tf.schema import Column, Schema

ROWS = 6000
PROCESSES = ("--direct_num_workers=2", "--direct_running_mode=multi_processing")
CONFIGS = Path(__file__).parents[3] / "pipelines" / "configs"
FEATURES = (
    FeatureSpec("color", "categorical", min_count=100),
    FeatureSpec("Age (years)", "numeric", num_buckets=5, missing="default", default=30.0),
    FeatureSpec("liked", "categorical", "string", length=2, missing="slot"),
    FeatureSpec("seen", "categorical", "string", shares="liked", length=2, missing="slot"),
    FeatureSpec("user", "categorical", "int64", num_hash_buckets=50),
)


def make_table(first: int, rows: int) -> pa.Table:
    rng = np.random.default_rng(first)
    ages = rng.integers(18, 80, rows)
    return pa.table(
        {
            "color": rng.choice(np.array(["red", "blue", "green", "rare"], object), rows, p=[0.5, 0.3, 0.19, 0.01]),
            "Age (years)": pa.array([None if age < 20 else float(age) for age in ages]),
            "liked": [["a", "b", "c"][: number % 3] for number in ages],
            "seen": [["b", "d"][number % 2 :] for number in ages],
            "user": rng.integers(0, 500, rows),
            "region": rng.integers(0, 4, rows),
            "weight": rng.choice([0.0, 1.0, 2.5], rows).astype(np.float32),
            "click": (rng.random(rows) < 0.2).astype(int),
        }
    )


def write_files(folder: Path, parts: int) -> None:
    bounds = np.linspace(0, ROWS, parts + 1).astype(int)
    table = make_table(0, ROWS)
    for number, (start, stop) in enumerate(itertools.pairwise(bounds)):
        pq.write_table(table.slice(start, stop - start), folder / f"train-{number}.parquet", row_group_size=300)
    pq.write_table(make_table(1, 500), folder / "test.parquet")
    pq.write_table(make_table(2, 400), folder / "validation.parquet")


def make_files(**changes: Any) -> Files:
    axes = (("color",), ("region",))
    given: dict[str, Any] = {"train": "train-*", "test": "test.*", "label": "click", "features": FEATURES, "axes": axes}
    return Files(**{**given, "axis_columns": (Column("region", "int64"),), "weight": "weight"} | changes)


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a file has several, and a piece several batches."""
    monkeypatch.setattr(preparation, "GROUP_ROWS", 70)
    monkeypatch.setattr(preparation, "BATCH_ROWS", 50)
    monkeypatch.setattr(list_pieces, "__defaults__", (400, None, None))


def assert_prepared_alike(one: Path, other: Path) -> None:
    """All rows of all splits in the same order, and the same schema, means and deviations to 1e-12."""
    schema, wanted = Schema.load(one / "schema.json"), Schema.load(other / "schema.json")
    for feature, known in zip(schema.features, wanted.features, strict=True):
        for name, value in vars(known).items():
            if name in ("mean", "std") and isinstance(known, NumericFeature):
                value = pytest.approx(value, rel=1e-12)
            assert getattr(feature, name) == value, (feature.name, name)
    assert (schema.labels, schema.axes, schema.weight) == (wanted.labels, wanted.axes, wanted.weight)
    for split in SPLITS:
        parts = [list(read_columns(split_files(folder, split), schema.columns)) for folder in (one, other)]
        for name in schema.columns:
            found, known = (np.concatenate([batch[name] for batch in batches]) for batches in parts)
            np.testing.assert_array_equal(found, known, err_msg=f"{split}: {name}")


def prepare_both(
    tmp_path: Path, files: Files, negative_sampling: float | None = None, runner: Runner | None = None
) -> None:
    source = open_source(tmp_path, files)
    prepare(source, tmp_path / "at_once", negative_sampling=negative_sampling, progress=False)
    prepare_files(
        source,
        tmp_path / "in_pieces",
        data=tmp_path,
        files=files,
        negative_sampling=negative_sampling,
        runner=runner,
    )
    assert_prepared_alike(tmp_path / "in_pieces", tmp_path / "at_once")


@pytest.mark.parametrize("parts", [1, 7])
@pytest.mark.parametrize("negative_sampling", [None, 0.25])
@pytest.mark.parametrize("changes", [{}, {"validation": "validation.parquet", "weight": None}])
def test_rows_and_schema_are_those_of_all_rows_at_once(tmp_path, parts, negative_sampling, changes) -> None:
    write_files(tmp_path, parts)
    prepare_both(tmp_path, make_files(**changes), negative_sampling)
    assert len(split_files(tmp_path / "in_pieces", "train")) > parts


@pytest.mark.parametrize("options", [(), pytest.param(PROCESSES, marks=pytest.mark.slow)])
def test_beam_prepares_as_this_process_does(tmp_path, options) -> None:
    write_files(tmp_path, 2)
    prepare_both(tmp_path, make_files(), 0.25, Runner("DirectRunner", options, str(tmp_path / "scratch")))
    assert not list((tmp_path / "scratch").iterdir())


def test_files_whose_names_say_nothing_are_read_as_declared(tmp_path) -> None:
    table = make_table(0, ROWS).drop_columns(["liked", "seen"])
    options = pa.csv.WriteOptions(delimiter=";")
    for name, rows in (("train-a.log", table), ("test.log", table.slice(0, 100))):
        pa.csv.write_csv(rows, tmp_path / name, options)
    features = tuple(feature for feature in FEATURES if feature.name not in ("liked", "seen"))
    prepare_both(tmp_path, make_files(csv=CsvFormat(delimiter=";"), format="csv", features=features))


def test_it_goes_on_where_it_was_ended_unless_something_else_is_asked_for(tmp_path, monkeypatch) -> None:
    write_files(tmp_path, 7)
    files = make_files()
    source = open_source(tmp_path, files)
    folder = tmp_path / "in_pieces" / "data"
    write, written = preparation._write, []

    def write_three(part: Any, **options: Any) -> int:
        if len(written) == 3:
            raise KeyboardInterrupt
        written.append(part)
        return write(part, **options)

    monkeypatch.setattr(preparation, "_write", write_three)
    with pytest.raises(KeyboardInterrupt):
        prepare_files(source, tmp_path / "in_pieces", data=tmp_path, files=files)
    assert not (tmp_path / "in_pieces" / "schema.json").exists()
    times = {path: path.stat().st_mtime_ns for path in folder.glob("*.parquet")}
    assert len(times) == 3
    monkeypatch.setattr(preparation, "_write", write)
    prepare_both(tmp_path, files)
    assert {path: path.stat().st_mtime_ns for path in times} == times

    def ended(part: Any, **options: Any) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(preparation, "_write", ended)
    with pytest.raises(KeyboardInterrupt):
        prepare_files(source, tmp_path / "in_pieces", data=tmp_path, files=files, negative_sampling=0.5)
    assert not (tmp_path / "in_pieces" / "schema.json").exists(), "it would be another's"
    monkeypatch.setattr(preparation, "_write", write)
    prepare_files(source, tmp_path / "in_pieces", data=tmp_path, files=files, negative_sampling=0.5)
    (folder / ".uploading").touch()
    left = folder / "train-999999999999.parquet"
    left.touch()
    prepare_files(source, tmp_path / "in_pieces", data=tmp_path, files=files, negative_sampling=0.5)
    assert not left.exists(), "of a folder that was put in part nothing is kept"
    assert not times.items() & {path: path.stat().st_mtime_ns for path in folder.glob("*.parquet")}.items()


@pytest.mark.parametrize("negative_sampling", [None, 0.25])
def test_an_earlier_schema_is_kept(tmp_path, negative_sampling) -> None:
    write_files(tmp_path, 2)
    files = make_files()
    source = open_source(tmp_path, files)
    earlier = prepare(source, tmp_path / "earlier", progress=False)
    pq.write_table(make_table(5, 3000), tmp_path / "train-0.parquet")
    for prepare_it, name in ((prepare, "at_once"), (prepare_files, "in_pieces")):
        options: dict[str, Any] = {"progress": False} if prepare_it is prepare else {"data": tmp_path, "files": files}
        prepare_it(source, tmp_path / name, schema=earlier, negative_sampling=negative_sampling, **options)
    assert_prepared_alike(tmp_path / "in_pieces", tmp_path / "at_once")
    assert Schema.load(tmp_path / "in_pieces" / "schema.json") == earlier


def test_rows_are_not_read_where_they_are_written(tmp_path, c2al) -> None:
    """Nor are they removed, in this process or by Beam."""
    (tmp_path / "run" / "data").mkdir(parents=True)
    write_files(tmp_path / "run" / "data", 1)
    (tmp_path / "clicks.yaml").write_text(CONFIG, encoding="utf-8")
    words = ("prepare", tmp_path / "clicks.yaml", "--data", tmp_path / "run" / "data", "--run-dir", tmp_path / "run")
    for runner in ((), ("--runner", "DirectRunner")):
        outcome = c2al(*words, *runner)
        assert outcome.status == 1
        assert "must not lie where they are to be written" in outcome.error
        assert len(list((tmp_path / "run" / "data").iterdir())) == 3


@pytest.mark.parametrize("runner", [None, "DirectRunner"])
def test_a_bad_row_is_named_with_its_file(tmp_path, runner) -> None:
    write_files(tmp_path, 2)
    clicks = make_table(9, 3000)["click"].to_numpy().copy()
    clicks[2345] = 7
    path = tmp_path / "train-1.parquet"
    table = make_table(9, 3000)
    table = table.set_column(table.schema.get_field_index("click"), "click", pa.array(clicks))
    pq.write_table(table, path, row_group_size=900)
    files = make_files()
    by = Runner(runner, (), str(tmp_path)) if runner else None
    with pytest.raises(Exception, match=r"train-1.parquet: row 2345: label `click` must be 0 or 1. Received: 7"):
        prepare_files(open_source(tmp_path, files), tmp_path / "run", data=tmp_path, files=files, runner=by)
    assert not (tmp_path / "run" / "schema.json").exists()


def test_rates_and_splits_are_checked(tmp_path) -> None:
    write_files(tmp_path, 1)
    empty = make_table(0, 0)
    pq.write_table(empty, tmp_path / "none.parquet")
    files = make_files(test="none.parquet")
    with (
        pytest.raises(ValueError, match=r"none.parquet: the file has no rows"),
        pytest.warns(UserWarning, match="none"),
    ):
        prepare_files(open_source(tmp_path, files), tmp_path / "run", data=tmp_path, files=files)
    files = make_files(validation_share=1e-9)
    with pytest.raises(ValueError, match="The split 'validation' has no rows"):
        prepare_files(open_source(tmp_path, files), tmp_path / "run", data=tmp_path, files=files)
    table = make_table(0, 300)
    files = make_files(train="ones.parquet", validation="validation.parquet")
    for share in (1, 0):
        clicks = pa.array(np.full(300, share))
        renamed = table.set_column(table.schema.get_field_index("click"), "click", clicks)
        pq.write_table(renamed, tmp_path / "ones.parquet")
        for sampling in (0.5, 1e-6):
            with pytest.raises(
                ValueError, match=r"must be some, and at most half, of .* Received: \d+ positives in 300 rows"
            ):
                prepare_files(
                    open_source(tmp_path, files),
                    tmp_path / "run",
                    data=tmp_path,
                    files=files,
                    negative_sampling=sampling,
                )


CONFIG = """
title: Clicks
data:
  name: files
  files:
    train: train-*.parquet
    test: test.parquet
    label: click
    features: [{name: color, kind: categorical}, {name: region, kind: categorical, dtype: int64}]
    axes: [[color]]
cohorts: {axes: [{columns: [color]}]}
"""


def test_the_command_prepares_what_a_run_goes_on_with(tmp_path, c2al) -> None:
    write_files(tmp_path, 2)
    (tmp_path / "clicks.yaml").write_text(CONFIG, encoding="utf-8")
    run = tmp_path / "run"
    words = ("prepare", tmp_path / "clicks.yaml", "--data", tmp_path, "--run-dir", run)
    outcome = c2al(*words, "--runner", "DirectRunner")
    assert outcome.status == 0, outcome.error
    assert outcome.output.split() == [f"{run / 'data'},", str(run / "schema.json")]
    assert not list(run.glob("total-*")), "sums are removed"
    written = {path: path.stat().st_mtime_ns for path in run.rglob("*.parquet")}
    assert c2al(*words).status == 0
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*.parquet")} == written
    outcome = c2al("prepare", CONFIGS / "demo.yaml", "--run-dir", tmp_path / "ads", "--runner", "DirectRunner")
    assert outcome.status == 1
    assert "`--runner` reads files, with data.name=files. Received: data.name=synthetic_ads" in outcome.error
