"""Two workers beside one process: are the weights the same, what if one is killed, does the run go on?

Trains the same prepared run by `c2al train` in one process, in two, and in two of which one is killed with SIGKILL.

Example: python -m c2al_pipelines.benchmarks.two_workers --output two_workers.json
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jsonargparse
import keras
import numpy as np

from c2al_tf.files import read_json, write_json
from c2al_tf.types import Array

from ..run import steps  # noqa: F401  registers what a model's file is made of

COMMAND = Path(sys.executable).with_name("c2al")
CONFIG = Path(__file__).parents[1] / "configs" / "demo.yaml"
BATCH_SIZE = 512
SETTINGS: Mapping[str, Any] = {
    "data.synthetic_ads.validation_rows": 5_000,
    "data.synthetic_ads.test_rows": 1,
    "data.synthetic_ads.click_rate": 0.2,
    "data.synthetic_ads.num_users": 20_000,
    "model.num_blocks": 1,
    "model.attention": "static",
    "model.shared_units": [8],
    "model.head_units": [],
    "training.batch_size": BATCH_SIZE,
    "training.optimizer": "adagrad",
    "training.learning_rate": 0.01,
    "training.table_optimizer": "row_wise_adagrad",
    "training.table_learning_rate": 0.02,
    "training.checkpoint_steps": 20,
    "seeds": 1,
}
"""A small run, of a model with few rectified units.

Of many one soon lies within rounding of zero, where the gradient jumps: then two orders of summation give gradients a
per cent apart, and what follows drifts. That is the model's, not the workers': a single process does so, too, if its
weights are changed by 1e-7."""


def prepare(path: Path, num_steps: int) -> None:
    """Writes a run's rows: enough for so many steps, the last of which is half padding."""
    rows = num_steps * BATCH_SIZE - BATCH_SIZE // 2
    settings = [f"--{name}={value}" for name, value in {**SETTINGS, "data.synthetic_ads.num_rows": rows}.items()]
    subprocess.run([COMMAND, "prepare", CONFIG, f"--run-dir={path}", *settings], check=True, capture_output=True)


def free_ports(number: int) -> list[int]:
    """Ports of this machine that nobody listens on."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("localhost", 0))) for _ in range(number)]
        return [each.getsockname()[1] for each in sockets]


@contextlib.contextmanager
def training(path: Path, num_workers: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    """The command that trains the run, once for each worker; whoever is left on leaving is killed."""
    call = [str(COMMAND), "train", f"--run-dir={path}", "--arm=baseline"]
    cluster = {"worker": [f"localhost:{port}" for port in free_ports(num_workers)]}
    with contextlib.ExitStack() as stack:
        processes = []
        for index in range(num_workers):
            place = json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}})
            log = stack.enter_context(_log(path, index).open("wb"))
            process = subprocess.Popen(call, stdout=log, stderr=log, env={**os.environ, "TF_CONFIG": place})
            processes.append(stack.enter_context(process))
            stack.callback(process.kill)
        yield processes


def finish(path: Path, num_workers: int) -> None:
    """Trains to the end.

    Raises:
        RuntimeError: If a worker fails.
    """
    with training(path, num_workers) as processes:
        statuses = [process.wait() for process in processes]
    if any(statuses):
        raise RuntimeError(f"`c2al train` must end well. Received: {statuses}\n{_log(path, 0).read_text()[-3000:]}")


def kill_one(path: Path, victim: int) -> dict[str, Any]:
    """Trains on two workers, kills one once there are two checkpoints, and returns how the other one ends."""
    with training(path, 2) as processes:
        while len(list(_model_folder(path).glob("checkpoints/[0-9]*.npz"))) < 2:
            if any(process.poll() is not None for process in processes):
                raise RuntimeError(f"A worker ended before one was killed:\n{_log(path, 0).read_text()[-3000:]}")
            time.sleep(0.01)
        processes[victim].send_signal(signal.SIGKILL)
        start = time.perf_counter()
        status = processes[1 - victim].wait(timeout=300)
        seconds = time.perf_counter() - start
    message = _log(path, 1 - victim).read_text().rstrip().splitlines()[-1]
    return {"killed": victim, "seconds": seconds, "status": status, "message": message}


def _log(path: Path, index: int) -> Path:
    return path / f"worker_{index}.log"


def weights(path: Path) -> list[Array]:
    """The weights of the trained model."""
    return keras.saving.load_model(_model_folder(path) / "model.keras", compile=False).get_weights()


def loss(path: Path) -> float:
    """The mean loss of the run's steps."""
    return float(read_json(_model_folder(path) / "history.json")["epochs"][-1]["loss"])


def relative_distance(ours: Sequence[Array], expected: Sequence[Array]) -> float:
    """The largest ||a - b|| / ||b|| over the weights."""
    pairs = [(a.astype(np.float64), b.astype(np.float64)) for a, b in zip(ours, expected, strict=True)]
    return max(float(np.linalg.norm(a - b)) / max(float(np.linalg.norm(b)), 1e-30) for a, b in pairs)


def _model_folder(path: Path) -> Path:
    return path / "seeds" / "0" / "baseline"


def main(output: Path = Path("two_workers.json"), num_steps: int = 100) -> None:
    """Prints and writes what was measured.

    Args:
        output: JSON file.
        num_steps: Steps of the run.
    """
    found: dict[str, Any] = {"steps": num_steps}
    with tempfile.TemporaryDirectory() as folder:
        one, two = Path(folder) / "one", Path(folder) / "two"
        prepare(one, num_steps)
        shutil.copytree(one, two)
        killed = [shutil.copytree(one, Path(folder) / f"killed_{victim}") for victim in (0, 1)]
        finish(one, 1)
        finish(two, 2)
        found["relative_distance_of_weights"] = relative_distance(weights(two), weights(one))
        found["relative_distance_of_loss"] = abs(loss(two) / loss(one) - 1)
        print(found, flush=True)
        found["kills"] = []
        for victim, path in enumerate(killed):
            end = kill_one(path, victim)
            finish(path, 2)
            same = all(np.array_equal(a, b) for a, b in zip(weights(path), weights(two), strict=True))
            found["kills"].append(end | {"resumed_to_the_same_weights": same})
            print(found["kills"][-1], flush=True)
    write_json(output, found)


if __name__ == "__main__":
    jsonargparse.auto_cli(main, as_positional=False)
