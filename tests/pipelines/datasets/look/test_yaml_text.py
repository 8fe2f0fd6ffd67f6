import gzip
import itertools

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
import yaml
from c2al_pipelines.datasets.files import open_source
from c2al_pipelines.datasets.look.found_files import find_files
from c2al_pipelines.datasets.look.sample import read_sample
from c2al_pipelines.datasets.look.yaml_text import as_yaml, make_draft
from c2al_pipelines.run.config import load_config

from c2al_tf.data.columns.csv_fields import CsvFormat
from c2al_tf.data.preparation.learned_schema import build_schema

ROWS = {"train": 1500, "test": 500}


def _columns(rows, seed):
    rng = np.random.default_rng(seed)
    return {
        "click": (rng.random(rows) < 0.3).astype(int).tolist(),
        "user_id": [f"u{i}" for i in rng.integers(0, 200, rows)],
        "ad_id": rng.integers(0, 100, rows).tolist(),
        "price": rng.normal(size=rows).round(3).tolist(),
        "tags": [["a", "b", "c"][: int(n)] for n in rng.integers(0, 4, rows)],
        "color": [("red", "green", None)[int(i)] for i in rng.integers(0, 3, rows)],
    }


def _text(value):
    return "" if value is None else "|".join(value) if isinstance(value, list) else str(value)


def _write_csv(path, columns, delimiter=",", header=True):
    lines = [delimiter.join(columns)] if header else []
    lines += [delimiter.join(map(_text, row)) for row in zip(*columns.values(), strict=True)]
    data = ("\n".join(lines) + "\n").encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


def _feature(value):
    values = [] if value is None else value if isinstance(value, list) else [value]
    if values and isinstance(values[0], str):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[v.encode() for v in values]))
    if values and isinstance(values[0], float):
        return tf.train.Feature(float_list=tf.train.FloatList(value=values))
    return tf.train.Feature(int64_list=tf.train.Int64List(value=values))


def _write_records(path, columns):
    with tf.io.TFRecordWriter(str(path), "GZIP" if path.suffix == ".gz" else "") as writer:
        for row in zip(*columns.values(), strict=True):
            present = {
                name: _feature(value) for name, value in zip(columns, row, strict=True) if value not in (None, [])
            }
            writer.write(tf.train.Example(features=tf.train.Features(feature=present)).SerializeToString())


def _write(folder, suffix, **options):
    for seed, (split, rows) in enumerate(ROWS.items()):
        path, columns = folder / f"{split}{suffix}", _columns(rows, seed)
        if suffix == ".parquet":
            pq.write_table(pa.table(columns), path, row_group_size=200)
        elif suffix.startswith(".csv"):
            _write_csv(path, columns, **options)
        else:
            _write_records(path, columns)


def _config(folder, rows=10_000, label=None):
    found = find_files(str(folder))
    text = as_yaml(make_draft(found, read_sample(found, rows), label))
    (folder / "run.yaml").write_text(text)
    return load_config(folder / "run.yaml"), text


def _check_it_opens(folder, config):
    source = open_source(folder, config.data.files)
    rows = {split: list(batches()) for split, batches in source.splits.items()}
    assert sorted(rows) == ["test", "train", "validation"]
    return build_schema(rows["train"], source)


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".csv.gz", ".tfrecord", ".tfrecord.gz"])
def test_what_is_written_loads_and_opens(tmp_path, suffix) -> None:
    _write(tmp_path, suffix)
    config, text = _config(tmp_path)
    files = config.data.files
    assert (files.train, files.test, files.label) == (f"train{suffix}", f"test{suffix}", "click")
    features = {feature.name: feature for feature in files.features}
    assert sorted(features) == ["ad_id", "color", "price", "tags", "user_id"]
    assert features["ad_id"].dtype == "int64"
    assert features["price"].kind == "numeric"
    assert (features["tags"].length, features["tags"].missing) == (3, "slot")
    assert features["color"].missing == "slot"
    assert config.unit == "user_id"
    assert {("price",), ("color",)} <= set(files.axes)
    assert _check_it_opens(tmp_path, config).inputs.keys() == {*features, "price_value"}
    assert "It read every training row" in text


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".tfrecord"])
def test_a_part_of_the_rows_is_enough(tmp_path, suffix) -> None:
    _write(tmp_path, suffix)
    sample = read_sample(find_files(str(tmp_path)), 400)
    assert sample.train_rows <= 300
    assert not sample.is_whole
    assert sample.all_train_rows == pytest.approx(1500, rel=0.05)
    config, text = _config(tmp_path, 400)
    _check_it_opens(tmp_path, config)
    assert "training rows, and some of the other files" in text
    assert "`missing: slot` then allows it" in text


