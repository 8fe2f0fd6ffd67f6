import gzip
import re
import warnings

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from c2al_tf.data.columns.csv_fields import CsvFormat
from c2al_tf.data.columns.readers import count_rows, read_columns
from c2al_tf.schema import Column
from c2al_tf.types import MISSING_INT

FORMATS = ["parquet", "csv", "csv.gz", "tfrecord", "tfrecord.gz"]
FLOATS, INTS, STRINGS = Column("x", "float32"), Column("x", "int64"), Column("x", "string")


def read(path, *columns, **options):
    return list(read_columns(path, {column.name: column for column in columns}, **options))


def examples(path, *records, compression=""):
    """Writes records, each {name: list of values}, as tf.Examples."""
    with tf.io.TFRecordWriter(str(path), compression) as writer:
        for record in records:
            features = {}
            for name, values in record.items():
                if values and isinstance(values[0], bytes):
                    features[name] = tf.train.Feature(bytes_list=tf.train.BytesList(value=values))
                elif values and isinstance(values[0], float):
                    features[name] = tf.train.Feature(float_list=tf.train.FloatList(value=values))
                else:
                    features[name] = tf.train.Feature(int64_list=tf.train.Int64List(value=values))
            writer.write(tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString())
    return path


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_format_gives_the_rows_that_were_written(tmp_path, schema, rows, write, suffix):
    batch = rows(23)
    path = write(tmp_path / f"a.{suffix}", batch, schema)
    batches = list(read_columns([path, path], schema.columns, batch_size=10))

    assert [len(b["age"]) for b in batches] == [10, 10, 3, 10, 10, 3]
    for name, values in batch.items():
        got = np.concatenate([b[name] for b in batches[:3]])
        np.testing.assert_array_equal(got, values, err_msg=name)
        assert got.dtype == values.dtype, name
    assert type(batches[0]["city"][0]) is str
    assert count_rows([path, path]) == 46


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("first_row", [4, 10, 22, 23])
def test_reading_may_begin_at_any_row(tmp_path, schema, rows, write, suffix, first_row):
    batch = rows(23)
    path = write(tmp_path / f"a.{suffix}", batch, schema)
    batches = list(read_columns(path, schema.columns, batch_size=10, first_row=first_row))
    got = [age for batch in batches for age in batch["age"].tolist()]
    np.testing.assert_array_equal(got, batch["age"][first_row:])
    assert [len(batch["age"]) for batch in batches[:-1]] == [10] * (len(batches) - 1)


def test_row_groups_do_not_show_in_the_batches(tmp_path):
    pq.write_table(pa.table({"x": np.arange(20)}), tmp_path / "a.parquet", row_group_size=7)
    assert [b["x"].tolist() for b in read(tmp_path / "a.parquet", INTS, batch_size=8)] == [
        list(range(8)), list(range(8, 16)), list(range(16, 20)),
    ]  # fmt: skip


def test_surplus_values_are_cut_off_and_missing_ones_padded(tmp_path):
    column = Column("x", "int64", 2)
    lists = [[1, 2, 3], [], None, [4]]
    pq.write_table(pa.table({"x": pa.array(lists, pa.list_(pa.int32()))}), tmp_path / "a.parquet")
    (tmp_path / "a.csv").write_text('x,y\n1|2|3,0\n"",0\n,0\n4,0\n')
    examples(tmp_path / "a.tfrecord", {"x": [1, 2, 3]}, {"x": []}, {}, {"x": [4]})
    for suffix in ("parquet", "csv", "tfrecord"):
        (batch,) = read(tmp_path / f"a.{suffix}", column)
        expected = [[1, 2], [MISSING_INT] * 2, [MISSING_INT] * 2, [4, MISSING_INT]]
        assert batch["x"].tolist() == expected, suffix


def test_fixed_size_and_large_lists(tmp_path):
    for number, dtype in enumerate([pa.list_(pa.int64(), 2), pa.large_list(pa.int64())]):
        path = tmp_path / f"{number}.parquet"
        pq.write_table(pa.table({"x": pa.array([[1, 2], [3, 4]], dtype)}), path)
        assert read(path, Column("x", "int64", 3))[0]["x"].tolist() == [[1, 2, MISSING_INT], [3, 4, MISSING_INT]]


