"""What a run's models predict: logits by the path of training, files to batches to the model."""

from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np

from c2al_tf.data.columns.readers import count_rows
from c2al_tf.data.columns.shards import split_files
from c2al_tf.data.inputs.dataset import make_dataset
from c2al_tf.model import strip_auxiliary_heads
from c2al_tf.training import predict
from c2al_tf.types import Array

from .folder import Arm, RunFolder, save_array

_BATCH = 8192


def split_logits(run: RunFolder, seed: int, arm: Arm, split: str) -> Array:
    """A model's primary logits on a split (rows,), computed once."""
    path = run.model_folder(seed, arm) / f"{split}_logits.npy"
    if not path.exists():
        shards = split_files(run.path, split)
        save_array(path, file_logits(run, seed, arm, shards, count_rows(shards), f"{split} rows"))
    return np.asarray(np.load(path))


def file_logits(run: RunFolder, seed: int, arm: Arm, files: Sequence[Path], num_rows: int, rows: str) -> Array:
    """A model's primary logits on the first rows of files (num_rows,).

    Args:
        run: The run.
        seed: The model's seed.
        arm: The model's arm.
        files: Files of any format, with the schema's columns.
        num_rows: Number of rows.
        rows: What the progress bar calls them.
    """
    return predict(
        _load_primary(run.model_file(seed, arm)),
        make_dataset(files, run.schema, _BATCH).take(-(-num_rows // _BATCH)),
        num_rows,
        jit_compile=run.jit_compile is True,
        description=f"seed {seed}, {arm}: {rows}",
    )


_LAST: list[keras.Model] = []
"""The model that predicted last: models of one architecture share its compiled program."""


def forget_program() -> None:
    """Frees the memory of the model that predicted last."""
    _LAST.clear()


def _load_primary(file: Path) -> keras.Model:
    """A trained model without auxiliary heads, valid until the next one is loaded.

    Both arms and all seeds of a run have one architecture for serving. Only the first of them compiles a program; the
    others put their weights into it.
    """
    model = strip_auxiliary_heads(keras.saving.load_model(file, compile=False))
    if not _LAST or _LAST[0].get_config() != model.get_config():
        _LAST[:] = [model]
    else:
        for variable, value in zip(_LAST[0].variables, model.variables, strict=True):
            variable.assign(value)
    return _LAST[0]