def test_nulls_in_parquet_rows_that_are_not_read_are_known(tmp_path) -> None:
    _write(tmp_path, ".parquet")
    table = pq.read_table(tmp_path / "test.parquet")
    prices = pa.array([*table["price"].to_pylist()[:-1], None])
    pq.write_table(table.set_column(3, "price", prices), tmp_path / "test.parquet")
    config, text = _config(tmp_path, 400)
    assert next(f for f in config.data.files.features if f.name == "price").missing == "slot"
    assert "nulls in rows that were not read" in text
    _check_it_opens(tmp_path, config)


def test_each_choice_has_a_comment(tmp_path) -> None:
    _write(tmp_path, ".parquet")
    lines = _config(tmp_path)[1].splitlines()
    explained = ("- {name", "train:", "test:", "label:", "unit:", "seeds:", "batch_size:", "lambdas:")
    for before, line in itertools.pairwise(lines):
        if line.strip().startswith(explained):
            assert before.strip().startswith("#"), line
    assert max(map(len, lines)) <= 120
    axes = [line for line in lines if line.startswith("      - [")]
    assert len(axes) == 3  # price, color, both; `ad_id` has too many values
    assert all("] # positive rates from" in line for line in axes)


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_the_delimiter_is_found(tmp_path, delimiter) -> None:
    _write(tmp_path, ".csv", delimiter=delimiter)
    config, _ = _config(tmp_path)
    assert config.data.files.csv.delimiter == delimiter
    _check_it_opens(tmp_path, config)


def test_a_file_without_a_header_gets_names(tmp_path) -> None:
    _write(tmp_path, ".csv", header=False)
    config, text = _config(tmp_path)
    assert config.data.files.csv.column_names == tuple(f"column_{i}" for i in range(1, 7))
    assert config.data.files.label == "column_1"
    assert "The first line holds values, not names: rename the columns" in text
    assert sum(len(batch["column_1"]) for batch in open_source(tmp_path, config.data.files).splits["test"]()) == 500


@pytest.mark.parametrize(
    ("text", "keys"),
    [('5" screen', {}), ('"5 screen', {"quote_char": None}), ('"two\nlines"', {"newlines_in_values": True})],
)
def test_quoting_is_found(tmp_path, text, keys) -> None:
    for split, rows in ROWS.items():
        lines = [f"{i % 2},{text if i % 40 == 7 else 'plain'},{i % 9}\n" for i in range(rows)]
        (tmp_path / f"{split}.csv").write_text("click,title,size\n" + "".join(lines))
    config, _ = _config(tmp_path)
    assert config.data.files.csv == (CsvFormat(**keys) if keys else None)
    _check_it_opens(tmp_path, config)


def test_leading_zeros_stay(tmp_path) -> None:
    for split, rows in ROWS.items():
        columns = {"zip": [f"{i % 40:05}" for i in range(rows)], "y": [i % 2 for i in range(rows)]}
        _write_csv(tmp_path / f"{split}.csv", columns)
    config, text = _config(tmp_path, label="y")
    assert config.data.files.features[0].dtype == "string"
    assert 'label: "y"' in text
    assert config.data.files.label == "y"


def test_names_that_cannot_be_inputs_are_written_as_those_that_can(tmp_path) -> None:
    for split, rows in ROWS.items():
        values = {"user-age": [i % 50 for i in range(rows)], "size": [i % 5 for i in range(rows)]}
        pq.write_table(pa.table({**values, "is click": [i % 2 for i in range(rows)]}), tmp_path / f"{split}.parquet")
    config, text = _config(tmp_path)
    assert [feature.name for feature in config.data.files.features] == ["user_age", "size"]
    assert config.data.files.label == "is_click"
    assert "# `user-age` in the files: 50 distinct values" in text
    _check_it_opens(tmp_path, config)