def test_parquet_types_that_hold_the_same_values(tmp_path):
    table = {
        "s": pa.array(["a", None, "a"]).dictionary_encode(),
        "i": pa.array([1, None, 2], pa.uint8()),
        "b": pa.array([True, None, False]),
        "f": pa.array([1, None, 2**24], pa.int64()),
        "d": pa.array([0.1, None, 1e300], pa.float64()),
        "n": pa.nulls(3),
    }
    pq.write_table(pa.table(table), tmp_path / "a.parquet")
    columns = [Column("s", "string"), Column("i", "int64"), Column("b", "int64"), Column("n", "int64")]
    (batch,) = read(tmp_path / "a.parquet", *columns, Column("f", "float32"), Column("d", "float32"))
    assert batch["s"].tolist() == ["a", "", "a"]
    assert batch["i"].tolist() == [1, MISSING_INT, 2]
    assert batch["b"].tolist() == [1, MISSING_INT, 0]
    assert batch["n"].tolist() == [MISSING_INT] * 3
    np.testing.assert_array_equal(batch["f"], np.float32([1, np.nan, 2**24]))
    np.testing.assert_array_equal(batch["d"], np.float32([0.1, np.nan, np.inf]))


def test_csv_without_header_and_with_another_delimiter(tmp_path):
    (tmp_path / "a.csv").write_text("1;x\n2;y\n")
    csv_format = CsvFormat(("x", "s"), ";")
    (batch,) = read(tmp_path / "a.csv", INTS, Column("s", "string"), csv_format=csv_format)
    assert batch["x"].tolist() == [1, 2]
    assert batch["s"].tolist() == ["x", "y"]
    assert count_rows(tmp_path / "a.csv", csv_format) == 2


OPEN_QUOTE = (
    "a quoted field must end on its line; set `quote_char` to null for files that do not quote, or "
    "`newlines_in_values` to true for fields with line breaks. Received: a field that begins with '\"' and goes on"
)


@pytest.mark.parametrize(
    ("text", "line", "rows"),
    [
        ('s\tx\na\t1\n"b\t2\nc\t3\n', 3, (["a", '"b', "c"], [1, 2, 3])),  # open to the end of the file
        ('x\ts\n1\ta\n2\t"b\n3\tc\n', 3, (["a", '"b', "c"], [1, 2, 3])),
        ('x\ts\n1\t"a\n2\tb\n3\t"c\n4\td\n', 2, (['"a', "b", '"c', "d"], [1, 2, 3, 4])),  # ended by another mark
        ('x\ts\n1\ta\n2\t"b\n', 3, (["a", '"b'], [1, 2])),  # in the last line
        ('s\tx\na\t1\n"b\t2\n', 3, (["a", '"b'], [1, 2])),
        ('x\ts\n\n1\t"a\n2\tb"c\n3\td\n', 3, (['"a', 'b"c', "d"], [1, 2, 3])),
        ('x\ts\r\n1\t"a\r\n2\tb\r\n', 2, (['"a', "b"], [1, 2])),
        ('x\ts\tother\n1\ta\t"b\n2\tc\td"\n3\te\t\n', 2, (["a", "c", "e"], [1, 2, 3])),  # in an unread column
        ('x\t"s\n1\ta\n', 1, None),
    ],
)
def test_field_that_begins_with_a_quotation_mark(tmp_path, text, line, rows):
    """Until it ends, it takes in all lines, and hides their rows."""
    path = tmp_path / "a.csv"
    path.write_bytes(text.encode())
    s = Column("s", "string")
    for call in (lambda: read(path, INTS, s, csv_format=CsvFormat(None, "\t")), lambda: count(path, None, "\t")):
        with pytest.raises(ValueError, match=re.escape(f"a.csv: line {line}: {OPEN_QUOTE}")):
            call()
    plain = CsvFormat(None, "\t", quote_char=None)
    if rows is None:
        assert read(path, INTS, Column('"s', "string"), csv_format=plain)[0]['"s'].tolist() == ["a"]
    else:
        (batch,) = read(path, INTS, s, csv_format=plain)
        assert (batch["s"].tolist(), batch["x"].tolist()) == rows
        assert count_rows(path, plain) == len(rows[0])


