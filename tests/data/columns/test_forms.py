"""Files as people have them: names, compression, Arrow types, CSV dialects; each with the rows that come out."""

import datetime
import decimal
import gzip
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from c2al_tf.data.columns.csv_fields import CsvFormat
from c2al_tf.data.columns.formats import as_paths, format_of, under
from c2al_tf.data.columns.readers import count_rows, read_columns
from c2al_tf.data.columns.wire import to_examples
from c2al_tf.schema import Column
from c2al_tf.types import MISSING_INT

FLOATS, INTS, STRINGS = Column("x", "float32"), Column("x", "int64"), Column("x", "string")


def read(path, *columns, **options):
    return list(read_columns(path, {column.name: column for column in columns}, **options))


def values(path, column, **options):
    return [value for batch in read(path, column, **options) for value in batch[column.name].tolist()]


def write_tfrecord(path, xs, compressed=False):
    import tensorflow as tf

    with tf.io.TFRecordWriter(str(path), "GZIP" if compressed else "") as writer:
        for example in to_examples({"x": np.array(xs, np.int64)}, {"x": INTS}):
            writer.write(example)
    return path


def write_parquet(path, array, **options):
    pq.write_table(pa.table({"x": array}), path, **options)
    return path


@pytest.mark.parametrize(
    "name",
    [
        "x.tfrecord-00000-of-00010",
        "data_tfrecord-00000-of-00001.gz",
        "x.tfrecords",
        "x-00001-of-00002.tfrecord.gz",
        "clicks.TFRecord",
        "part-r-00000",  # known by its first bytes
    ],
)
@pytest.mark.parametrize("compressed", [False, True])
def test_names_of_tfrecord_shards(tmp_path, name, compressed):
    """GZIP is known by the content, whatever the name says."""
    path = write_tfrecord(tmp_path / name, [7, 8], compressed)
    assert values(path, INTS) == [7, 8]
    assert count_rows(path) == 2


def test_csv_and_parquet_under_other_names(tmp_path):
    text = b"x\n7\n8\n"
    (tmp_path / "rows.csv").write_bytes(gzip.compress(text))
    (tmp_path / "rows.csv-00000-of-00001").write_bytes(text)
    (tmp_path / "rows.txt").write_bytes(text)
    write_parquet(tmp_path / "part-0.snappy.parquet", [7, 8])
    write_parquet(tmp_path / "part-1", [7, 8])
    for name in ("rows.csv", "rows.csv-00000-of-00001", "part-0.snappy.parquet", "part-1"):
        assert values(tmp_path / name, INTS) == [7, 8], name
        assert count_rows(tmp_path / name) == 2, name
    with pytest.raises(ValueError, match=r"rows\.txt: the name must say the format.*which begins with b'x\\n7\\n8\\n'"):
        format_of(tmp_path / "rows.txt")
    assert values(tmp_path / "rows.txt", INTS, file_format="csv") == [7, 8]


def test_a_feature_that_the_first_shard_lacks(tmp_path):
    import tensorflow as tf

    first, second = tmp_path / "a.tfrecord", tmp_path / "b.tfrecord"
    with tf.io.TFRecordWriter(str(first)) as writer:
        writer.write(to_examples({"y": np.array([1])}, {"y": Column("y", "int64")})[0])
    write_tfrecord(second, [7])
    with pytest.warns(UserWarning, match=r"a\.tfrecord: none of the first 1 records has the features \['x'\]"):
        assert values([first, second], INTS) == [MISSING_INT, 7]


def test_strings_of_polars(tmp_path):
    flat, lists = pa.array(["a", None, "b"], pa.string_view()), pa.array([["a", "b"], None], pa.list_(pa.string_view()))
    assert values(write_parquet(tmp_path / "a.parquet", flat), STRINGS) == ["a", "", "b"]
    column = Column("x", "string", 2)
    assert values(write_parquet(tmp_path / "b.parquet", lists), column) == [["a", "b"], ["", ""]]
    coded = pa.array([["a"], ["b", "a"]], pa.list_(pa.dictionary(pa.int32(), pa.string())))
    assert values(write_parquet(tmp_path / "c.parquet", coded), column) == [["a", ""], ["b", "a"]]


