"""Rows in a store are those of the same files on a disk."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from c2al_tf.data.columns.examples import write_tfrecord
from c2al_tf.data.columns.formats import as_paths
from c2al_tf.data.columns.raw import concatenate
from c2al_tf.data.columns.readers import count_rows, read_columns
from c2al_tf.data.inputs.dataset import make_dataset
from c2al_tf.data.inputs.encoded import encode_rows
from c2al_tf.feature import Column
from c2al_tf.schema import CategoricalFeature, Schema
from c2al_tf.storage import StorageError, inputs, local_path, objects, shown, with_urls
from c2al_tf.storage.places import inputs_folder

NAMES = [
    "a.parquet",
    "day=1/b.parquet",
    "day=1/_SUCCESS",
    "day=2/c.parquet",
    "day=2/.hidden.parquet",
    "day=2/x/d.parquet",
    "_tmp/e.parquet",
]
PATTERNS = (
    "",
    "a.parquet",
    "day=1",
    "day=*",
    "day=*/*.parquet",
    "**/*.parquet",
    "day=2/**",
    "day=[12]/?.parquet",
    "_tmp/*",
)
FILES = "rows.parquet", "rows.csv", "rows.csv.gz", "rows.tfrecord", "rows.tfrecord.gz", "rows"
COLUMNS = {"n": Column("n", "int64"), "city": Column("city", "string")}


def table(rows: int, first: int = 0) -> pa.Table:
    return pa.table({"n": range(first, first + rows), "city": [f"c{i % 3}" for i in range(rows)]})


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for number, name in enumerate(NAMES):
        path = tmp_path / "logs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table(10, 100 * number), path)
    return tmp_path / "logs"


@pytest.mark.parametrize("pattern", PATTERNS)
def test_the_same_files_are_found(tree: Path, upload, pattern: str) -> None:
    url = upload(tree, "logs")
    found = [shown(path).removeprefix(f"{url}/") for path in as_paths(f"{url}/{pattern}".rstrip("/"))]
    assert found == [path.relative_to(tree).as_posix() for path in as_paths(tree / pattern)]


@pytest.mark.parametrize("pattern", ["absent.parquet", "absent/*", "day=1/*.csv", "day=3/x.parquet"])
def test_what_is_not_there_is_said_alike(tree: Path, upload, pattern: str) -> None:
    url = upload(tree, "logs")
    with pytest.raises(ValueError, match="no ") as local:
        as_paths(tree / pattern)
    with pytest.raises(ValueError, match="no ") as remote:
        as_paths(f"{url}/{pattern}")
    assert with_urls(str(remote.value)).replace(url, str(tree)) == str(local.value)


@pytest.mark.parametrize("name", FILES)
def test_rows_are_those_of_the_file(tmp_path: Path, upload, name: str) -> None:
    path, rows = tmp_path / name, table(1000)
    if "csv" in name:
        with pa.output_stream(path) as stream:
            pa.csv.write_csv(rows, stream)
    elif "tfrecord" in name:
        batch = {"n": np.asarray(rows["n"]), "city": np.array(rows["city"].to_pylist(), object)}
        write_tfrecord(path, [batch], COLUMNS)
    else:
        pq.write_table(rows, path, row_group_size=300)
    url = upload(path, f"day=7/{name}")
    columns = COLUMNS | {"day": Column("day", "int64")}
    read = concatenate(list(read_columns(url, columns, 128)))
    assert read["n"].tolist() == list(range(1000))
    assert read["city"].tolist() == rows["city"].to_pylist()
    assert set(read["day"].tolist()) == {7}
    assert count_rows(url) == 1000


def test_counting_parquet_rows_fetches_no_file(tree: Path, upload, network) -> None:
    assert count_rows(upload(tree, "logs")) == 40
    assert not inputs_folder().exists()


def test_files_are_fetched_once_and_ahead(tmp_path: Path, upload, network) -> None:
    for number in range(8):
        path = tmp_path / "logs" / f"{number}.parquet"
        path.parent.mkdir(exist_ok=True)
        pq.write_table(table(10, 10 * number), path)
    url = upload(tmp_path / "logs", "logs")
    network.requests.clear()
    batches = read_columns(url, COLUMNS)
    next(batches)
    for fetching in [*inputs._INPUTS._fetching.values()]:
        fetching.result()
    assert sorted(path.name for path in inputs_folder().rglob("*.parquet")) == [f"{n}.parquet" for n in range(4)]
    assert sum(len(batch["n"]) for batch in batches) == 70
    gets = [path for method, path in network.requests if method == "GET" and path.endswith(".parquet")]
    assert len(gets) == len(set(gets)) == 8
    network.requests.clear()
    assert concatenate(list(read_columns(url, COLUMNS)))["n"].tolist() == list(range(80))
    assert not [path for method, path in network.requests if method == "GET" and path.endswith(".parquet")]


def test_a_file_that_has_changed_is_fetched_anew(tmp_path: Path, upload) -> None:
    for rows in (10, 20):
        pq.write_table(table(rows), tmp_path / "a.parquet")
        url = upload(tmp_path / "a.parquet", "a.parquet")
        assert len(concatenate(list(read_columns(url, COLUMNS)))["n"]) == rows


def test_a_file_that_changes_while_it_is_fetched_is_refused(tmp_path: Path, upload, network) -> None:
    pq.write_table(table(1000), tmp_path / "a.parquet")
    pq.write_table(table(10), tmp_path / "short.parquet")
    url = upload(tmp_path / "a.parquet", "a.parquet")

    def replace(method: str, path: str) -> None:
        if method == "GET" and not path.endswith("/"):
            network.meddle = lambda method, path: None
            upload(tmp_path / "short.parquet", "a.parquet")

    network.meddle = replace
    with pytest.raises(StorageError, match=f"{url}: the object must stay as it is while it is read"):
        list(read_columns(url, COLUMNS))
    assert len(concatenate(list(read_columns(url, COLUMNS)))["n"]) == 10


def test_copies_give_way_where_room_ends(tmp_path: Path, upload, monkeypatch) -> None:
    for number in range(40):
        path = tmp_path / "logs" / f"{number:02d}.parquet"
        path.parent.mkdir(exist_ok=True)
        pq.write_table(table(1000, 1000 * number), path)
    size = (tmp_path / "logs" / "00.parquet").stat().st_size
    monkeypatch.setenv("C2AL_CACHE_GB", str(5 * size / 1e9))
    url = upload(tmp_path / "logs", "logs")
    assert concatenate(list(read_columns(url, COLUMNS)))["n"].tolist() == list(range(40_000))
    assert len([*inputs_folder().rglob("*.parquet")]) <= 16 + 4
    assert concatenate(list(read_columns(url, COLUMNS)))["n"].tolist() == list(range(40_000))


def test_copies_that_somebody_removes_are_fetched_again(tmp_path: Path, upload) -> None:
    for number in range(6):
        path = tmp_path / "logs" / f"{number}.parquet"
        path.parent.mkdir(exist_ok=True)
        pq.write_table(table(100, 100 * number), path, row_group_size=20)
    url = upload(tmp_path / "logs", "logs")
    for _ in range(3):
        batches = read_columns(url, COLUMNS, 20)
        first = next(batches)["n"].tolist()
        shutil.rmtree(inputs_folder())
        assert first + concatenate(list(batches))["n"].tolist() == list(range(600))


def test_files_that_change_after_they_were_fetched_ahead_are_read_as_they_are(tmp_path: Path, upload) -> None:
    for first in (0, 10_000):
        for number in range(4):
            path = tmp_path / "logs" / f"{number}.parquet"
            path.parent.mkdir(exist_ok=True)
            pq.write_table(table(100 + first // 100, first + 1000 * number), path)
        url = upload(tmp_path / "logs", "logs")
        assert next(read_columns(url, COLUMNS))["n"][0] == first  # and the others are fetched ahead, and not read
    read = concatenate(list(read_columns(url, COLUMNS)))["n"].tolist()
    assert read == [10_000 + 1000 * number + row for number in range(4) for row in range(200)]


def test_an_object_that_stands_for_an_empty_folder_is_no_file(tree: Path, upload, bucket: str) -> None:
    url = upload(tree, "logs")
    objects.put_mark(local_path(f"{url}/day=3/x"))
    objects.delete_object(local_path(f"{url}/day=3/x"))  # leaves the folder's mark
    assert [shown(path).rpartition("/")[2] for path in as_paths(f"{url}/day=*")] == [
        "b.parquet",
        "c.parquet",
        "d.parquet",
    ]


def test_shuffled_rows_are_those_of_the_files(tmp_path: Path, upload) -> None:
    schema = Schema((CategoricalFeature("city", "string", vocabulary=("c0", "c1", "c2")),), labels=("n",))
    for number in range(3):
        path = tmp_path / "logs" / f"{number}.parquet"
        path.parent.mkdir(exist_ok=True)
        rows = 0 if number == 1 else 50
        pq.write_table(
            table(rows).set_column(0, "n", pa.array([float(i % 2) for i in range(rows)])), path, row_group_size=20
        )
    (tmp_path / "logs" / "none.parquet").touch()
    url = upload(tmp_path / "logs", "logs")
    passes = [
        [(x["city"].numpy().tolist(), w.numpy().tolist()) for x, _, w in make_dataset(place, schema, 10, shuffle=True)]
        for place in (url, tmp_path / "logs")
    ]
    assert passes[0] == passes[1]
    encoded = [
        encode_rows(place, schema, tmp_path / f"encoded-{i}")
        for i, place in enumerate((f"{url}/0.*", tmp_path / "logs" / "0.parquet"))
    ]
    assert np.array_equal(*(rows.values for rows in encoded))


def test_bad_input_names_url_and_rule(tmp_path: Path, bucket, upload, network, another_machine) -> None:
    pq.write_table(table(1000), tmp_path / "a.parquet")
    url = upload(tmp_path / "a.parquet", "a.parquet")
    with pytest.raises(
        StorageError, match="s3://no-such-bucket-here/logs.*: there is no such bucket as no-such-bucket-here"
    ):
        as_paths("s3://no-such-bucket-here/logs/*")
    network.meddle = lambda method, path: {"status": 403}
    with pytest.raises(StorageError, match=f"{url}: the store did not find it. The credentials in use may not do this"):
        as_paths(url)
    cut = []

    def cut_once(method: str, path: str) -> dict[str, int] | None:
        return {"bytes": 100} if method == "GET" and not cut.append(path) and len(cut) == 1 else None

    network.meddle = cut_once
    assert len(concatenate(list(read_columns(url, COLUMNS)))["n"]) == 1000
    assert len(cut) == 2
    another_machine()
    network.meddle = lambda method, path: {"bytes": 100} if method == "GET" else None
    with pytest.raises(StorageError, match=f"{url}: the store did not give it"):
        list(read_columns(url, COLUMNS))
    network.meddle = lambda method, path: None
    (tmp_path / "half.parquet").write_bytes((tmp_path / "a.parquet").read_bytes()[:-100])
    half = upload(tmp_path / "half.parquet", "half.parquet")
    with pytest.raises(ValueError, match="not a whole Parquet file"):
        list(read_columns(half, COLUMNS))
    pq.write_table(pa.table({"m": [1]}), tmp_path / "other.parquet")
    other = upload(tmp_path / "other.parquet", "other.parquet")
    with pytest.raises(ValueError, match="other.parquet"):
        list(read_columns([url, other], COLUMNS))
    pq.write_table(table(0), tmp_path / "empty.parquet")
    empty = upload(tmp_path / "empty.parquet", "empty.parquet")
    with pytest.warns(UserWarning, match="no rows; it is skipped"):
        assert sum(len(batch["n"]) for batch in read_columns([url, empty], COLUMNS)) == 1000
