"""The command, in this process or in one of its own, and one whole run by it."""

import contextlib
import dataclasses
import fcntl
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from c2al_serving.requests.model_client import ModelClient

REPOSITORY = Path(__file__).parents[2]
DEMO = str(REPOSITORY / "pipelines" / "configs" / "demo.yaml")
SCRIPT = str(Path(sys.executable).with_name("c2al"))

# A world whose planted cohorts 15,000 rows show as clearly as 400,000 do at the real click rate, and a model that
# compiles quickly, without XLA; tests/training are about XLA.
SMALL = {
    "data.negative_sampling": "null",
    "data.synthetic_ads.cohort_strength": 1.15,
    "data.synthetic_ads.num_rows": 30_000,
    "data.synthetic_ads.validation_rows": 15_000,
    "data.synthetic_ads.test_rows": 15_000,
    "data.synthetic_ads.click_rate": 0.2,
    "data.synthetic_ads.head_lift": 4.0,
    "data.synthetic_ads.tail_lift": 0.5,
    "data.synthetic_ads.num_users": 500,
    "data.synthetic_ads.num_ads": 100,
    "data.synthetic_ads.num_advertisers": 20,
    "model.embedding_dim": 4,
    "model.num_blocks": 1,
    "model.num_outputs": 2,
    "model.mixing_outputs": 2,
    "model.attention_units": 4,
    "model.shared_units": [8],
    "model.head_units": [8],
    "training.batch_size": 500,
    "training.learning_rate": 0.01,
    "training.jit_compile": False,
    "cohorts.guard.min_positives": 50,
    "seeds": 2,
}


def as_words(settings: dict[str, Any]) -> list[str]:
    return [f"--{key}={value}" for key, value in settings.items()]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a call of the command left behind; `error` is what it says on stderr, or at its exit."""

    status: int
    output: str
    error: str


@dataclasses.dataclass(frozen=True)
class FinishedRun:
    """A run that `c2al run` went through, and how to call it again."""

    path: Path
    words: tuple[str, ...]
    outcome: Outcome


@pytest.fixture
def c2al(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Calls the command in this process."""
    from c2al_pipelines import cli
    from c2al_pipelines.commands import run

    monkeypatch.setattr(cli, "hide_native_notes", lambda: None)
    monkeypatch.setattr(run, "_keep_freed_memory", lambda: None)  # it is for the process, whose other tests measure
    monkeypatch.delenv("C2AL_TRACEBACK", raising=False)

    def call(*words: object) -> Outcome:
        capsys.readouterr()
        status, message = 0, ""
        try:
            cli.main([str(word) for word in words])
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
            message = end.code if isinstance(end.code, str) else ""
        written = capsys.readouterr()
        return Outcome(status, written.out, written.err + message)

    return call


@pytest.fixture(scope="session", autouse=True)
def patient_clients() -> Iterator[None]:
    """`c2al predict` waits five minutes for an answer, not ten seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ModelClient.__init__.__kwdefaults__, "timeout", 300.0)
        yield


@pytest.fixture(scope="session")
def start_script(start_process) -> Callable[..., contextlib.AbstractContextManager[subprocess.Popen[str]]]:
    """`with start_script(*words) as process`: the installed command, killed on leaving with all that it started."""
    wide = {**os.environ, "COLUMNS": "200"}
    return lambda *words: start_process([SCRIPT, *words], cwd=REPOSITORY, env=wide)


@pytest.fixture(scope="session")
def script(start_script) -> Callable[..., Outcome]:
    """Calls the installed command in a process of its own."""

    def call(*words: object) -> Outcome:
        with start_script(*words) as process:
            output, error = process.communicate()
        return Outcome(process.returncode, output, error)

    return call


@pytest.fixture(scope="session")
def small_words() -> Callable[..., list[str]]:
    """The words after `c2al run` for a small run into a folder; settings override the small ones."""

    def words(run_dir: Path, **settings: Any) -> list[str]:
        changed = {key.replace("__", "."): value for key, value in settings.items()}
        return [DEMO, f"--run-dir={run_dir}", *as_words(SMALL | changed)]

    return words


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], Any]], tuple[Path, Any]]:
    """`made_once(name, make)`: a path of that name and what `make(path)` returned.

    The workers of pytest-xdist share it: whoever needs it first makes it.
    """
    folder = tmp_path_factory.getbasetemp()
    folder = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder

    def once(name: str, make: Callable[[Path], Any]) -> tuple[Path, Any]:
        path, record = folder / name, folder / f"{name}.json"
        with (folder / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not record.exists():
                record.write_text(json.dumps(make(path)))
        return path, json.loads(record.read_text())

    return once


@pytest.fixture(scope="session")
def finished(
    made_once: Callable[..., tuple[Path, Any]], small_words: Callable[..., list[str]], script: Callable[..., Outcome]
) -> FinishedRun:
    """One whole run, in a process of its own. Tests read it; those that write copy it first."""

    def make(path: Path) -> dict[str, Any]:
        outcome = script("run", *small_words(path))
        assert outcome.status == 0, outcome.error[-3000:]
        return dataclasses.asdict(outcome)

    path, outcome = made_once("finished", make)
    return FinishedRun(path, tuple(small_words(path)), Outcome(**outcome))


def _position(checkpoints: Path) -> tuple[int, int]:
    """Epoch and step of the newest checkpoint."""
    newest = max(checkpoints.glob("[0-9]*.npz"), default=None)
    if newest is None:
        return 0, 0
    with np.load(newest) as arrays:
        saved = json.loads(arrays["position.json"])
    return saved["epoch"], saved["step"]


@pytest.fixture
def end_at(until: Callable[[Callable[[], object]], None]) -> Callable[..., str]:
    """Sends a signal once a checkpoint is within an epoch; returns what the process said on stderr."""

    def end(starting: Any, checkpoints: Path, epoch: int, number: signal.Signals) -> str:
        with starting as process:
            until(lambda: _position(checkpoints) >= (epoch, 1) or process.poll() is not None)
            assert process.poll() is None, process.stderr.read()
            process.send_signal(number)
            error = process.communicate()[1]
        assert process.returncode == (1 if number == signal.SIGINT else -number)
        assert not (checkpoints.parent / "model.keras").exists()
        return error

    return end
