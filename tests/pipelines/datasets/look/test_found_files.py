import gzip
import os
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from c2al_pipelines.datasets.look.found_files import find_files, unpacked_size

from c2al_tf.data.columns.formats import as_paths


def _touch(folder, *names) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x\n")


def _names(found, split):
    return [path.relative_to(found.folder).as_posix() for path in found.splits[split]]


@pytest.mark.parametrize(
    ("files", "patterns"),
    [
        (["train.csv", "test.csv"], {"train": "train.csv", "test": "test.csv"}),
        (["train/a.csv", "test/a.csv"], {"train": "train/*.csv", "test": "test/*.csv"}),
        (
            ["train/a.csv", "train/b.csv.gz", "validation/a.csv", "test/a.csv"],
            {"train": "train/*.csv*", "validation": "validation/*.csv", "test": "test/*.csv"},
        ),
        (
            ["train-0.csv", "train-1.csv", "val-0.csv", "val-1.csv", "test-0.csv", "test-1.csv"],
            {"train": "train*.csv", "validation": "val*.csv", "test": "test*.csv"},
        ),
        (
            ["clicks_train_1.csv", "clicks_train_2.csv", "clicks_test.csv"],
            {"train": "*train*.csv", "test": "clicks_test.csv"},
        ),
        (
            ["day=1/train.csv", "day=2/train.csv", "day=1/test.csv", "day=2/test.csv"],
            {"train": "**/*train*.csv", "test": "**/*test*.csv"},
        ),
        (["train/1/a.csv", "train/2/a.csv", "test/1/a.csv"], {"train": "train/**/*.csv", "test": "test/1/*.csv"}),
        (
            ["train/a.csv", "train/b.csv", "train/_old.csv", "test/a.csv"],
            {"train": "train/*.csv", "test": "test/*.csv"},
        ),
    ],
)
def test_files_are_split_by_their_names(tmp_path, files, patterns) -> None:
    _touch(tmp_path, *files)
    found = find_files(str(tmp_path))
    assert found.patterns == patterns
    for split, pattern in found.patterns.items():
        assert [*found.splits[split]] == as_paths(tmp_path / pattern)


def test_hidden_files_and_marks_of_success_are_ignored(tmp_path) -> None:
    _touch(tmp_path, "train/a.csv", "train/_SUCCESS", "train/.b.csv", "test/a.csv", ".git/train.csv", "README.txt")
    found = find_files(str(tmp_path))
    assert _names(found, "train") == ["train/a.csv"]
    assert found.ignored == ("README.txt",)


def test_files_that_no_pattern_matches_alone_are_an_error(tmp_path) -> None:
    _touch(tmp_path, "a.csv", "b.csv", "test.csv")
    with pytest.raises(ValueError, match="must match the train files and no others; move them into a folder `train`"):
        find_files(str(tmp_path))


def test_validation_files_are_tested_on_where_there_are_no_test_files(tmp_path) -> None:
    _touch(tmp_path, "train.csv", "eval.csv")
    found = find_files(str(tmp_path))
    assert found.patterns == {"train": "train.csv", "test": "eval.csv"}
    assert "There are no test files" in found.notes["test"]


@pytest.mark.parametrize(
    ("files", "train", "test", "num_test"),
    [
        ([f"part-{i:05}.csv" for i in range(8)], "part-0000[!7]*.csv", "part-00007*.csv", 1),
        ([f"2024-01-{i:02}.csv" for i in range(1, 32)], "2024-01-[!3]*.csv", "2024-01-3*.csv", 2),
        ([f"date={i}/x.csv" for i in range(4)], "date=[!3]*/**/*.csv", "date=3*/**/*.csv", 1),
    ],
)
def test_the_last_files_by_name_are_held_out(tmp_path, files, train, test, num_test) -> None:
    _touch(tmp_path, *files)
    found = find_files(str(tmp_path))
    assert found.patterns == {"train": train, "test": test}
    assert _names(found, "test") == files[-num_test:]
    assert _names(found, "train") == files[:-num_test]
    assert "the last files by name are held out" in found.notes["test"]