def count(path, *options):
    return count_rows(path, CsvFormat(*options))


def test_open_quotation_mark_in_a_large_file(tmp_path):
    """Larger than a block of the reader, and than what the module `csv` takes for a field."""
    path = tmp_path / "a.csv"
    path.write_text("x,s\n" + "1,abc\n" * 1_000_000 + '2,"abc\n' + "3,abc\n" * 1_000_000)
    with pytest.raises(ValueError, match=re.escape(f"a.csv: line 1000002: {OPEN_QUOTE}")):
        read(path, INTS)
    assert count_rows(path, CsvFormat(quote_char=None)) == 2_000_001


def test_quoted_fields(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('x,s\n"1","a ""b"" c"\n2,"d,e"\n3,f"g\n4,""\n')
    (batch,) = read(path, INTS, Column("s", "string"))
    assert (batch["x"].tolist(), batch["s"].tolist()) == ([1, 2, 3, 4], ['a "b" c', "d,e", 'f"g', ""])
    path.write_text("x,s\n1,'d,e'\n2,\"f\n")
    csv_format = CsvFormat(quote_char="'")
    assert read(path, Column("s", "string"), csv_format=csv_format)[0]["s"].tolist() == ["d,e", '"f']


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_quoted_fields_with_line_breaks(tmp_path, end):
    path = tmp_path / "a.csv"
    path.write_bytes(f'x,s{end}1,"a{end}b"{end}2,"c,{end}{end}""d"{end}3,e{end}'.encode())
    s = Column("s", "string")
    with pytest.raises(ValueError, match=re.escape(f"a.csv: line 2: {OPEN_QUOTE}")):
        read(path, INTS, s)
    csv_format = CsvFormat(newlines_in_values=True)
    (batch,) = read(path, INTS, s, csv_format=csv_format)
    assert (batch["x"].tolist(), batch["s"].tolist()) == ([1, 2, 3], [f"a{end}b", f'c,{end}{end}"d', "e"])
    assert count_rows(path, csv_format) == 3


@pytest.mark.parametrize(("name", "value"), [("delimiter", "::"), ("delimiter", ""), ("quote_char", "''")])
def test_csv_format_is_of_single_characters(name, value):
    with pytest.raises(ValueError, match=f"`{name}` must be one ASCII character. Received: {name}={value!r}"):
        CsvFormat(**{name: value})


def test_labels_stored_as_integers_in_examples(tmp_path):
    path = examples(tmp_path / "a.tfrecord", {"x": [1]}, {"x": [0]}, {"x": []})
    np.testing.assert_array_equal(read(path, FLOATS)[0]["x"], np.float32([1, 0, np.nan]))


@pytest.mark.parametrize("size", [1, 2, 3, 10])
def test_numbers_stored_as_integers_here_and_as_floats_there(tmp_path, size):
    s, many = Column("s", "string"), Column("many", "float32", 2)
    records = [
        {"x": [1.5], "s": [b"a"], "many": [1, 2, 3]},
        {"x": [2**53 + 1], "s": [b"b"], "many": [0.5]},
        {"s": [b"c"], "many": []},
        {"x": [0.25]},
        {"x": [-(2**63)], "s": [b"d"], "many": [4.0, 5.0]},
    ]
    for first in range(len(records)):  # each kind is the first once
        order = np.roll(np.arange(len(records)), -first)
        path = examples(tmp_path / f"{first}.tfrecord", *(records[i] for i in order))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a chunk of one record, which lacks features
            batches = read(path, FLOATS, s, many, batch_size=size)
        got = {name: np.concatenate([batch[name] for batch in batches]) for name in ("x", "s", "many")}
        # An integer is rounded as NumPy does it; the smallest one stands for a null.
        x = np.array([1.5, np.float32(np.int64(2**53 + 1)), np.nan, 0.25, np.nan], np.float32)
        pairs = np.float32([[1, 2], [0.5, np.nan], [np.nan, np.nan], [np.nan, np.nan], [4, 5]])
        np.testing.assert_array_equal(got["x"], x[order])
        np.testing.assert_array_equal(got["many"], pairs[order])
        assert got["s"].tolist() == [["a", "b", "c", "", "d"][i] for i in order]


def test_optional_feature_that_the_first_records_lack(tmp_path):
    path = examples(tmp_path / "a.tfrecord", {"y": [1]}, {"y": [2]}, {"y": [3], "x": [7]})
    assert read(path, INTS)[0]["x"].tolist() == [MISSING_INT, MISSING_INT, 7]
    message = (
        r"a\.tfrecord: none of the first 2 records has the features \['x'\]: they are read as missing. "
        r"Present are \['y'\]"
    )
    with pytest.warns(UserWarning, match=message):
        batches = read(path, INTS, batch_size=2)
    assert [batch["x"].tolist() for batch in batches] == [[MISSING_INT, MISSING_INT], [7]]


def test_a_null_is_no_misspelt_feature(tmp_path):
    with tf.io.TFRecordWriter(str(tmp_path / "a.tfrecord")) as writer:
        features = tf.train.Features(feature={"x": tf.train.Feature()})
        writer.write(tf.train.Example(features=features).SerializeToString())
    np.testing.assert_array_equal(read(tmp_path / "a.tfrecord", FLOATS)[0]["x"], np.float32([np.nan]))


def test_missing_file_lists_what_is_there(tmp_path):
    (tmp_path / "b.csv").write_text("x\n1\n")
    with pytest.raises(ValueError, match=r"a\.csv: no such file.*b\.csv"):
        read(tmp_path / "a.csv", INTS)
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(
        ValueError, match=r"a\.json: the name must say the format.*; or give `format`. Received: 'a.json'"
    ):
        read(tmp_path / "a.json", INTS)
    with pytest.raises(ValueError, match="at least one file"):
        read([], INTS)


def test_missing_column_lists_those_present(tmp_path):
    pq.write_table(pa.table({"z": [1], "y": [2]}), tmp_path / "a.parquet")
    (tmp_path / "a.csv").write_text("z,y\n1,2\n")
    for suffix in ("parquet", "csv"):
        with pytest.raises(ValueError, match=rf"a\.{suffix}: no column `x`.*present are \['y', 'z'\]"):
            read(tmp_path / f"a.{suffix}", INTS)


@pytest.mark.parametrize(
    ("stored", "column"),
    [
        (["a"], INTS),
        (["a"], FLOATS),
        ([True], STRINGS),
        ([[1]], INTS),
        ([1], Column("x", "int64", 2)),
        ([["a"]], Column("x", "int64", 2)),
    ],
)
def test_wrong_type_in_parquet(tmp_path, stored, column):
    pq.write_table(pa.table({"x": stored}), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=r"a\.parquet: column `x` must be of type .*Received: "):
        read(tmp_path / "a.parquet", column)


def test_value_that_does_not_fit_in_parquet(tmp_path):
    pq.write_table(pa.table({"x": pa.array([2**63], pa.uint64())}), tmp_path / "a.parquet")
    rule = (
        r"a\.parquet: row 0: column `x` must be below 2\^63 as int64; declare it a string. Received: 922337203685477580"
    )
    with pytest.raises(ValueError, match=rule):
        read(tmp_path / "a.parquet", INTS)


@pytest.mark.parametrize(("text", "column"), [("abc", INTS), ("1.5", INTS), ("abc", FLOATS)])
def test_unreadable_value_in_csv(tmp_path, text, column):
    (tmp_path / "a.csv").write_text(f"y,x\n0,1\n0,\n0,{text}\n0,2\n")
    with pytest.raises(ValueError, match=rf"a\.csv: row 2: field `x` must be of type .*Received: '{text}'"):
        read(tmp_path / "a.csv", column)
    with pytest.raises(ValueError, match="row 2"):
        read(tmp_path / "a.csv", column, batch_size=2)


def test_unreadable_value_among_several_in_csv(tmp_path):
    (tmp_path / "a.csv").write_text("x\n1|2\n3|b\n")
    with pytest.raises(ValueError, match=r"a\.csv: row 1: field `x`.*Received: '3\|b'"):
        read(tmp_path / "a.csv", Column("x", "int64", 2))


def test_csv_row_of_another_length(tmp_path):
    (tmp_path / "a.csv").write_text("x,y\n1,2\n1\n")
    with pytest.raises(ValueError, match=r"a\.csv: not valid CSV: .*Expected 2 columns, got 1"):
        read(tmp_path / "a.csv", INTS)


@pytest.mark.parametrize("names", [None, ("x",)])
def test_null_in_a_csv_of_one_column_keeps_its_row(tmp_path, names):
    (tmp_path / "a.csv").write_text(("" if names else "x\n") + "1\n\n2\n")
    csv_format = CsvFormat(names)
    assert read(tmp_path / "a.csv", INTS, csv_format=csv_format)[0]["x"].tolist() == [1, MISSING_INT, 2]
    assert count_rows(tmp_path / "a.csv", csv_format) == 3


def test_empty_line_in_a_csv_of_several_columns_is_no_row(tmp_path):
    (tmp_path / "a.csv").write_text("x,y\n1,2\n\n3,4\n\n")
    assert read(tmp_path / "a.csv", INTS)[0]["x"].tolist() == [1, 3]
    assert count_rows(tmp_path / "a.csv") == 2


@pytest.mark.parametrize("names", [None, ("x", "y", "x")])
def test_column_that_is_there_twice(tmp_path, names):
    text = "1,2,3\n" if names else "x,y,x\n1,2,3\n"
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(ValueError, match=r"a\.csv: a column's name must be its own.*Received: 2 columns `x`"):
        read(tmp_path / "a.csv", INTS, csv_format=CsvFormat(names))
    assert read(tmp_path / "a.csv", Column("y", "int64"), csv_format=CsvFormat(names))[0]["y"].tolist() == [2]
    twice = pa.table([pa.array([1]), pa.array([2])], names=["x", "x"])
    pq.write_table(twice, tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=r"a\.parquet: a column's name must be its own"):
        read(tmp_path / "a.parquet", INTS)


def test_csv_that_is_not_utf_8(tmp_path):
    (tmp_path / "a.csv").write_bytes("y,x\n0,a\n0,b\nK\u00f6ln,K\u00f6ln\n".encode("latin1"))
    with pytest.raises(ValueError, match=r"a\.csv: row 2: field `x`: not UTF-8; convert.*iconv.*Received: b'K\\xf6ln'"):
        read(tmp_path / "a.csv", STRINGS)
    (tmp_path / "b.csv").write_bytes("Gr\u00f6\u00dfe,x\n0,1\n".encode("latin1"))
    with pytest.raises(ValueError, match=r"b\.csv: header: not UTF-8; convert.*Received: b'Gr"):
        read(tmp_path / "b.csv", STRINGS)
    (tmp_path / "c.csv").write_bytes("x\na\n".encode("utf-16"))
    with pytest.raises(ValueError, match=r"c\.csv: header: not UTF-8"):
        read(tmp_path / "c.csv", STRINGS)


def test_row_that_is_not_utf_8_is_counted_over_blocks(tmp_path, monkeypatch):
    rows = 3_000_000
    (tmp_path / "a.csv").write_bytes(b"x\n" + b"abc\n" * rows + b"\xff\n")
    with pytest.raises(ValueError, match=rf"a\.csv: row {rows}: field `x`: not UTF-8"):
        read(tmp_path / "a.csv", STRINGS)


@pytest.mark.parametrize(
    ("record", "column", "message"),
    [
        ({"x": [b"a"]}, INTS, "must be a int64_list. Received: bytes_list"),
        ({"x": [1.5]}, INTS, "must be a int64_list. Received: float_list"),
        ({"x": [b"a"]}, FLOATS, "must be a float_list or int64_list. Received: bytes_list"),
        ({"x": [1]}, STRINGS, "must be a bytes_list. Received: int64_list"),
        ({"x": [1, 2]}, INTS, "must have at most one value. Received: 2 values"),
    ],
)
def test_wrong_feature_in_an_example(tmp_path, record, column, message):
    good = {"x": {"int64": [0], "float32": [0.0], "string": [b"a"]}[column.dtype]}
    path = examples(tmp_path / "a.tfrecord", good, good, good, record)
    for size in (2, 10):
        with pytest.raises(ValueError, match=rf"a\.tfrecord: row 3: feature `x` {message}"):
            read(path, column, batch_size=size)


def test_record_that_is_no_example(tmp_path):
    path = examples(tmp_path / "a.tfrecord", {"x": [1]})
    with tf.io.TFRecordWriter(str(path)) as writer:
        writer.write(b"\xff\xff\xff")
    with pytest.raises(ValueError, match=r"a\.tfrecord: row 0 is not a tf\.Example"):
        read(path, INTS)


def test_bytes_that_are_no_text(tmp_path):
    path = examples(tmp_path / "a.tfrecord", {"x": [b"\xff"]})
    with pytest.raises(ValueError, match=r"a\.tfrecord: from row 0: feature `x`: .*UTF"):
        read(path, STRINGS)


@pytest.mark.parametrize("suffix", ["tfrecord", "tfrecord.gz"])
@pytest.mark.parametrize("size", [3, 100])
def test_truncated_tfrecord(tmp_path, suffix, size):
    path = tmp_path / f"a.{suffix}"
    records = [{"x": np.random.default_rng(i).integers(0, 2**60, 50).tolist()} for i in range(8)]
    examples(path, *records, compression="GZIP" if suffix.endswith("gz") else "")
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ValueError, match=rf"a\.{suffix}: truncated or corrupt TFRecord after record 7") as error:
        read(path, Column("x", "int64", 50), batch_size=size)
    assert "Received: " in str(error.value)


