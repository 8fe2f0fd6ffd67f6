import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from c2al_tf.files import read_json, replace_directory, replace_file, write_json


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.txt"
    with replace_file(path) as temporary:
        temporary.write_text("one")
        assert not path.exists()
    assert path.read_text() == "one"
    with pytest.raises(RuntimeError), replace_file(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "one"
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "export" / "1"
    for text in ("one", "two"):
        with replace_directory(path) as temporary:
            (temporary / "file.txt").write_text(text)
        assert (path / "file.txt").read_text() == text
    with pytest.raises(RuntimeError), replace_directory(path) as temporary:
        (temporary / "other.txt").write_text("half")
        raise RuntimeError
    assert [file.name for file in path.iterdir()] == ["file.txt"]
    assert list(path.parent.iterdir()) == [path]


def test_permissions_are_those_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "any").touch()
    with replace_file(tmp_path / "file") as temporary:
        temporary.write_text("one")
    assert (tmp_path / "file").stat().st_mode == (tmp_path / "any").stat().st_mode


def test_bytes_are_on_the_disk_before_they_have_their_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[tuple[str, Path]] = []
    fsync, replace = os.fsync, os.replace

    def recording_fsync(descriptor: int) -> None:
        fsync(descriptor)
        done.append(("flush", Path(os.readlink(f"/proc/self/fd/{descriptor}"))))

    def recording_replace(source: Path, target: Path) -> None:
        replace(source, target)
        done.append(("rename", target))

    monkeypatch.setattr(os, "fsync", recording_fsync)
    monkeypatch.setattr(os, "replace", recording_replace)
    with replace_file(tmp_path / "file") as file:
        file.write_text("one")
    assert done == [("flush", file), ("rename", tmp_path / "file"), ("flush", tmp_path)]
    done.clear()
    with replace_directory(tmp_path / "folder") as folder:
        (folder / "inner").mkdir()
        (folder / "inner" / "file").write_text("one")
    assert done[-2:] == [("rename", tmp_path / "folder"), ("flush", tmp_path)]
    assert set(done[:-2]) == {("flush", path) for path in (folder, folder / "inner", folder / "inner" / "file")}


WRITER = """
import sys
from c2al_tf.files import replace_directory, replace_file
with {kind}(sys.argv[1]) as temporary:
    (temporary / "part" if temporary.is_dir() else temporary).write_text("half")
    print("written", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def writing(start_process: Callable[..., Any]) -> Callable[..., Any]:
    """`with writing(kind, path) as process`: one that has written half and waits."""

    @contextmanager
    def start(kind: str, path: Path) -> Iterator[subprocess.Popen[str]]:
        call = [sys.executable, "-c", WRITER.format(kind=kind), path]
        with start_process(call, stdin=subprocess.PIPE) as process:
            assert process.stdout.readline() == "written\n", process.stderr.read()
            yield process

    return start


@pytest.mark.parametrize("kind", ["replace_file", "replace_directory"])
def test_what_a_killed_process_left_is_removed_and_what_another_writes_is_not(
    kind: str, tmp_path: Path, writing: Callable[..., Any]
) -> None:
    path = tmp_path / "a-b.x"
    with writing(kind, path) as killed:
        killed.send_signal(signal.SIGKILL)
    (left,) = tmp_path.iterdir()
    with writing(kind, path) as alive:
        assert not left.exists()
        (kept,) = tmp_path.iterdir()
        other = tmp_path / "b.x"
        other.write_text("mine")
        with replace_file(other) as temporary:
            temporary.write_text("one")
        write_json(path.with_name("c.json"), [])
        with {"replace_file": replace_file, "replace_directory": replace_directory}[kind](path):
            assert kept.exists()
        assert path.exists()
        alive.communicate("go on")
        assert alive.returncode == 0
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a-b.x", "b.x", "c.json"]


def test_json(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"name": "ü", "values": [1, None]})
    assert read_json(tmp_path / "a.json") == {"name": "ü", "values": [1, None]}
    (tmp_path / "b.json").write_text('{"a": ')
    with pytest.raises(ValueError, match=r"b.json: not valid JSON"):
        read_json(tmp_path / "b.json")