def test_decimals_bytes_and_booleans(tmp_path):
    cents = pa.array([decimal.Decimal("1.25"), None], pa.decimal128(10, 2))
    whole = pa.array([decimal.Decimal("12"), None], pa.decimal128(38, 0))
    path = write_parquet(tmp_path / "a.parquet", cents)
    np.testing.assert_array_equal(values(path, FLOATS), [1.25, np.nan])
    assert values(path, STRINGS) == ["1.25", ""]
    with pytest.raises(ValueError, match=r"row 0: column `x` must be a whole number.*Received: Decimal\('1\.25'\)"):
        values(path, INTS)
    path = write_parquet(tmp_path / "b.parquet", whole)
    assert values(path, INTS) == [12, MISSING_INT]
    assert values(path, STRINGS) == ["12", ""]
    path = write_parquet(tmp_path / "c.parquet", pa.array(["ä".encode(), None], pa.binary()))
    assert values(path, STRINGS) == ["ä", ""]
    path = write_parquet(tmp_path / "d.parquet", pa.array([b"a", b"\xff"], pa.binary()))
    with pytest.raises(ValueError, match=r"d\.parquet: row 1: column `x` must be UTF-8. Received: b'\\xff'"):
        values(path, STRINGS)
    path = write_parquet(tmp_path / "e.parquet", pa.array([True, None, False]))
    assert values(path, INTS) == [1, MISSING_INT, 0]
    np.testing.assert_array_equal(values(path, FLOATS), [1, np.nan, 0])


def test_dates_and_timestamps_as_declared(tmp_path):
    day = write_parquet(tmp_path / "a.parquet", pa.array([datetime.date(2026, 1, 2), None]))
    assert values(day, STRINGS) == ["2026-01-02", ""]
    assert values(day, INTS) == [20455, MISSING_INT]
    np.testing.assert_array_equal(values(day, FLOATS), [20455, np.nan])
    stamp = pa.array([datetime.datetime(2026, 1, 2, 3), None], pa.timestamp("ms"))
    path = write_parquet(tmp_path / "b.parquet", stamp)
    assert values(path, STRINGS) == ["2026-01-02 03:00:00.000", ""]
    assert values(path, INTS) == [1767322800000, MISSING_INT]
    with pytest.raises(ValueError, match=r"column `x` must be of type float32. Received: timestamp\[ms\]"):
        values(path, FLOATS)


def test_ids_that_pandas_turned_into_floats(tmp_path):
    ids = pa.array([12345.0, None, float("nan")])
    path = write_parquet(tmp_path / "a.parquet", ids)
    assert values(path, INTS) == [12345, MISSING_INT, MISSING_INT]
    assert values(path, STRINGS) == ["12345", "", ""]
    lists = write_parquet(tmp_path / "b.parquet", pa.array([[1.0, 2.0], None]))
    assert values(lists, Column("x", "string", 2)) == [["1", "2"], ["", ""]]
    (tmp_path / "c.csv").write_text("x,y\n12345.0,0\n,0\n7,0\n1e3,0\n")
    with pytest.raises(ValueError, match=r"c\.csv: row 3: field `x` must be of type int64. Received: '1e3'"):
        values(tmp_path / "c.csv", INTS)
    (tmp_path / "c.csv").write_text("x,y\n12345.0,0\n,0\n7,0\n")
    assert values(tmp_path / "c.csv", INTS) == [12345, MISSING_INT, 7]
    for array in (pa.array([2.0**24], pa.float32()), pa.array([-(2.0**63)])):  # others round to the same
        with pytest.raises(ValueError, match="row 0: column `x` must be a whole number"):
            values(write_parquet(tmp_path / "f.parquet", array), INTS)
    for column in (INTS, STRINGS):
        path = write_parquet(tmp_path / "d.parquet", pa.array([1.0, 1.5]))
        with pytest.raises(ValueError, match=r"row 1: column `x` must be a whole number that double holds exactly"):
            values(path, column)
        path = write_parquet(tmp_path / "e.parquet", pa.array([2.0**53 + 2]))
        with pytest.raises(ValueError, match=r"row 0: column `x` must be a whole number that double holds exactly"):
            values(path, column)


