"""Logs scored by exported models: files that hold the columns that are kept, and a column of logits for each model."""

import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from c2al_serving.requests.casting import cast_columns

from c2al_tf.data.columns.formats import as_paths
from c2al_tf.data.columns.raw import rebatch
from c2al_tf.data.columns.shards import write_parquet
from c2al_tf.feature import Column
from c2al_tf.files import read_json, write_json
from c2al_tf.saved_model import DEFAULT_SIGNATURE, SavedModel
from c2al_tf.types import Columns

from ..prediction.inputs import input_column
from .log import Log
from .pieces import Piece, read_piece, split_files
from .totals import Runner, total

_BATCH, _GROUP = 4096, 65_536


def score_log(
    log: Log,
    models: Mapping[str, Path],
    keep: Sequence[str],
    folder: Path,
    *,
    output: str = "logits",
    runner: Runner | None = None,
) -> int:
    """Writes a Parquet file of each piece of a log, with the models' logits; returns the number of rows.

    Each process loads each model once, by TensorFlow's C++ loader. A file is there as a whole or not at all, and the
    same call goes on where an earlier one was ended.

    Args:
        log: The rows.
        models: Name of a column of logits to the version folder of the model that gives them.
        keep: Columns that are kept, beside label, weight and unit: those that cohorts are cut along.
        folder: Where the files are written. All workers must reach it.
        output: The models' output.
        runner: What runs it.

    Raises:
        ValueError: If a file lacks a column, a model has no such output, or `folder` has files of something else.
    """
    columns = log.columns(keep)
    if both := [name for name in models if name in columns]:
        raise ValueError(f"A column of logits needs a name that no column has. Received: {', '.join(both)}")
    for name, directory in models.items():
        _check_output(name, _load(directory), output)
    _begin(folder, log, models, [*columns], output)
    score = functools.partial(_score, columns=columns, models=dict(models), folder=folder, output=output)
    return total(split_files(log.files), score, runner or Runner(), "scoring")


def _check_output(name: str, model: SavedModel, output: str) -> None:
    outputs = model.signatures[DEFAULT_SIGNATURE].outputs
    if output not in outputs:
        raise ValueError(f"Model {name}: {model.directory}: no output `{output}`. It has: {', '.join(outputs)}")


def _begin(folder: Path, log: Log, models: Mapping[str, Path], columns: Sequence[str], output: str) -> None:
    """Records what the files are made from, or compares it with what is recorded."""
    files = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in as_paths(log.files)]
    job = {
        "files": [list(each) for each in files],
        "models": {name: str(directory.resolve()) for name, directory in models.items()},
        "columns": list(columns),
        "output": output,
    }
    record = folder / "_job.json"
    if not record.exists():
        if folder.exists() and any(folder.iterdir()):
            raise ValueError(f"{folder} must be empty, or what an earlier call with the same arguments has written")
        write_json(record, job)
    elif (written := read_json(record)) != job:
        changed = ", ".join(name for name in job if written.get(name) != job[name])
        raise ValueError(f"{folder} holds rows scored from something else: other {changed}. Give another folder")


@functools.lru_cache(8)
def _load(directory: Path) -> SavedModel:
    return SavedModel(directory, num_threads=1)


def _score(piece: Piece, columns: dict[str, Column], models: dict[str, Path], folder: Path, output: str) -> int:
    path = folder / f"part-{piece.first_row:012d}.parquet"
    if not path.exists():
        written = {**columns, **{name: Column(name, "float32") for name in models}}
        write_parquet(path, rebatch(_scored(piece, columns, models, output), _GROUP), written)
    return piece.num_rows


def _scored(piece: Piece, columns: dict[str, Column], models: dict[str, Path], output: str) -> Iterator[Columns]:
    inputs = {name: _load(directory).signatures[DEFAULT_SIGNATURE].inputs for name, directory in models.items()}
    read = dict(columns)
    for of_model in inputs.values():
        read |= {name: input_column(name, spec) for name, spec in of_model.items()}
    for _, batch in read_piece(piece, read, _BATCH):
        scored = {name: batch[name] for name in columns}
        for name, directory in models.items():
            arrays = cast_columns({each: batch[each] for each in inputs[name]}, inputs[name])
            logits = _load(directory).run(arrays, outputs=[output])[output]
            scored[name] = np.reshape(logits, len(logits)).astype(np.float32)
        yield scored
