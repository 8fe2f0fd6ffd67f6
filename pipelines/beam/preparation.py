"""Files of any number of rows as a run's Parquet files and schema: what `prepare` makes, here or by Apache Beam."""

import functools
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path

from c2al_tf.data.columns.formats import as_paths, under
from c2al_tf.data.columns.raw import num_rows, rebatch
from c2al_tf.data.columns.shards import GROUP_ROWS, write_parquet
from c2al_tf.data.preparation.learned_schema import SchemaLearner
from c2al_tf.data.preparation.negatives import (
    WEIGHT,
    check_rate,
    check_share,
    sample_negatives,
    weighted_rows,
    with_weight,
)
from c2al_tf.data.preparation.prepare import with_axes_of
from c2al_tf.data.preparation.source import Source
from c2al_tf.feature import Column
from c2al_tf.files import read_json, remove, replace_file, write_json
from c2al_tf.schema import Schema
from c2al_tf.storage import UPLOADING, drop_copy, is_there, local_path, pull, shown, stat_of
from c2al_tf.types import Columns

from ..datasets.files import Files, checked_rows, in_validation, part_of
from .pieces import BATCH_ROWS, JOB, SUCCESS, Piece, list_pieces, read_piece
from .totals import Runner, total


@dataclass(frozen=True)
class _Part:
    """A piece's rows that a split has."""

    split: str
    piece: Piece
    first_row: int  # number of the first of them in the split
    num_rows: int


@dataclass(frozen=True)
class _Job:
    """What the workers write, and where."""

    source: Source
    files: Files
    folder: str
    negative_sampling: float | None


def prepare_files(
    source: Source,
    directory: Path,
    *,
    data: Path | None,
    files: Files,
    negative_sampling: float | None = None,
    schema: Schema | None = None,
    runner: Runner | None = None,
) -> Schema:
    """What `prepare` does, of files of any number of rows: one pass writes them, another learns from what was written.

    Rows, their order, weights and splits are those that `prepare` writes; only the files are cut elsewhere. So is the
    schema, but for the last bits of means, and for boundaries of columns with more distinct values than are counted
    one by one. The same call goes on where an earlier one was ended; until all rows are written there is no
    `schema.json`. Each worker holds a batch, and what it has learnt: of a vocabulary all values.

    Args:
        source: What the columns mean, as `files.open_source` says.
        directory: The folder. All workers must reach it.
        data: The folder that the files' patterns are relative to.
        files: What is where.
        negative_sampling: See `prepare`.
        schema: See `prepare`.
        runner: What runs it.

    Raises:
        ValueError: As `prepare`.
    """
    check_share(negative_sampling)
    runner, directory = runner or Runner(), local_path(directory).absolute()
    source = replace(source if negative_sampling is None else with_weight(source), splits={})
    draft = SchemaLearner(source, {}).draft
    schema = None if schema is None else with_axes_of(schema, draft)
    folder = directory / "data"
    job = _Job(source, files, shown(folder), negative_sampling)
    parts = _list_parts(data or Path(), files)
    _begin(directory, job, parts)
    total(parts, partial(_write, job=job, columns=draft.columns), runner, "writing rows")
    with replace_file(folder / SUCCESS):
        pass
    kept = [path for path in as_paths(shown(folder)) if path.name.startswith("train-")]
    pieces = list_pieces(kept) if kept else []  # none, where none of the negatives is drawn and there is no positive
    if negative_sampling is not None:
        count = partial(_count_positives, label={source.label: draft.columns[source.label]})
        positives = total(pieces, count, runner, "counting positives") if pieces else 0
        check_rate(positives, sum(part.num_rows for part in parts if part.split == "train"))
    if schema is None:
        learn = partial(_learn, source=source, columns=draft.columns)
        schema = total(pieces, learn, runner, "learning the schema").schema()
    schema.save(directory / "schema.json")
    pull(folder)
    return schema


def _list_parts(folder: Path, files: Files) -> list[_Part]:
    """The parts of all splits; a split's begin at its row 0.

    Raises:
        ValueError: If a split has no rows.
    """
    patterns = {"train": files.train, "validation": files.validation or files.train, "test": files.test}
    pieces = {
        pattern: list_pieces(as_paths(under(folder, pattern)), csv_format=files.csv, file_format=files.format)
        for pattern in set(patterns.values())
    }
    parts = []
    for split, pattern in patterns.items():
        first_row = 0
        for piece in pieces[pattern]:
            rows = piece.num_rows
            if files.validation is None and split != "test":
                aside = _rows_aside(piece, files.validation_share)
                rows = aside if split == "validation" else rows - aside
            if rows:
                parts.append(_Part(split, piece, first_row, rows))
            first_row += rows
        if not first_row:
            raise ValueError(f"The split {split!r} has no rows; each needs at least one")
    return parts


@functools.cache
def _rows_aside(piece: Piece, share: float) -> int:
    bounds = [*range(piece.first_row, piece.first_row + piece.num_rows, BATCH_ROWS), piece.first_row + piece.num_rows]
    return sum(int(in_validation(start, stop - start, share).sum()) for start, stop in itertools.pairwise(bounds))


def _begin(directory: Path, job: _Job, parts: list[_Part]) -> None:
    """Records what is written; what an earlier call has written from something else is removed."""
    folder, paths = directory / "data", sorted({part.piece.path for part in parts})
    record = {"job": repr(job), "files": [[shown(path), *stat_of(path)] for path in paths]}
    goes_on = is_there(folder / JOB) and read_json(shown(folder / JOB)) == record
    if not goes_on or is_there(folder / UPLOADING):
        remove(directory / "schema.json")
        remove(folder)
        write_json(folder / JOB, record)


def _write(part: _Part, job: _Job, columns: dict[str, Column]) -> int:
    path = local_path(job.folder) / f"{part.split}-{part.piece.first_row:012d}.parquet"
    if not is_there(path):
        rows = rebatch(_rows(part, job), GROUP_ROWS)
        if (first := next(rows, None)) is not None:
            write_parquet(path, chain([first], rows), columns)
            drop_copy(path)  # all rows may have no room here
    return part.num_rows


def _rows(part: _Part, job: _Job) -> Iterator[Columns]:
    """The rows of a part, as `prepare` writes them."""
    piece, files, first_row = part.piece, job.files, part.first_row
    weigh = job.source.weight == WEIGHT and files.weight is None
    batches = (
        weighted_rows(batch) if weigh else batch
        for _, batch in read_piece(piece, files.columns, GROUP_ROWS, files.csv, files.format)
    )
    checked = checked_rows(piece.path, batches, files, SchemaLearner(job.source, {}), piece.start)
    if files.validation is None and part.split != "test":
        checked = part_of(checked, files.validation_share, part.split == "validation", piece.first_row)
    if part.split != "train" or job.negative_sampling is None:
        yield from checked
        return
    for rows in checked:
        weight = job.source.weight or WEIGHT
        yield sample_negatives(rows, job.source.label, weight, job.negative_sampling, first_row)
        first_row += num_rows(rows)


def _learn(piece: Piece, source: Source, columns: dict[str, Column]) -> SchemaLearner:
    learner = SchemaLearner(source, {})
    for _, rows in read_piece(piece, columns):
        learner.learn(rows)
    return learner


def _count_positives(piece: Piece, label: dict[str, Column]) -> int:
    (name,) = label
    return sum(int(rows[name].sum()) for _, rows in read_piece(piece, label))