def test_integers_above_int64(tmp_path):
    path = write_parquet(tmp_path / "a.parquet", pa.array([1, 2**63 + 1], pa.uint64()))
    assert values(path, STRINGS) == ["1", str(2**63 + 1)]
    with pytest.raises(ValueError, match=r"row 1: column `x` must be below 2\^63 as int64; declare it a string"):
        values(path, INTS)


def test_a_header_alone_is_no_row(tmp_path):
    (tmp_path / "a.csv").write_text("x,y")
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress(b""))
    (tmp_path / "c.csv").write_text("x,y\n7,1\n")
    with pytest.warns(UserWarning, match="the file has no rows; it is skipped"):
        assert values(tmp_path, INTS) == [7]
    assert count_rows(tmp_path) == 1


@pytest.mark.parametrize("suffix", ["csv", "parquet", "tfrecord"])
def test_empty_part_files_are_skipped_with_a_note(tmp_path, suffix):
    """Spark writes them; alone they are an error."""
    for number, xs in enumerate([[], [7], []]):
        path = tmp_path / f"part-{number}.{suffix}"
        if suffix == "parquet":
            write_parquet(path, pa.array(xs, pa.int64()))
        elif suffix == "csv":
            path.write_text("\n".join(["x", *map(str, xs)]) + "\n" if xs else "")
        else:
            write_tfrecord(path, xs)
    (tmp_path / "_SUCCESS").touch()
    with pytest.warns(UserWarning, match=rf"part-[02]\.{suffix}: the file has no rows; it is skipped"):
        assert values(tmp_path, INTS) == [7]
    nothing = "the file has no rows"
    with pytest.raises(ValueError, match=rf"part-2\.{suffix}: {nothing}"), pytest.warns(UserWarning, match=nothing):
        values([tmp_path / f"part-0.{suffix}", tmp_path / f"part-2.{suffix}"], INTS)


def test_booleans_nulls_and_blanks_in_csv(tmp_path):
    (tmp_path / "a.csv").write_text(" x , s\nTrue,a\nfalse,\\N\n\\N,b\n1,c\n")
    (batch,) = read(tmp_path / "a.csv", INTS, Column("s", "string"))
    assert batch["x"].tolist() == [1, 0, MISSING_INT, 1]
    assert batch["s"].tolist() == ["a", "", "b", "c"]
    np.testing.assert_array_equal(values(tmp_path / "a.csv", FLOATS), [1, 0, np.nan, 1])
    (tmp_path / "b.csv").write_text("x,y\nNA,1\n3,2\n")
    assert values(tmp_path / "b.csv", INTS, csv_format=CsvFormat(null_values=("NA",))) == [MISSING_INT, 3]


def test_quotes_and_escapes_in_csv(tmp_path):
    (tmp_path / "a.csv").write_text('s,x\n5" pipe,1\n"a, b",2\n"say ""hi""",3\n')
    assert values(tmp_path / "a.csv", Column("s", "string")) == ['5" pipe', "a, b", 'say "hi"']
    (tmp_path / "b.csv").write_text('s,x\n"say \\"hi\\", you",1\nb,2\n')
    spark = CsvFormat(escape="\\")
    assert values(tmp_path / "b.csv", Column("s", "string"), csv_format=spark) == ['say "hi", you', "b"]
    assert count_rows(tmp_path / "b.csv", spark) == 2


