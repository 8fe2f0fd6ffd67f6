"""Bad rows through `c2al prepare`: one message with file, row or field, rule and value, and nothing half-written."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from c2al_tf.data.columns.examples import write_tfrecord
from c2al_tf.data.columns.readers import read_columns
from c2al_tf.data.columns.shards import write_parquet
from c2al_tf.schema import Column, Schema

CONFIG = """
title: My data
data:
  name: files
  files:
    train: train-*.{suffix}
    validation: validation.{suffix}
    test: test.{suffix}
    label: y
    features:
      - {{name: city, kind: categorical}}
      - {{name: user, kind: categorical, dtype: int64, missing: slot}}
      - {{name: price, kind: numeric}}
    axes: [[city]]
"""
TYPES = {"O": "string", "i": "int64", "f": "float32"}
ROWS = 40
FORMATS = ("parquet", "csv", "tfrecord")


def good_rows() -> dict[str, np.ndarray]:
    row = np.arange(ROWS)
    return {
        "city": np.array(["Rome", "Bonn", "Oslo"], object)[row % 3],
        "user": row % 7,
        "price": row.astype(np.float32) / 4,
        "y": (row % 5 == 0).astype(np.float32),
    }


def write(path: Path, rows: dict[str, np.ndarray]) -> None:
    columns = {name: Column(name, TYPES[v.dtype.kind], *v.shape[1:]) for name, v in rows.items()}
    if path.suffix == ".parquet":
        write_parquet(path, [rows], columns)
    elif path.suffix == ".tfrecord":
        write_tfrecord(path, [rows], columns)
    else:
        lines = [",".join(rows), *(",".join(map(str, row)) for row in zip(*rows.values(), strict=True))]
        path.write_text("\n".join(lines).replace("nan", "") + "\n")


@pytest.fixture
def prepare(c2al, tmp_path) -> Callable[..., str]:
    """Calls the command on files with one change to `train-1`, row 7 or the file; returns what it says."""

    def call(suffix: str, change: Callable[[dict], dict] | None = None, name: str = "train-1", damage=None) -> str:
        for stem in ("train-0", "train-1", "validation", "test"):
            rows = good_rows()
            write(tmp_path / f"{stem}.{suffix}", change(rows) if change and stem == name else rows)
        if damage:
            damage(tmp_path / f"{name}.{suffix}")
        (tmp_path / "config.yaml").write_text(CONFIG.format(suffix=suffix))
        outcome = c2al("prepare", tmp_path / "config.yaml", "--data", tmp_path, "--run-dir", tmp_path / "run")
        if change or damage:
            assert outcome.status == 1
            assert outcome.error.count("c2al: ") == 1
            assert [path.name for path in (tmp_path / "run").iterdir()] == ["config.json"]
        else:
            assert outcome.status == 0, outcome.error
        return outcome.error.split("c2al: ")[-1]

    return call


def put(name: str, value: object) -> Callable[[dict], dict]:
    def change(rows: dict) -> dict:
        rows[name][7] = value
        return rows

    return change


def without(name: str) -> Callable[[dict], dict]:
    return lambda rows: {key: values for key, values in rows.items() if key != name}


@pytest.mark.parametrize("suffix", FORMATS)
def test_good_rows_are_prepared(prepare, tmp_path, suffix) -> None:
    prepare(suffix)
    schema = Schema.load(tmp_path / "run" / "schema.json")
    assert set(schema.features[0].vocabulary) == {"Rome", "Bonn", "Oslo"}
    assert schema.features[2].mean == pytest.approx(good_rows()["price"].mean())
    files = sorted((tmp_path / "run" / "data").iterdir())
    assert [file.name for file in files] == [f"{split}-00000.parquet" for split in ("test", "train", "validation")]
    (batch,) = read_columns(files[1], schema.columns)
    np.testing.assert_array_equal(batch["y"], np.tile(good_rows()["y"], 2))


@pytest.mark.parametrize(
    ("cohorts", "message"),
    [
        ("axes: [{columns: [price], categories: [price]}]", "must cut column `price` by `edges` or `quantiles`"),
        ("axes: [{columns: [city], edges: {city: [0, 1]}}]", "must cut column `city` into values: it holds string"),
        (
            "given: [{name: a, conditions: [{column: city, low: 3}]}]",
            "needs a numeric column. Column `city` holds string",
        ),
        ("given: [{name: a, conditions: [{column: user, values: [x]}]}]", "type of column `user`, which holds integer"),
        ("given: [{name: a, conditions: [{column: tags, values: [x]}]}]", "Received: column `tags` of shape (0, 3)"),
        ("axes: [{columns: [tags]}]", "Received: column `tags` of shape (0, 3)"),
        (
            "given: [{name: a, conditions: [{column: city, values: [Paris]}]}]",
            "Cohort `a` (city is Paris) must have training rows with label 1 to learn from: correct its conditions, or "
            "bring more rows. Received: 0 of 40 training rows, with 0 positives",
        ),
        (
            "given: [{name: a, conditions: [{column: price, low: 0.25, high: 1}]}]",
            "Received: 3 of 40 training rows, with 0 positives",
        ),
    ],
)
def test_cohorts_that_do_not_fit_their_columns_are_found_before_training(c2al, tmp_path, cohorts, message) -> None:
    """Some also by the same command again, which finds the rows prepared."""
    for stem in ("train-0", "validation", "test"):
        write(tmp_path / f"{stem}.parquet", good_rows() | {"tags": np.full((ROWS, 3), "x", object)})
    text = CONFIG.replace("    axes", "      - {{name: tags, kind: categorical, length: 3}}\n    axes")
    (tmp_path / "config.yaml").write_text(text.format(suffix="parquet") + f"cohorts:\n  {cohorts}\n")
    for _ in range(2 if "Received" in message else 1):
        outcome = c2al("prepare", tmp_path / "config.yaml", "--data", tmp_path, "--run-dir", tmp_path / "run")
        assert (outcome.status, outcome.error.count("c2al: ")) == (1, 1)
        assert message in outcome.error


@pytest.mark.parametrize(
    ("suffix", "name", "value"),
    [
        ("parquet", "train-1", -1.0),
        ("csv", "train-1", 0.5),
        ("tfrecord", "train-1", np.nan),
        ("parquet", "test", np.nan),
        ("csv", "test", np.nan),
        ("tfrecord", "test", 2.0),
    ],
)
def test_a_label_outside_0_and_1(prepare, tmp_path, suffix, name, value) -> None:
    says = prepare(suffix, put("y", value), name)
    received = "null or NaN" if np.isnan(value) else value
    assert says == f"{tmp_path / name}.{suffix}: row 7: label `y` must be 0 or 1. Received: {received}"


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_null_in_a_feature_that_declares_none(prepare, tmp_path, suffix) -> None:
    rule = "must have a value, as it declares missing='error' (else declare 'slot' or 'default')"
    where = f"{tmp_path / 'train-1'}.{suffix}: row 7: feature"
    assert prepare(suffix, put("price", np.nan)) == f"{where} `price` {rule}. Received: null or NaN"
    assert prepare(suffix, put("city", "")) == f"{where} `city` {rule}. Received: null"


@pytest.mark.parametrize("suffix", FORMATS)
def test_an_infinite_number(prepare, tmp_path, suffix) -> None:
    says = prepare(suffix, put("price", np.inf))
    assert says == f"{tmp_path / 'train-1'}.{suffix}: row 7: feature `price` must be finite, as float32. Received: inf"


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
@pytest.mark.parametrize("name", ["user", "y"])
def test_a_missing_column(prepare, tmp_path, suffix, name) -> None:
    says = prepare(suffix, without(name))
    assert says.startswith(f"{tmp_path / 'train-1'}.{suffix}: no column `{name}`")
    assert re.search(rf"present are \['city', 'price', '{'y' if name == 'user' else 'user'}'\]", says)


@pytest.mark.parametrize(
    ("name", "rule"), [("y", "label `y` must be 0 or 1"), ("price", "feature `price` must have a value.*")]
)
def test_a_feature_that_no_record_has(prepare, tmp_path, name, rule) -> None:
    """It is missing in each record, which a label and a feature that declares no missing values may not be."""
    place = rf"train-1\.tfrecord: none of the first {ROWS} records has the features \['{name}'\]"
    with pytest.warns(UserWarning, match=place):
        says = prepare("tfrecord", without(name))
    assert re.fullmatch(
        rf"{tmp_path}/train-1\.tfrecord: row 0: {rule}\. Received: null or NaN \(rows 1, .*", says.strip(), re.DOTALL
    ), says


def test_a_feature_that_records_may_lack(c2al, tmp_path) -> None:
    for stem in ("train-0", "validation", "test"):
        write(tmp_path / f"{stem}.tfrecord", good_rows() if stem != "train-0" else without("user")(good_rows()))
    (tmp_path / "config.yaml").write_text(CONFIG.format(suffix="tfrecord"))
    with pytest.warns(UserWarning, match=r"has the features \['user'\]"):
        outcome = c2al("prepare", tmp_path / "config.yaml", "--data", tmp_path, "--run-dir", tmp_path / "run")
    assert outcome.status == 0, outcome.error


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("name", ["price", "user"])
def test_a_wrong_type(prepare, tmp_path, suffix, name) -> None:
    says = prepare(suffix, lambda rows: rows | {name: np.array([f"no {value}" for value in rows[name]], object)})
    assert says.startswith(f"{tmp_path / 'train-1'}.{suffix}: ")
    assert f"`{name}`" in says
    assert re.search("float|double" if name == "price" else "int64", says)
    assert re.search("Received: .*(no 0|string|bytes_list)", says)


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_a_split_without_rows(prepare, tmp_path, suffix) -> None:
    says = prepare(suffix, lambda rows: {name: values[:0] for name, values in rows.items()}, "test")
    assert says == f"{tmp_path / 'test'}.{suffix}: the file has no rows; at least one is needed"


@pytest.mark.parametrize("suffix", FORMATS)
def test_an_empty_file(prepare, tmp_path, suffix) -> None:
    """The only one of its split; among others it would be skipped."""
    says = prepare(suffix, damage=lambda path: path.write_bytes(b""), name="test")
    assert says == f"{tmp_path / 'test'}.{suffix}: the file has no rows; at least one is needed"


@pytest.mark.parametrize("suffix", ["parquet", "tfrecord"])
def test_a_truncated_file(prepare, tmp_path, suffix) -> None:
    says = prepare(suffix, damage=lambda path: path.write_bytes(path.read_bytes()[:-30]))
    assert says.startswith(f"{tmp_path / 'train-1'}.{suffix}: ")
    if suffix == "tfrecord":
        assert "truncated or corrupt TFRecord after record 39; copy the file again or write it anew" in says


def test_a_csv_line_with_too_few_fields(prepare, tmp_path) -> None:
    says = prepare("csv", damage=lambda path: path.write_text(path.read_text() + "Rome,3\n"))
    assert says.startswith(f"{tmp_path / 'train-1'}.csv: not valid CSV: ")


def test_a_csv_field_that_begins_with_a_quotation_mark(prepare, tmp_path) -> None:
    says = prepare("csv", damage=lambda path: path.write_text(path.read_text() + 'Rome,3,1,1\n"Bonn,3,1,1\n'))
    assert says.startswith(f"{tmp_path / 'train-1'}.csv: line {ROWS + 3}: a quoted field must end on its line")


def test_no_file_matches(c2al, tmp_path) -> None:
    (tmp_path / "config.yaml").write_text(CONFIG.format(suffix="csv"))
    outcome = c2al("prepare", tmp_path / "config.yaml", "--data", tmp_path, "--run-dir", tmp_path / "run")
    assert outcome.status == 1
    assert f"{tmp_path}: no file matches 'train-*.csv'. Received: ['config.yaml'" in outcome.error


def test_rows_set_aside_do_not_shift_the_numbers(c2al, tmp_path) -> None:
    """Without validation files a part of the training rows is: a bad row keeps the number that it has in its file."""
    for stem in ("train-0", "test"):
        write(tmp_path / f"{stem}.csv", put("y", 3.0)(good_rows()) if stem == "train-0" else good_rows())
    text = CONFIG.format(suffix="csv").replace("    validation: validation.csv\n", "    validation_share: 0.5\n")
    (tmp_path / "config.yaml").write_text(text)
    outcome = c2al("prepare", tmp_path / "config.yaml", "--data", tmp_path, "--run-dir", tmp_path / "run")
    assert f"{tmp_path / 'train-0'}.csv: row 7: label `y` must be 0 or 1. Received: 3.0" in outcome.error


def test_rows_are_counted_through_a_long_file(c2al, tmp_path) -> None:
    """It is read in batches of 65,536 rows."""
    rows = {name: np.resize(values, 70_000) for name, values in good_rows().items()}
    rows["y"][69_999] = 3.0
    for stem in ("train-0", "validation", "test"):
        write(tmp_path / f"{stem}.parquet", rows if stem == "train-0" else good_rows())
    (tmp_path / "config.yaml").write_text(CONFIG.format(suffix="parquet"))
    outcome = c2al("prepare", tmp_path / "config.yaml", "--data", tmp_path, "--run-dir", tmp_path / "run")
    assert f"{tmp_path / 'train-0'}.parquet: row 69999: label `y` must be 0 or 1. Received: 3.0" in outcome.error


def test_what_was_prepared_before_is_not_lost(prepare, tmp_path) -> None:
    """A run whose rows are prepared does not look at the files again."""
    prepare("csv")
    (tmp_path / "train-1.csv").write_text("damaged")
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    from c2al_pipelines import cli

    words = ["prepare", str(tmp_path / "config.yaml"), f"--data={tmp_path}", f"--run-dir={tmp_path / 'run'}"]
    cli.main(words)
    assert {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()} == before


def test_once_the_description_is_right_the_same_folder_serves(prepare, c2al, tmp_path) -> None:
    prepare("csv", put("price", np.nan))
    words = ("prepare", tmp_path / "config.yaml", "--data", tmp_path, "--run-dir", tmp_path / "run")
    text = (tmp_path / "config.yaml").read_text()
    (tmp_path / "config.yaml").write_text(text.replace("kind: numeric", "kind: numeric, missing: slot"))
    outcome = c2al(*words)
    assert outcome.status == 0, outcome.error
    assert Schema.load(tmp_path / "run" / "schema.json").features[2].missing == "slot"


def test_as_a_command_of_its_own(script, tmp_path) -> None:
    """Exit status 1 and one message on stderr: no traceback, no notes of TensorFlow."""
    write(tmp_path / "train-0.tfrecord", put("y", 3.0)(good_rows()))
    for stem in ("validation", "test"):
        write(tmp_path / f"{stem}.tfrecord", good_rows())
    (tmp_path / "config.yaml").write_text(CONFIG.format(suffix="tfrecord"))
    outcome = script("prepare", tmp_path / "config.yaml", "--data", tmp_path, "--run-dir", tmp_path / "run")
    assert (outcome.status, outcome.output) == (1, "")
    lines = [line for line in re.split(r"[\r\n]+", outcome.error) if not line.startswith("prepare train: ")]
    assert lines == [
        "",
        f"c2al: {tmp_path / 'train-0'}.tfrecord: row 7: label `y` must be 0 or 1. Received: 3.0",
        "",
    ]
