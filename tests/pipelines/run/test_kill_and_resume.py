"""`c2al train` is killed, then called again: it ends with the weights and the history of a run that was not killed."""

import contextlib
import shutil
import subprocess
import time

import keras
import numpy as np
import pytest
from c2al_pipelines.run import steps  # noqa: F401  registers what a model's file is made of

from c2al_tf.files import read_json

pytestmark = pytest.mark.slow

# What must survive a kill: dropout, two optimizers, the best epoch, frequent checkpoints.
SETTINGS = {
    "training__epochs": 8,
    "training__patience": 1,
    "training__learning_rate": 7e-4,
    "training__table_optimizer": "row_wise_adagrad",
    "training__table_learning_rate": 0.2,
    "training__checkpoint_steps": 20,
    "model__dropout": 0.2,
    "seeds": 1,
}

TIMES = ("seconds", "timed_steps", "scoring_seconds", "model_seconds")


def words(path):
    return ("train", f"--run-dir={path}", "--arm=baseline")


def model_folder(path):
    return path / "seeds" / "0" / "baseline"


def checkpoints(path):
    return sorted((model_folder(path) / "checkpoints").glob("[0-9]*.npz"))


def outcome(path):
    """The bytes of the weights, of the optimizer's variables and of the diagnostics; the history without the times."""
    model = keras.saving.load_model(model_folder(path) / "model.keras")
    history = read_json(model_folder(path) / "history.json")
    written = [variable.numpy().tobytes() for variable in (*model.weights, *model.optimizer.variables)]
    written.append((model_folder(path) / "diagnostics.jsonl").read_bytes())
    return written, {name: value for name, value in history.items() if name not in TIMES}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, script, small_words):
    path = tmp_path_factory.mktemp("kills") / "prepared"
    assert script("prepare", *small_words(path, **SETTINGS)).status == 0
    return path


@pytest.fixture(scope="module")
def unbroken(prepared, script):
    """How long the run takes, start-up and the writing of the model included, and its outcome."""
    path = shutil.copytree(prepared, prepared.with_name("unbroken"))
    start = time.monotonic()
    assert script(*words(path)).status == 0
    return time.monotonic() - start, outcome(path)


def kill_while_writing(starting, path, number) -> None:
    """Kills the command when it writes a checkpoint, once there are `number` of them."""
    with starting as process:
        while process.poll() is None:
            if len(checkpoints(path)) >= number and any((model_folder(path) / "checkpoints").glob(".partial-*")):
                process.kill()
                return
            time.sleep(0.001)


@pytest.mark.parametrize("number", range(20))
def test_at_a_random_moment(number, prepared, unbroken, script, start_script, tmp_path) -> None:
    seconds, expected = unbroken
    path = shutil.copytree(prepared, tmp_path / "killed")
    with start_script(*words(path)) as process:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=np.random.default_rng(number).uniform(0, seconds))
        process.kill()
    assert script(*words(path)).status == 0
    assert outcome(path) == expected


@pytest.mark.parametrize("number", range(5))
def test_while_a_checkpoint_is_written(number, prepared, unbroken, script, start_script, tmp_path) -> None:
    path = shutil.copytree(prepared, tmp_path / "killed")
    kill_while_writing(start_script(*words(path)), path, number)
    assert script(*words(path)).status == 0
    assert outcome(path) == unbroken[1]


def test_and_the_newest_checkpoint_is_damaged(prepared, unbroken, script, start_script, tmp_path) -> None:
    path = shutil.copytree(prepared, tmp_path / "killed")
    kill_while_writing(start_script(*words(path)), path, 3)
    newest = checkpoints(path)[-1]
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    resumed = script(*words(path))
    assert resumed.status == 0
    assert f"{newest}: the checkpoint is damaged" in resumed.error
    assert outcome(path) == unbroken[1]
