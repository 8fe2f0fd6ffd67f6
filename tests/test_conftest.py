"""A test that leaves a process fails, and nothing of it is left for the next one."""

import os
import shutil
import sys
from pathlib import Path

import pytest

TESTS = """
import gc
import subprocess
import sys

SLEEP = [sys.executable, "-c", "import time; time.sleep(3600)", {marker!r}]
kept = []


def test_leaves_its_child():
    kept.append(subprocess.Popen(SLEEP, stdout=subprocess.PIPE))  # as the traceback of a failure keeps it


def test_comes_next():
    kept.clear()
    gc.collect()


def test_leaves_the_child_of_its_child():
    subprocess.run([sys.executable, "-c", f"import subprocess; subprocess.Popen({{SLEEP}})"], check=True)


def test_fails_beside_a_process_and_its_child(start_process):
    code = f"import subprocess; subprocess.run({{SLEEP}}, check=True)"
    with start_process([sys.executable, "-c", code]):
        raise LookupError("first")
"""


def commands() -> list[str]:
    return [path.read_text(errors="replace") for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]


def test_processes_that_are_left_fail_their_test_and_are_killed(tmp_path, start_process) -> None:
    shutil.copy(Path(__file__).with_name("conftest.py"), tmp_path)
    (tmp_path / "test_left.py").write_text(TESTS.format(marker=f"left in {tmp_path}"))
    options = ["-W", "error", "-ra", "--rootdir", tmp_path, "-p", "no:cacheprovider"]
    with start_process(
        [sys.executable, "-m", "pytest", *options, tmp_path], cwd=tmp_path, env={**os.environ, "COLUMNS": "200"}
    ) as process:
        output, error = process.communicate()
        assert "1 failed, 3 passed, 2 errors" in output, output + error
    assert "FAILED test_left.py::test_fails_beside_a_process_and_its_child - LookupError: first" in output
    for name in ("test_leaves_its_child", "test_leaves_the_child_of_its_child"):
        assert f"ERROR test_left.py::{name} - Failed: The test has left processes" in output
    assert not [command for command in commands() if f"left in {tmp_path}" in command]


def test_what_is_waited_for_may_never_come(until, monkeypatch) -> None:
    clock = iter(range(0, 10_000, 100))
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    with pytest.raises(AssertionError, match="waited in vain"):
        until(lambda: False)
