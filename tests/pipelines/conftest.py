"""The command, in this process or in one of its own, and one whole run by it."""

import dataclasses
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).parents[2]
DEMO = str(REPOSITORY / "pipelines" / "configs" / "demo.yaml")
SCRIPT = str(Path(sys.executable).with_name("c2al"))

# A world whose planted cohorts 15,000 rows show as clearly as 400,000 do at the real click rate, and a model that
# compiles quickly.
SMALL = {
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

    monkeypatch.setattr(cli, "hide_native_notes", lambda: None)
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


def run_script(*words: object) -> Outcome:
    """Calls the installed command in a process of its own."""
    wide = {**os.environ, "COLUMNS": "200"}
    call = [SCRIPT, *map(str, words)]
    done = subprocess.run(call, capture_output=True, text=True, cwd=REPOSITORY, env=wide, timeout=600)
    return Outcome(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="session")
def script() -> Callable[..., Outcome]:
    return run_script


@pytest.fixture(scope="session")
def start_script() -> Callable[..., subprocess.Popen[str]]:
    """Starts the installed command, which is the caller's to end."""

    def start(*words: object) -> subprocess.Popen[str]:
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen([SCRIPT, *map(str, words)], cwd=REPOSITORY, **pipes)  # type: ignore[call-overload]

    return start


@pytest.fixture(scope="session")
def small_words() -> Callable[..., list[str]]:
    """The words after `c2al run` for a small run into a folder; settings override the small ones."""

    def words(run_dir: Path, **settings: Any) -> list[str]:
        changed = {key.replace("__", "."): value for key, value in settings.items()}
        return [DEMO, f"--run-dir={run_dir}", *as_words(SMALL | changed)]

    return words


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, small_words: Callable[..., list[str]]) -> FinishedRun:
    """One whole run, in a process of its own. Tests read it; those that write copy it first."""
    path = tmp_path_factory.mktemp("finished") / "run"
    words = small_words(path)
    outcome = run_script("run", *words)
    assert outcome.status == 0, outcome.error[-3000:]
    return FinishedRun(path, tuple(words), outcome)