def test_names_that_no_pattern_parts_are_an_error(tmp_path) -> None:
    _touch(tmp_path, "a.csv", *(f"b{i}.csv" for i in range(5)))
    with pytest.raises(ValueError, match="move the files into folders `train` and `test`"):
        find_files(str(tmp_path))


def test_a_pattern_chooses_files(tmp_path) -> None:
    _touch(tmp_path, "train.csv", "test.csv", "train.parquet")
    with pytest.raises(ValueError, match="must have one format; give a pattern"):
        find_files(str(tmp_path))
    found = find_files(f"{tmp_path}/*.csv")
    assert (found.folder, found.format) == (tmp_path, "csv")
    assert found.patterns == {"train": "train.csv", "test": "test.csv"}


def test_without_files_the_message_says_what_is_there(tmp_path) -> None:
    with pytest.raises(ValueError, match="must be a folder, a file or a pattern that matches files"):
        find_files(str(tmp_path / "none"))
    _touch(tmp_path, "clicks.xlsx")
    with pytest.raises(ValueError, match=r"names end in one of .parquet, .csv.*Received: \['clicks.xlsx'\]"):
        find_files(str(tmp_path))


def test_an_empty_file_is_of_no_split(tmp_path) -> None:
    """As the readers, which skip it."""
    _touch(tmp_path, "train.csv", "test-0.csv")
    (tmp_path / "test-1.csv").touch()
    found = find_files(str(tmp_path))
    assert [path.name for path in found.splits["test"]] == ["test-0.csv"]
    assert found.ignored == ("test-1.csv",)


def test_shards_are_known_by_their_names_and_content(tmp_path) -> None:
    for split in ("train", "test"):
        for shard in range(2):
            path = tmp_path / f"{split}.tfrecord-{shard:05d}-of-00002"
            path.write_bytes(b"\x03" + bytes(11) + b"\x0a\x01\x00" + bytes(4))
    found = find_files(str(tmp_path))
    assert found.format == "tfrecord"
    assert [len(found.splits[split]) for split in ("train", "test")] == [2, 2]


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".parquet"])
def test_the_command_that_splits_a_single_file_works(tmp_path, suffix) -> None:
    path = tmp_path / f"my clicks{suffix}"
    text = "click\n" + "".join(f"{i}\n" for i in range(99))
    if suffix == ".parquet":
        pq.write_table(pa.table({"click": range(100)}), path)
    elif suffix == ".csv":
        path.write_text(text)
    else:
        path.write_bytes(gzip.compress(text.encode()))
    with pytest.raises(ValueError, match="Received: one file. Split it") as caught:
        find_files(str(path))
    command, again = str(caught.value).splitlines()[1:]
    assert again.strip() == "c2al init 'my clicks_split'"
    path_variable = f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"
    subprocess.run(["bash", "-ec", command], cwd=tmp_path, check=True, env={**os.environ, "PATH": path_variable})
    found = find_files(str(tmp_path / "my clicks_split"))
    assert found.patterns == {"train": f"train{suffix}", "test": f"test{suffix}"}
    rows = {}
    for split, (file,) in found.splits.items():
        raw = file.read_bytes()
        raw = gzip.decompress(raw) if suffix.endswith(".gz") else raw
        rows[split] = pq.read_table(file).num_rows if suffix == ".parquet" else raw.count(b"\n") - 1
    assert rows == ({"train": 80, "test": 20} if suffix == ".parquet" else {"train": 79, "test": 20})


def test_the_size_of_packed_files_is_that_of_their_content(tmp_path) -> None:
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"x" * 5000))
    (tmp_path / "b.csv").write_bytes(b"x" * 7)
    assert unpacked_size([tmp_path / "a.csv.gz", tmp_path / "b.csv"]) == 5007
