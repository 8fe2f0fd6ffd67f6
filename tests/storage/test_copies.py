"""What is written appears in a store whole or not at all, whatever ends the writing."""

import concurrent.futures
import contextlib
import random
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from c2al_tf.files import read_json, remove, replace_directory, replace_file, write_json
from c2al_tf.storage import StorageError, folders_in, is_there, local_path, objects, opened, pull, put, shown
from c2al_tf.storage.copies import UPLOADING
from c2al_tf.storage.objects import objects_in


def names(url: str) -> list[str]:
    """The objects of a store under a URL."""
    folder = local_path(url)
    return sorted(path.relative_to(folder).as_posix() for path in objects_in(folder))


def write_folder(url: str, **files: str) -> None:
    with replace_directory(url) as folder:
        for name, text in files.items():
            (folder / name).write_text(text)


def test_json_is_read_by_another_machine(bucket: str, another_machine) -> None:
    write_json(f"{bucket}/run/x.json", {"a": 1})
    write_json(f"{bucket}/run/x.json", {"a": 2})
    another_machine()
    assert read_json(f"{bucket}/run/x.json") == {"a": 2}
    remove(local_path(f"{bucket}/run/x.json"))
    assert not is_there(local_path(f"{bucket}/run/x.json"))


def test_a_folder_takes_the_place_of_another(bucket: str, another_machine) -> None:
    write_folder(f"{bucket}/run/data", a="1", b="2")
    write_folder(f"{bucket}/run/data", b="3", c="4")
    another_machine()
    folder = opened(f"{bucket}/run")
    assert {path.name: path.read_text() for path in (folder / "data").iterdir()} == {"b": "3", "c": "4"}
    assert names(f"{bucket}/run") == ["data/b", "data/c"]


def test_a_copy_becomes_like_the_store(bucket: str, another_machine) -> None:
    write_folder(f"{bucket}/run/data", a="1", b="2")
    first = opened(f"{bucket}/run")
    another_machine()
    other = opened(f"{bucket}/run")
    (other / "encoded").mkdir()
    (other / "encoded" / "mine").write_text("x")
    (other / "left").write_text("never put")
    remove(other / "data" / "a")
    write_json(other / "new.json", 1)
    again = pull(other)
    assert sorted(p.relative_to(again).as_posix() for p in again.rglob("*") if p.is_file()) == [
        "data/b",
        "encoded/mine",
        "new.json",
    ]
    assert first != other


def test_a_reader_beside_a_writer_takes_nothing_from_it(bucket: str) -> None:
    write_folder(f"{bucket}/run/data", a="1")
    with replace_file(f"{bucket}/run/checkpoint") as temporary:
        temporary.write_text("whole")
        folder = opened(f"{bucket}/run")
        assert sorted(path.name for path in folder.iterdir()) == [temporary.name, "data"]
    assert names(f"{bucket}/run") == ["checkpoint", "data/a"]
    events = folder / "seeds" / "0" / "tensorboard" / "events"
    events.parent.mkdir(parents=True)
    events.write_text("so far")
    assert opened(f"{bucket}/run") == folder
    assert events.read_text() == "so far"


def test_a_copy_is_not_made_like_the_store_between_a_name_and_its_put(bucket: str, monkeypatch) -> None:
    named, go_on, put_object = threading.Event(), threading.Event(), objects.put_object

    def late(path: Path) -> None:
        named.set()
        go_on.wait()
        put_object(path)

    monkeypatch.setattr(objects, "put_object", late)
    with ThreadPoolExecutor(2) as pool:
        writing = pool.submit(write_json, f"{bucket}/run/x.json", 1)
        named.wait()
        reading = pool.submit(opened, f"{bucket}/run")
        concurrent.futures.wait([reading], timeout=2)  # it would have ended by then, and taken the file away
        go_on.set()
        writing.result()
        assert (reading.result() / "x.json").read_text() == "1\n"


def test_processes_may_make_one_copy_at_a_time(bucket: str, another_machine, start_process) -> None:
    write_folder(f"{bucket}/run/data", **{f"part-{n}": "x" * 10_000 for n in range(20)})
    another_machine()
    code = "import sys; from c2al_tf.storage import opened; print(len([*opened(sys.argv[1]).rglob('part-*')]))"
    with contextlib.ExitStack() as stack:
        readers = [stack.enter_context(start_process([sys.executable, "-c", code, f"{bucket}/run"])) for _ in range(3)]
        said = [reader.communicate() for reader in readers]
    assert [output.strip() for output, _ in said] == ["20"] * 3, said


