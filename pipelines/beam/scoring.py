"""Logs scored by exported models: files that hold the columns that are kept, and a column of logits for each model."""

import functools
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from c2al_serving.requests.casting import cast_columns

from c2al_tf.data.columns.formats import as_paths
from c2al_tf.data.columns.raw import rebatch
from c2al_tf.data.columns.shards import GROUP_ROWS, write_parquet
from c2al_tf.feature import Column
from c2al_tf.files import read_json, replace_file, write_json
from c2al_tf.saved_model import DEFAULT_SIGNATURE, SavedModel
from c2al_tf.storage import drop_copy, is_kept, is_there, local_path, shown, stat_of
from c2al_tf.types import Columns

from ..prediction.inputs import input_column
from .log import Log
from .pieces import JOB, SUCCESS, Piece, list_pieces, read_piece
from .totals import Runner, total

_BATCH = 4096


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
    models = {name: local_path(directory).absolute() for name, directory in models.items()}
    folder = local_path(folder).absolute()
    try:
        read = _columns_to_read(columns, {name: _load(shown(directory)) for name, directory in models.items()}, output)
        _begin(folder, log, models, columns, output)
        places = {name: shown(directory) for name, directory in models.items()}
        score = functools.partial(
            _score, columns=columns, read=read, models=places, folder=shown(folder), output=output
        )
        rows = total(list_pieces(log.files), score, runner or Runner(), "scoring")
    finally:
        _close_all()
    with replace_file(folder / SUCCESS):
        pass
    return rows


def _columns_to_read(columns: Mapping[str, Column], models: Mapping[str, SavedModel], output: str) -> dict[str, Column]:
    """The columns that are kept, and those that models read; each has one type."""
    read = dict(columns)
    for name, model in models.items():
        signature = model.signatures[DEFAULT_SIGNATURE]
        if output not in signature.outputs:
            raise ValueError(
                f"Model {name}: {model.directory}: no output `{output}`. It has: {', '.join(signature.outputs)}"
            )
        for key, spec in signature.inputs.items():
            column = input_column(key, spec)
            if read.setdefault(key, column) != column:
                raise ValueError(
                    f"Column `{key}` must be read as one type: `dtypes` may say which, if it is kept. Received: "
                    f"{column.dtype}, length {column.length} for model {name}; elsewhere {read[key].dtype}, length "
                    f"{read[key].length}"
                )
    return read


def _begin(folder: Path, log: Log, models: Mapping[str, Path], columns: Mapping[str, Column], output: str) -> None:
    """Records what the files are made from, or compares it with what is recorded."""
    job = {
        "files": _state(as_paths(log.files)),
        "models": {
            name: [shown(directory), *_state([directory / "saved_model.pb", *sorted(directory.glob("variables/*"))])]
            for name, directory in models.items()
        },
        "columns": {name: column.dtype for name, column in columns.items()},
        "output": output,
    }
    record = folder / JOB
    if not is_there(record):
        if is_there(folder) and (is_kept(folder) or any(folder.iterdir())):
            raise ValueError(f"{folder} must be empty, or what an earlier call with the same arguments has written")
        write_json(record, job)
    elif (written := read_json(shown(record))) != job:
        changed = ", ".join(name for name in job if written.get(name) != job[name])
        raise ValueError(f"{folder} holds rows scored from something else: other {changed}. Give another folder")


def _state(files: Sequence[Path]) -> list[list[str | int]]:
    return [[shown(path.resolve()), *stat_of(path)] for path in files]


_models: dict[str, SavedModel] = {}
_loading = threading.Lock()


def _load(directory: str) -> SavedModel:
    """The model of a version folder, which a process loads once."""
    with _loading:
        if directory not in _models:
            _models[directory] = SavedModel(directory, num_threads=1)
        return _models[directory]


def _close_all() -> None:
    """Closes this process's models: until then XLA is off in it, and another model may come to have the path of one."""
    with _loading:
        while _models:
            _models.popitem()[1].close()


def _score(
    piece: Piece,
    columns: dict[str, Column],
    read: dict[str, Column],
    models: dict[str, str],
    folder: str,
    output: str,
) -> int:
    path = local_path(folder) / f"part-{piece.first_row:012d}.parquet"
    if not is_there(path):
        loaded = {name: _load(directory) for name, directory in models.items()}
        written = {**columns, **{name: Column(name, "float32") for name in models}}
        batches = (_scored(batch, columns, loaded, output) for _, batch in read_piece(piece, read, _BATCH))
        write_parquet(path, rebatch(batches, GROUP_ROWS), written)
        drop_copy(path)  # all rows have no room here
    return piece.num_rows


def _scored(batch: Columns, columns: Iterable[str], models: Mapping[str, SavedModel], output: str) -> Columns:
    scored = {name: batch[name] for name in columns}
    for name, model in models.items():
        inputs = model.signatures[DEFAULT_SIGNATURE].inputs
        logits = model.run(cast_columns({each: batch[each] for each in inputs}, inputs), outputs=[output])[output]
        scored[name] = np.reshape(logits, len(logits)).astype(np.float32)
    return scored
