"""Does a run that is killed end with the weights of one that is not? Kills it at random moments and compares hashes.

Example: python -m c2al_pipelines.benchmarks.kill_and_resume --kills 20 --output kill_and_resume.json
"""

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jsonargparse
import keras
import numpy as np

from c2al_tf.files import read_json, write_json

from ..run import steps  # noqa: F401  registers what a model's file is made of

COMMAND = Path(sys.executable).with_name("c2al")
CONFIG = Path(__file__).parents[1] / "configs" / "demo.yaml"
SETTINGS: Mapping[str, Any] = {
    "data.synthetic_ads.num_rows": 40_000,
    "data.synthetic_ads.validation_rows": 10_000,
    "data.synthetic_ads.test_rows": 1,
    "data.synthetic_ads.click_rate": 0.2,
    "data.synthetic_ads.num_users": 5_000,
    "model.num_blocks": 1,
    "model.num_outputs": 2,
    "model.mixing_outputs": 2,
    "model.attention_units": 4,
    "model.dropout": 0.2,
    "training.batch_size": 500,
    "training.epochs": 8,
    "training.patience": 1,
    "training.learning_rate": 7e-4,
    "training.table_optimizer": "row_wise_adagrad",
    "training.table_learning_rate": 0.2,
    "training.checkpoint_steps": 20,
    "seeds": 1,
}
"""A small run that uses what must survive a kill: dropout, two optimizers, the best epoch, frequent checkpoints."""


def prepare(folder: Path) -> Path:
    """Writes the run's rows, by the command, and returns the folder of the run, inside `folder`."""
    path = folder / "prepared"
    settings = [f"--{name}={value}" for name, value in SETTINGS.items()]
    subprocess.run([COMMAND, "prepare", CONFIG, f"--run-dir={path}", *settings], check=True, capture_output=True)
    return path


@contextlib.contextmanager
def training(path: Path) -> Iterator[subprocess.Popen[str]]:
    """The command that trains the run, in a process group of its own, which is killed on leaving."""
    call = [str(COMMAND), "train", f"--run-dir={path}", "--arm=baseline"]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(call, start_new_session=True, **pipes) as process:
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):  # it has ended
                os.killpg(process.pid, signal.SIGKILL)


def finish(path: Path) -> str:
    """Trains to the end and returns what the command says on stderr.

    Raises:
        RuntimeError: If it fails.
    """
    with training(path) as process:
        _, said = process.communicate()
    if process.returncode:
        raise RuntimeError(f"`c2al train` must end well. Received: exit status {process.returncode}\n{said[-3000:]}")
    return said


def outcome(path: Path) -> tuple[str, dict[str, Any]]:
    """How a run ended: the hash of its weights, and its history without the times."""
    history = read_json(_model_folder(path) / "history.json")
    return weights_hash(path), {
        name: value for name, value in history.items() if name not in ("seconds", "timed_steps")
    }


def weights_hash(path: Path) -> str:
    """SHA-256 over the bytes of all weights of the trained model and of all variables of its optimizer."""
    model = keras.saving.load_model(_model_folder(path) / "model.keras")
    digest = hashlib.sha256()
    for variable in (*model.weights, *model.optimizer.variables):
        digest.update(variable.numpy().tobytes())
    return digest.hexdigest()


def checkpoints(path: Path) -> list[Path]:
    """The checkpoints of a run, the oldest first."""
    return sorted((_model_folder(path) / "checkpoints").glob("[0-9]*.npz"))


def _model_folder(path: Path) -> Path:
    return path / "seeds" / "0" / "baseline"


def place(path: Path) -> str:
    """How far a killed run had come, as its folder tells."""
    if (_model_folder(path) / "model.keras").exists():
        return "at the end, the model written"
    parts = [part.name.split("-", 2)[2] for part in path.rglob(".partial-*")]
    writing = "".join(f", while {name} was written" for name in parts)
    if not checkpoints(path):
        return f"before the first checkpoint{writing}"
    with np.load(checkpoints(path)[-1]) as arrays:
        position = json.loads(arrays["position.json"])
    return f"after the checkpoint at epoch {position['epoch']}, step {position['step']}{writing}"


def kill_after(path: Path, seconds: float) -> None:
    """Trains, and kills the command after some seconds."""
    with training(path) as process, contextlib.suppress(subprocess.TimeoutExpired):
        process.communicate(timeout=seconds)


def kill_while_writing(path: Path, number: int) -> None:
    """Trains, and kills the command when it writes a checkpoint, once there are so many."""
    with training(path) as process:
        while process.poll() is None:
            if len(checkpoints(path)) >= number and any((_model_folder(path) / "checkpoints").glob(".partial-*")):
                return
            time.sleep(0.001)


def main(kills: int = 20, aimed: int = 5, seed: int = 0, output: Path = Path("kill_and_resume.json")) -> None:
    """Prints and writes where each kill landed, and whether the run ended as the unbroken one did.

    Every kill is of a run of its own, which the same command then finishes. The moments are drawn evenly over the time
    that the unbroken run took, start-up and the writing of the model included.

    Args:
        kills: Kills at random moments.
        aimed: Further kills, each as soon as a checkpoint is seen to be written.
        seed: Chooses the moments.
        output: JSON file.
    """
    rng = np.random.default_rng(seed)
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        prepared, unbroken, killed = prepare(Path(folder)), Path(folder) / "unbroken", Path(folder) / "killed"
        shutil.copytree(prepared, unbroken)
        start = time.perf_counter()
        finish(unbroken)
        duration = time.perf_counter() - start
        expected = outcome(unbroken)
        print(f"unbroken: {duration:.1f} s, {len(expected[1]['epochs'])} epochs, weights {expected[0]}", flush=True)
        for number in range(1, kills + aimed + 1):
            shutil.copytree(prepared, killed)
            start = time.perf_counter()
            if number <= kills:
                kill_after(killed, float(rng.uniform(0, duration)))
            else:
                kill_while_writing(killed, int(rng.integers(5)))
            seconds, killed_at = time.perf_counter() - start, place(killed)
            finish(killed)
            same = outcome(killed) == expected
            results.append({"aimed": number > kills, "seconds": seconds, "place": killed_at, "same": same})
            print(f"{seconds:5.1f} s, {killed_at}: {'same weights and history' if same else 'DIFFERENT'}", flush=True)
            write_json(output, results)
            shutil.rmtree(killed)
    for kind, name in ((False, "at random"), (True, "while a checkpoint was written")):
        ended = [result["same"] for result in results if result["aimed"] == kind]
        print(f"killed {name}: {sum(ended)} of {len(ended)} ended as the unbroken run")


if __name__ == "__main__":
    jsonargparse.auto_cli(main, as_positional=False)