def test_folders_and_patterns(tmp_path):
    for name, xs in (("day=1/a.parquet", [1]), ("day=2/b.parquet", [2]), ("_temporary/c.parquet", [3])):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write_parquet(tmp_path / name, xs)
    (tmp_path / "day=2" / ".b.parquet.crc").write_bytes(b"x")
    (tmp_path / "_temporary" / "a [1]").mkdir()
    write_parquet(tmp_path / "_temporary" / "a [1]" / "d.parquet", [4])
    assert values(tmp_path, INTS) == values(tmp_path / "**/*.parquet", INTS) == [1, 2]
    assert values(tmp_path / "day=*" / "b.*", INTS) == values(str(tmp_path / "day=2"), INTS) == [2]
    assert [value for batch in read(tmp_path, INTS, first_row=1) for value in batch["x"]] == [2]
    with pytest.raises(ValueError, match=re.escape(f"{tmp_path}: no file matches 'day=*/*.csv'. Received: ")):
        as_paths(tmp_path / "day=*/*.csv")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty: the folder holds no file"):
        as_paths(tmp_path / "empty")
    assert values(tmp_path / "day=*", INTS) == [1, 2]  # the files of folders that match
    assert values(tmp_path / "_temp*" / "c.*", INTS) == [3]  # as it says so
    assert values(under(tmp_path / "_temporary" / "a [1]", "*.parquet"), INTS) == [4]
    (tmp_path / "day=2" / "gone.parquet").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"gone\.parquet: no such file: the link leads nowhere"):
        as_paths(tmp_path / "day=2" / "*.parquet")


def test_the_first_ten_bad_rows_are_named_at_once(tmp_path):
    (tmp_path / "a.csv").write_text(
        "x,y\n" + "".join(f"{f'bad{row % 4}' if row % 2 else row},0\n" for row in range(40))
    )
    with pytest.raises(ValueError, match="a.csv: row 1: field `x`") as error:
        values(tmp_path / "a.csv", INTS)
    first, second, more = str(error.value).splitlines()
    assert first.endswith("row 1: field `x` must be of type int64. Received: 'bad1' (rows 5, 9, 13, 17 too)")
    assert second == "  row 3: field `x` must be of type int64. Received: 'bad3' (rows 7, 11, 15, 19 too)"
    assert more == "  and more"
    path = write_parquet(tmp_path / "b.parquet", pa.array([1.0, 1.5, 2.0, 2.5]))
    with pytest.raises(ValueError, match=r"row 1: .*1\.5\n  row 3: .*2\.5$"):
        values(path, INTS)


def test_columns_of_any_name(tmp_path):
    """By the names that they have as inputs of the model, in every format; a column of that very name comes first."""
    import tensorflow as tf

    names = ["Price (EUR)", "user.country", "цена/кг", "class"]
    inputs = ["Price_EUR", "user_country", "u0446u0435u043du0430_u043au0433", "class_"]
    columns = [Column(name, "int64") for name in inputs]
    pq.write_table(pa.table({name: [number] for number, name in enumerate(names)}), tmp_path / "a.parquet")
    (tmp_path / "a.csv").write_text(",".join(names) + "\n0,1,2,3\n", encoding="utf-8")
    with tf.io.TFRecordWriter(str(tmp_path / "a.tfrecord")) as writer:
        row = {name: np.array([number]) for number, name in enumerate(names)}
        writer.write(to_examples(row, {name: Column(name, "int64") for name in names})[0])
    for suffix in ("parquet", "csv", "tfrecord"):
        (batch,) = read(tmp_path / f"a.{suffix}", *columns)
        assert {name: values.tolist() for name, values in batch.items()} == {n: [i] for i, n in enumerate(inputs)}
    (tmp_path / "b.csv").write_text("user country,user_country\n1,2\n")
    assert values(tmp_path / "b.csv", Column("user_country", "int64")) == [2]
    with tf.io.TFRecordWriter(str(tmp_path / "b.tfrecord")) as writer:
        for name, number in (("user country", 1), ("user_country", 2), ("user_country", 3)):
            writer.write(to_examples({name: np.array([number])}, {name: Column(name, "int64")})[0])
    assert values(tmp_path / "b.tfrecord", Column("user country", "int64")) == [1, MISSING_INT, MISSING_INT]
    (tmp_path / "c.csv").write_text("user country,user.country\n1,2\n")
    with pytest.raises(ValueError, match=r"Received: 2 columns `user_country`: \['user country', 'user.country'\]"):
        values(tmp_path / "c.csv", Column("user_country", "int64"))