def test_a_link_to_the_folder_of_copies_changes_nothing(bucket: str, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    monkeypatch.setenv("C2AL_CACHE", str(tmp_path / "link"))
    write_json(f"{bucket}/x.json", 1)
    assert shown(local_path(f"{bucket}/x.json").resolve()) == f"{bucket}/x.json"
    assert read_json(f"{bucket}/x.json") == 1


def test_nothing_is_fetched_twice(bucket: str, network) -> None:
    write_folder(f"{bucket}/run/data", a="1", b="2")
    network.requests.clear()
    opened(f"{bucket}/run")
    assert not [path for method, path in network.requests if method == "GET" and not path.endswith(("/", bucket[5:]))]


def test_a_put_that_fails_leaves_what_was_there(bucket: str, network, another_machine) -> None:
    write_json(f"{bucket}/run/x.json", "old")
    network.meddle = lambda method, path: {"status": 403} if method in ("PUT", "POST") else None
    with pytest.raises(StorageError, match=f"{bucket}/run/x.json: the store did not take it. The credentials"):
        write_json(f"{bucket}/run/x.json", "new")
    another_machine()
    assert read_json(f"{bucket}/run/x.json") == "old"
    network.meddle = lambda method, path: None
    write_json(f"{bucket}/run/x.json", "new")
    assert read_json(f"{bucket}/run/x.json") == "new"


@pytest.mark.parametrize("passing", [0, 1, 2, 3])
def test_a_folder_whose_put_fails_midway_counts_as_absent(bucket: str, network, another_machine, passing: int) -> None:
    write_folder(f"{bucket}/export/1", a="1", b="2")
    puts = []

    def fail_after(method: str, path: str) -> dict[str, int] | None:
        if method in ("PUT", "POST"):
            puts.append(path)
        return {"status": 403} if len(puts) > passing and method in ("PUT", "POST") else None

    network.meddle = fail_after
    with pytest.raises(StorageError, match=f"{bucket}/export/2"):
        write_folder(f"{bucket}/export/2", a="3", b="4", c="5")
    network.meddle = lambda method, path: None
    another_machine()
    assert [path.name for path in folders_in(local_path(f"{bucket}/export"))] == ["1"]
    assert [path.name for path in opened(f"{bucket}/export").iterdir()] == ["1"]
    write_folder(f"{bucket}/export/2", b="6")
    another_machine()
    assert {path.name: path.read_text() for path in (opened(f"{bucket}/export") / "2").iterdir()} == {"b": "6"}


def test_the_graph_comes_last_and_the_sign_goes_after_it(bucket: str, network) -> None:
    network.requests.clear()
    write_folder(f"{bucket}/export/1", **{"a": "1", "saved_model.pb": "graph", "z": "2"})
    # pyarrow then puts an object of no bytes that stands for the folder.
    changed = [path.rpartition("/")[2] for method, path in network.requests if method in ("PUT", "DELETE")]
    changed = [name for name in changed if name]
    order = list(dict.fromkeys(changed))
    assert order[0] == UPLOADING
    assert changed[-1] == UPLOADING
    assert order.index("saved_model.pb") > max(order.index("a"), order.index("z"))


def test_a_file_in_place_of_a_folder_and_back(bucket: str, another_machine) -> None:
    write_folder(f"{bucket}/x", a="1")
    remove(local_path(f"{bucket}/x"))
    write_json(f"{bucket}/x", 1)
    assert read_json(f"{bucket}/x") == 1
    assert names(f"{bucket}") == ["x"]


def test_what_is_on_a_disk_is_left_alone(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", 1)
    put(tmp_path / "x.json")
    assert pull(tmp_path) == opened(tmp_path) == tmp_path
    assert is_there(tmp_path / "x.json")
    remove(tmp_path / "x.json")
    assert not is_there(tmp_path / "x.json")


WRITER = """
import sys
import threading
from c2al_tf.files import replace_directory
base, number = sys.argv[1], int(sys.argv[2])
while True:
    with replace_directory(f"{base}/{number}") as folder:
        for part in range(6):
            (folder / f"part-{part}").write_text(f"{number}" * 1000)
        (folder / "saved_model.pb").write_text(f"{number}" * 10)
    print(number, flush=True)
    number += 1
"""


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_kills_while_publishing_show_no_half_version(bucket: str, start_process, another_machine, kills: int) -> None:
    rng, number = random.Random(0), 1
    for _ in range(kills):
        with start_process([sys.executable, "-c", WRITER, f"{bucket}/export", number]) as writer:
            assert int(writer.stdout.readline()) == number
            time.sleep(rng.uniform(0, 0.15))
            writer.send_signal(signal.SIGKILL)
            said = [number, *map(int, writer.stdout.read().split())]
        another_machine()
        found = {int(path.name): path for path in opened(f"{bucket}/export").iterdir()}
        assert {*range(1, said[-1] + 1)} <= {*found}
        for version, path in found.items():
            assert sorted(each.name for each in path.iterdir()) == [*(f"part-{n}" for n in range(6)), "saved_model.pb"]
            assert {each.read_text() for each in path.glob("part-*")} == {f"{version}" * 1000}
        number = max(found) + 1