def test_what_gives_the_label_away_is_left_out(tmp_path) -> None:
    for split, rows in ROWS.items():
        index = np.arange(rows)
        table = pa.table({"rating": index % 5, "size": index % 7, "liked": (index % 5 > 2).astype(int)})
        pq.write_table(table, tmp_path / f"{split}.parquet")
    config, text = _config(tmp_path)
    assert [feature.name for feature in config.data.files.features] == ["size"]
    assert "rating: each of its values goes with one label: it seems to give `liked` away" in text


@pytest.mark.parametrize(("every", "suggested"), [(40, True), (10, False)])
def test_sampling_is_suggested_where_positives_are_rare(tmp_path, every, suggested) -> None:
    for split, rows in ROWS.items():
        index = np.arange(rows)
        table = pa.table({"size": index % 7, "click": (index % every == 0).astype(int), "weight": index % 3})
        pq.write_table(table, tmp_path / f"{split}.parquet")
    config, text = _config(tmp_path)
    assert ("  # negative_sampling: 0.1" in text) == suggested
    assert config.data.files.weight == "weight"


def test_files_of_different_columns_are_an_error(tmp_path) -> None:
    _write(tmp_path, ".parquet")
    path = tmp_path / "test.parquet"
    pq.write_table(pq.read_table(path).drop_columns("click"), path)
    with pytest.raises(
        ValueError, match=r"test.parquet: must have the columns of .*train.parquet. .*lacks \['click'\]"
    ):
        _config(tmp_path)


def test_files_of_different_types_are_an_error_unless_numbers(tmp_path) -> None:
    _write(tmp_path, ".parquet")
    path = tmp_path / "test.parquet"
    table = pq.read_table(path)
    floats = table["ad_id"].cast(pa.float64())
    pq.write_table(table.set_column(2, "ad_id", floats), path)
    assert {f.name: f.dtype for f in _config(tmp_path)[0].data.files.features}["ad_id"] == "int64"
    pq.write_table(table.set_column(2, "ad_id", pc.add(floats, 0.5)), path)
    assert "ad_id: an id by its name, stored as double" in _config(tmp_path)[1]
    pq.write_table(table.set_column(2, "ad_id", pc.cast(table["ad_id"], pa.string())), path)
    with pytest.raises(ValueError, match="`ad_id` must have one type"):
        _config(tmp_path)


def test_damaged_and_empty_files_are_errors(tmp_path) -> None:
    _write(tmp_path, ".parquet")
    (tmp_path / "test.parquet").write_text("nothing")
    with pytest.raises(ValueError, match=r"test.parquet: not a whole Parquet file"):
        _config(tmp_path)
    pq.write_table(pq.read_table(tmp_path / "train.parquet").slice(0, 0), tmp_path / "test.parquet")
    with pytest.raises(ValueError, match=r"test.parquet: the file has no rows"):
        _config(tmp_path)


def test_a_csv_file_of_a_header_alone_is_an_error(tmp_path) -> None:
    _write(tmp_path, ".csv")
    (tmp_path / "test.csv").write_text("click,user_id,ad_id,price,tags,color\n")
    with pytest.raises(ValueError, match=r"test.csv: the file has no rows"):
        _config(tmp_path)


def test_records_must_be_examples(tmp_path) -> None:
    for split in ROWS:
        with tf.io.TFRecordWriter(str(tmp_path / f"{split}.tfrecord")) as writer:
            writer.write(b"\xff\xffno example")
    with pytest.raises(ValueError, match=r"train.tfrecord: records must be tf.Examples"):
        _config(tmp_path)


def test_few_rows_are_refused(tmp_path) -> None:
    _write(tmp_path, ".parquet")
    with pytest.raises(ValueError, match="`rows` must be at least 100.*Received: rows=5"):
        _config(tmp_path, 5)


def test_texts_are_quoted_where_yaml_needs_it(tmp_path) -> None:
    for split, rows in ROWS.items():
        columns = {name: [i % 5 for i in range(rows)] for name in ("on", "y", "No", "null", "e1")}
        pq.write_table(pa.table({**columns, "label: #1": [i % 2 for i in range(rows)]}), tmp_path / f"{split}.parquet")
    config, text = _config(tmp_path)
    assert [feature.name for feature in config.data.files.features] == ["on", "y", "No", "null", "e1"]
    assert config.data.files.label == yaml.safe_load(text)["data"]["files"]["label"] == "label_1"
