"""Columns that stand in the names of folders, as Hive and Spark write them."""

import warnings

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from c2al_tf.data.columns.partitions import folder_values
from c2al_tf.data.columns.raw import concatenate
from c2al_tf.data.columns.readers import read_columns
from c2al_tf.schema import Column
from c2al_tf.types import MISSING_INT

FORMATS = ("parquet", "csv", "csv.gz", "tfrecord.gz")


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_column_that_a_file_lacks_is_its_folders(tmp_path, schema, rows, write, suffix) -> None:
    """Beside the file's own, of any type, also where no column of the file is read."""
    folders = {1: "day=2026-11-26/hour=3/price=0.5", 2: "day=2026-11-27/hour=4/price=-2"}
    for seed, folder in folders.items():
        (tmp_path / folder).mkdir(parents=True)
        write(tmp_path / folder / f"part-0.{suffix}", rows(7, seed=seed), schema)
    own = {name: schema.columns[name] for name in ("age", "city")}
    given = {"day": Column("day", "string"), "hour": Column("hour", "int64"), "price": Column("price", "float32")}
    read = concatenate(list(read_columns(tmp_path, own | given, batch_size=3)))
    for name in own:
        np.testing.assert_array_equal(read[name], np.concatenate([rows(7, seed=seed)[name] for seed in folders]))
    assert read["day"].tolist() == ["2026-11-26"] * 7 + ["2026-11-27"] * 7
    assert (read["hour"].tolist(), read["hour"].dtype) == ([3] * 7 + [4] * 7, np.int64)
    assert (read["price"].tolist(), read["price"].dtype) == ([0.5] * 7 + [-2.0] * 7, np.float32)
    alone = concatenate(list(read_columns(tmp_path, given)))
    assert alone.keys() == given.keys()
    np.testing.assert_array_equal(alone["day"], read["day"])


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_column_of_the_file_is_the_files(tmp_path, schema, rows, write, suffix) -> None:
    """A run's files may lie in a folder named for the day of the run. A null in a tf.Example is no value."""
    (tmp_path / "age=99").mkdir()
    path = write(tmp_path / "age=99" / f"a.{suffix}", rows(5), schema)
    (read,) = read_columns(path, {"age": schema.columns["age"]})
    age = rows(5)["age"]
    assert 0 < np.isnan(age).sum() < 5
    np.testing.assert_array_equal(read["age"], np.where(np.isnan(age), 99, age) if "tfrecord" in suffix else age)


def test_nulls_escapes_and_names_that_are_no_inputs(tmp_path) -> None:
    folder = tmp_path / "Land (EU)=S%C3%A3o%3DX" / "n=__HIVE_DEFAULT_PARTITION__" / "s=__HIVE_DEFAULT_PARTITION__"
    folder.mkdir(parents=True)
    pq.write_table(pa.table({"x": [1.5]}), folder / "a.parquet")
    assert folder_values(folder / "a.parquet") == {"Land (EU)": "São=X", "n": "", "s": ""}
    columns = {"Land_EU": Column("Land_EU", "string"), "n": Column("n", "int64"), "s": Column("s", "string")}
    (read,) = read_columns(folder, columns | {"x": Column("x", "float32")})
    assert (read["Land_EU"].tolist(), read["n"].tolist(), read["s"].tolist()) == (["São=X"], [MISSING_INT], [""])


def test_a_folder_that_is_no_number(tmp_path) -> None:
    (tmp_path / "hour=late").mkdir()
    pq.write_table(pa.table({"x": [1.5]}), tmp_path / "hour=late" / "a.parquet")
    with pytest.raises(ValueError, match=r"has the value of its folder\. .*a\.parquet.*hour.*late"):
        list(read_columns(tmp_path, {"hour": Column("hour", "int64")}))


def test_a_column_that_neither_has(tmp_path) -> None:
    (tmp_path / "day=1").mkdir()
    pq.write_table(pa.table({"x": [1.5]}), tmp_path / "day=1" / "a.parquet")
    with pytest.raises(ValueError, match=r"no column `hour`; present are \['x'\]"):
        list(read_columns(tmp_path, {"hour": Column("hour", "int64")}))


def test_a_record_without_a_value_has_its_folders(tmp_path) -> None:
    """However many records before it have one, and however many are read at once."""
    folder = tmp_path / "city=Rome" / "hour=3" / "tags=new"
    folder.mkdir(parents=True)
    records = [{}, {"city": b"Oslo"}, {"hour": 7}, {"tags": b"old"}, {"city": b"Bern", "hour": 8}]
    with tf.io.TFRecordWriter(str(folder / "a.tfrecord")) as writer:
        for number, record in enumerate(records):
            features = tf.train.Features()
            features.feature["x"].int64_list.value.append(number)
            for name, value in record.items():
                kind = "int64_list" if isinstance(value, int) else "bytes_list"
                getattr(features.feature[name], kind).value.append(value)
            writer.write(tf.train.Example(features=features).SerializeToString())
    columns = {"x": Column("x", "int64"), "city": Column("city", "string"), "hour": Column("hour", "int64")}
    columns["tags"] = Column("tags", "string", 2)
    for size in (1, 2, 10):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            read = concatenate(list(read_columns(folder, columns, batch_size=size)))
        assert read["x"].tolist() == [0, 1, 2, 3, 4]
        assert read["city"].tolist() == ["Rome", "Oslo", "Rome", "Rome", "Bern"]
        assert read["hour"].tolist() == [3, 3, 7, 3, 8]
        assert read["tags"].tolist() == [["new", ""]] * 3 + [["old", ""], ["new", ""]]
