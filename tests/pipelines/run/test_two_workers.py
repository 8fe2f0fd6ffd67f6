"""Two workers by the command: equal to one process, ended together, resumed together."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest
from c2al_pipelines.run import steps  # noqa: F401  registers what a model's file is made of

from c2al_tf.files import read_json

pytestmark = pytest.mark.slow

COMMAND = Path(sys.executable).with_name("c2al")
DEMO = Path(__file__).parents[3] / "pipelines" / "configs" / "demo.yaml"
BATCH_SIZE, STEPS = 512, 60

# A model with few rectified units. With many, one soon lies within rounding of zero, where the gradient jumps: two
# orders of summation then give gradients that differ by a per cent. A single process whose weights are changed by 1e-7
# drifts in the same way.
SETTINGS = {
    "data.synthetic_ads.num_rows": STEPS * BATCH_SIZE - BATCH_SIZE // 2,  # the last batch is half padding
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


def free_ports(number: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("localhost", 0))) for _ in range(number)]
        return [each.getsockname()[1] for each in sockets]


@contextlib.contextmanager
def training(path: Path, num_workers: int):
    """The command that trains the run, once for each worker; those that still run at the end are killed."""
    call = [str(COMMAND), "train", f"--run-dir={path}", "--arm=baseline"]
    cluster = {"worker": [f"localhost:{port}" for port in free_ports(num_workers)]}
    with contextlib.ExitStack() as stack:
        processes = []
        for index in range(num_workers):
            place = json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}})
            log = stack.enter_context(log_file(path, index).open("wb"))
            process = subprocess.Popen(call, stdout=log, stderr=log, env={**os.environ, "TF_CONFIG": place})
            processes.append(stack.enter_context(process))
            stack.callback(process.kill)
        yield processes


def finish(path: Path, num_workers: int) -> None:
    with training(path, num_workers) as processes:
        statuses = [process.wait() for process in processes]
    assert statuses == [0] * num_workers, log_file(path, 0).read_text()[-3000:]


def log_file(path: Path, index: int) -> Path:
    return path / f"worker_{index}.log"


def model_folder(path: Path) -> Path:
    return path / "seeds" / "0" / "baseline"


def weights(path: Path) -> list[np.ndarray]:
    return keras.saving.load_model(model_folder(path) / "model.keras", compile=False).get_weights()


def loss(path: Path) -> float:
    return read_json(model_folder(path) / "history.json")["epochs"][-1]["loss"]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    path = tmp_path_factory.mktemp("workers") / "run"
    settings = [f"--{name}={value}" for name, value in SETTINGS.items()]
    subprocess.run([COMMAND, "prepare", DEMO, f"--run-dir={path}", *settings], check=True, capture_output=True)
    return path


@pytest.fixture(scope="module")
def unbroken(prepared):
    path = shutil.copytree(prepared, prepared.with_name("unbroken"))
    finish(path, 2)
    return path


def test_as_one_process(prepared, unbroken) -> None:
    path = shutil.copytree(prepared, prepared.with_name("alone"))
    finish(path, 1)
    for ours, expected in zip(weights(unbroken), weights(path), strict=True):
        a, b = ours.astype(np.float64), expected.astype(np.float64)
        assert np.linalg.norm(a - b) < 1e-5 * max(np.linalg.norm(b), 1e-30)
    assert loss(unbroken) == pytest.approx(loss(path), rel=1e-5)


@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_worker_ends_the_other_and_both_resume(prepared, unbroken, victim) -> None:
    path = shutil.copytree(prepared, prepared.with_name(f"killed_{victim}"))
    with training(path, 2) as processes:
        while len(list(model_folder(path).glob("checkpoints/[0-9]*.npz"))) < 2:
            assert [process.poll() for process in processes] == [None, None], log_file(path, 0).read_text()[-3000:]
            time.sleep(0.01)
        processes[victim].send_signal(signal.SIGKILL)
        assert processes[1 - victim].wait(timeout=60) == 1
    message = log_file(path, 1 - victim).read_text().rstrip().splitlines()[-1]
    assert message.startswith("c2al: Another worker is gone, so this one ends, too")
    assert message.endswith("The same command, on all workers, goes on from the last checkpoint")
    finish(path, 2)
    for ours, expected in zip(weights(path), weights(unbroken), strict=True):
        np.testing.assert_array_equal(ours, expected)
    assert not list(path.rglob("checkpoints"))
