"""Is a flipped byte in the newest checkpoint found, named and passed over? Tries many, each alone.

Example: python -m c2al_pipelines.benchmarks.damaged_checkpoint --flips 500 --runs 3 --output damaged_checkpoint.json
"""

import shutil
import tempfile
import warnings
from pathlib import Path
from typing import Any

import jsonargparse
import keras
import numpy as np

from c2al_tf.data.inputs.dataset import primary_tasks
from c2al_tf.files import write_json
from c2al_tf.model import build_model
from c2al_tf.training import make_optimizer
from c2al_tf.training.checkpoint import Checkpoints

from ..run.config import load_config
from ..run.folder import RunFolder
from .kill_and_resume import checkpoints, finish, kill_while_writing, outcome, place, prepare


def flip(file: Path, rng: np.random.Generator) -> int:
    """Changes one byte of a file at random to another, and returns its position."""
    content = bytearray(file.read_bytes())
    position = int(rng.integers(len(content)))
    content[position] ^= int(rng.integers(1, 256))
    file.write_bytes(content)
    return position


def build(path: Path) -> keras.Model:
    """A new model of the run, as training starts with."""
    run = RunFolder(path, load_config(path / "config.json"))
    model = build_model(run.schema, run.config.model, primary=list(primary_tasks(run.schema)))
    model.compile(optimizer=make_optimizer(run.config.training, 1))
    return model


def restore(path: Path, model: keras.Model) -> tuple[dict[str, Any], list[str]]:
    """Restores a model; returns the position and the warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        position = Checkpoints(model, checkpoints(path)[0].parent).restore()
    return position, [str(warning.message) for warning in caught]


def passed_over(path: Path, rng: np.random.Generator, flips: int) -> list[int]:
    """Flips one byte of the newest checkpoint at a time; returns the positions that went wrong."""
    newest = checkpoints(path)[-1]
    aside = newest.rename(newest.with_name("aside"))
    expected, _ = restore(path, model := build(path))  # the one before it, since the newest is not there
    values = [variable.numpy() for variable in model.variables]
    wrong = []
    for _ in range(flips):
        shutil.copy(aside, newest)
        position = flip(newest, rng)
        found, messages = restore(path, model)
        named = len(messages) == 1 and f"{newest}: the checkpoint is damaged" in messages[0]
        same = all(np.array_equal(v.numpy(), value) for v, value in zip(model.variables, values, strict=True))
        if not (found == expected and named and same):
            wrong.append(position)
    aside.rename(newest)
    return wrong


def main(flips: int = 500, runs: int = 3, seed: int = 0, output: Path = Path("damaged_checkpoint.json")) -> None:
    """Kills a run, flips bytes in its newest checkpoint, and prints and writes what came of each.

    Args:
        flips: Bytes that are flipped before a model is restored by the library.
        runs: Bytes that are flipped before the run is finished by the command.
        seed: Chooses the bytes.
        output: JSON file.
    """
    rng = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as folder:
        prepared, unbroken, killed = prepare(Path(folder)), Path(folder) / "unbroken", Path(folder) / "killed"
        shutil.copytree(prepared, unbroken)
        finish(unbroken)
        expected = outcome(unbroken)
        kill_while_writing(prepared, 3)
        print(f"killed {place(prepared)}; {checkpoints(prepared)[-1].stat().st_size:,} bytes", flush=True)
        wrong = passed_over(prepared, rng, flips)
        print(f"restored from the one before, with a message: {flips - len(wrong)} of {flips}", flush=True)
        ended: list[dict[str, Any]] = []
        for _ in range(runs):
            shutil.copytree(prepared, killed)
            newest = checkpoints(killed)[-1]
            position = flip(newest, rng)
            message = next((line for line in finish(killed).splitlines() if "is damaged" in line), "")
            ended.append({"position": position, "message": message, "same": outcome(killed) == expected})
            print(f"byte {position:,}: {ended[-1]}", flush=True)
            shutil.rmtree(killed)
    print(
        f"ended as the unbroken run, with a message: {sum(e['same'] and bool(e['message']) for e in ended)} of {runs}"
    )
    write_json(output, {"flips": flips, "wrong": wrong, "runs": ended})


if __name__ == "__main__":
    jsonargparse.auto_cli(main, as_positional=False)
