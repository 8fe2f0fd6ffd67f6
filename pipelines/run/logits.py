"""What a run's models predict: logits by the path of training, files to batches to the model."""

import functools
from collections.abc import Iterable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from c2al_tf.data.columns.formats import Paths
from c2al_tf.data.columns.readers import count_rows
from c2al_tf.data.columns.shards import split_files
from c2al_tf.data.inputs.dataset import make_dataset
from c2al_tf.data.inputs.encoded import EncodedRows
from c2al_tf.data.inputs.packing import primary_tasks
from c2al_tf.model import strip_auxiliary_heads
from c2al_tf.training import predict
from c2al_tf.types import Array

from .folder import RunFolder, save_array
from .rows import open_rows

_BATCH = 8192


def split_logits(run: RunFolder, seed: int, arm: str, split: str, task: str | None = None) -> Array:
    """A model's logits of a primary task, the first by default, on a split (rows,), computed once."""
    path = _logits_file(run, seed, arm, split, task)
    if not path.exists():
        num_rows = count_rows(split_files(run.path, split))
        save_array(path, file_logits(run, seed, arm, open_rows(run, split), num_rows, f"{split} rows", task))
    return np.asarray(np.load(path, mmap_mode="r"))


def _logits_file(run: RunFolder, seed: int, arm: str, split: str, task: str | None) -> Path:
    first = task is None or task == next(iter(primary_tasks(run.schema)))
    return run.model_folder(seed, arm) / (f"{split}_logits.npy" if first else f"{split}_{task}_logits.npy")


def save_logits(run: RunFolder, seed: int, arm: str, primary: keras.Model, splits: Iterable[str]) -> None:
    """Writes the logits of a model without auxiliary heads that is at hand, on the rows of some splits.

    Of further labels those on the test rows: on the validation rows only the exported model's are needed.
    """
    first, *more = primary_tasks(run.schema)
    for split in splits:
        num_rows = count_rows(split_files(run.path, split))
        for task in (first, *(more if split == "test" else ())):
            description = f"seed {seed}, {arm}: {split} rows"
            logits = _predict(run, primary, open_rows(run, split), num_rows, description, task)
            save_array(_logits_file(run, seed, arm, split, task), logits)


def file_logits(
    run: RunFolder,
    seed: int,
    arm: str,
    rows: Paths | EncodedRows,
    num_rows: int,
    description: str,
    task: str | None = None,
) -> Array:
    """A model's logits of a primary task on the first of some rows (num_rows,).

    Args:
        run: The run.
        seed: The model's seed.
        arm: The model's arm.
        rows: Files of any format, with the schema's columns, or encoded rows.
        num_rows: Number of rows.
        description: What the progress bar calls them.
        task: The task; None: the first.
    """
    model = _load_primary(run.model_file(seed, arm))
    return _predict(run, model, rows, num_rows, f"seed {seed}, {arm}: {description}", task)


def _predict(
    run: RunFolder, model: keras.Model, rows: Paths | EncodedRows, num_rows: int, description: str, task: str | None
) -> Array:
    batches, task = first_batches(run, rows, num_rows), task or next(iter(primary_tasks(run.schema)))
    return predict(model, batches, num_rows, task=task, jit_compile=run.jit_compile is True, description=description)


def first_batches(run: RunFolder, rows: Paths | EncodedRows, num_rows: int) -> tf.data.Dataset:
    """Batches that hold the first `num_rows` of some rows, to be scored."""
    batches = _batches(rows) if isinstance(rows, EncodedRows) else make_dataset(rows, run.schema, _BATCH)
    return batches.take(-(-num_rows // _BATCH))


@functools.lru_cache(maxsize=2)
def _batches(rows: EncodedRows) -> tf.data.Dataset:
    """Batches of rows to be scored; opened once for all models: to trace a dataset takes 0.1 to 0.2 s."""
    return make_dataset(rows, rows.schema, _BATCH)


_LAST: dict[str, keras.Model] = {}
"""By use the model that predicted last: models of one architecture share its compiled program."""


def load_trained(run: RunFolder, seed: int, arm: str) -> keras.Model:
    """A trained model with all its heads. The last two stay loaded, for export and report: reading one takes 0.7 s."""
    file = run.model_file(seed, arm)
    return _load(file, file.stat().st_mtime_ns)


@functools.lru_cache(maxsize=2)
def _load(file: Path, version: int) -> keras.Model:
    # `version` is part of the cache key alone.
    return keras.saving.load_model(file, compile=False)


def forget_program() -> None:
    """Frees the memory of the models that predicted or were loaded last, and of what was predicted on."""
    _LAST.clear()
    _load.cache_clear()
    _batches.cache_clear()


def _load_primary(file: Path) -> keras.Model:
    """A trained model without auxiliary heads, valid until the next one is loaded."""
    return in_shared("primary", strip_auxiliary_heads(keras.saving.load_model(file, compile=False)))


def in_shared(use: str, model: keras.Model) -> keras.Model:
    """The model, or the last one of this use and architecture with its weights: valid until the next.

    Models of a run mostly have one architecture without their heads. Only the first of them compiles a program; the
    others put their weights into it.
    """
    last = _LAST.get(use)
    if last is None or last.get_config() != model.get_config():
        _LAST[use] = last = model
    else:
        for variable, value in zip(last.variables, model.variables, strict=True):
            variable.assign(value)
    return last