def test_corrupt_tfrecord(tmp_path):
    path = examples(tmp_path / "a.tfrecord", *[{"x": [i]} for i in range(8)])
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(bytes(data))
    with pytest.raises(ValueError, match=r"truncated or corrupt TFRecord after record 4"):
        read(path, INTS)


def test_truncated_parquet_and_gzip(tmp_path):
    pq.write_table(pa.table({"x": np.arange(1000)}), tmp_path / "a.parquet")
    data = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "a.parquet").write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match=r"a\.parquet: not a whole Parquet file"):
        read(tmp_path / "a.parquet", INTS)
    text = "x\n" + "\n".join(map(str, np.random.default_rng(0).integers(0, 10**9, 5000)))
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(text.encode())[:-400])
    with pytest.raises(ValueError, match=r"a\.csv\.gz: "):
        read(tmp_path / "a.csv.gz", INTS)


@pytest.mark.parametrize("suffix", FORMATS)
def test_file_without_rows(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    if suffix == "parquet":
        pq.write_table(pa.table({"x": pa.array([], pa.int64())}), path)
    elif suffix.startswith("tfrecord"):
        examples(path, compression="GZIP" if suffix.endswith("gz") else "")
    else:
        path.write_bytes(gzip.compress(b"x\n") if suffix.endswith("gz") else b"x\n")
    with pytest.raises(ValueError, match=rf"a\.{suffix}: the file has no rows"):
        read(path, INTS)


def test_csv_whose_header_is_an_empty_line(tmp_path):
    (tmp_path / "a.csv").write_text("\nx,y\n1,2\n")
    with pytest.raises(ValueError, match=r"a\.csv: no column `x`; present are \[''\]"):
        read(tmp_path / "a.csv", INTS)


def test_file_without_bytes(tmp_path):
    for suffix in ("csv", "tfrecord"):
        (tmp_path / f"a.{suffix}").touch()
        with pytest.raises(ValueError, match=rf"a\.{suffix}: the file has no rows"):
            read(tmp_path / f"a.{suffix}", INTS)
