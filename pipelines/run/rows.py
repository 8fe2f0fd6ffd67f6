"""The prepared rows of a run: raw columns, encoded rows for training, and counts of both."""

import functools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from c2al_tf.cohorts import CohortSizes, Cut, count_sizes
from c2al_tf.data.columns.raw import concatenate, num_rows
from c2al_tf.data.columns.readers import count_rows, read_columns
from c2al_tf.data.columns.shards import split_files
from c2al_tf.data.inputs.encoded import EncodedRows, encode_rows, find_rows
from c2al_tf.data.inputs.labels import LabelDesign
from c2al_tf.data.inputs.packing import Layout
from c2al_tf.data.inputs.priors import TaskCounts, count_tasks
from c2al_tf.data.preparation.source import SPLITS
from c2al_tf.schema import Schema
from c2al_tf.types import Columns

from .folder import RunFolder

MOST_ENCODED = 2**34
"""Bytes of a split above which its rows are not kept encoded: each pass then reads and encodes the files."""

EXPORT_SAMPLE = 4096
"""Validation rows with which an export is proved."""


def encode_run(run: RunFolder) -> None:
    """Encodes the rows of all splits once, for all models and epochs."""
    width = Layout.of(run.schema).width
    for split in SPLITS:
        files = split_files(run.path, split)
        if 4 * width * count_rows(files) <= MOST_ENCODED:
            encode_rows(files, run.schema, _encoded(run.path, split))


def open_rows(run: RunFolder, split: str) -> EncodedRows | list[Path]:
    """The rows of a split for `make_dataset`: encoded if `encode_run` did so with these files, else the files."""
    encoded = _open(run.path, split, _version(run.path, split))
    return split_files(run.path, split) if encoded is None else encoded


def _encoded(folder: Path, split: str) -> Path:
    return folder / "encoded" / split


def _version(folder: Path, split: str) -> Any:
    """Changes with the prepared rows of a folder."""
    files = (folder / "schema.json", _encoded(folder, split), *split_files(folder, split))
    return tuple((path, path.stat().st_mtime_ns) for path in files if path.exists())


@functools.lru_cache(maxsize=3)
def _open(folder: Path, split: str, version: Any) -> EncodedRows | None:
    # Kept with the memberships that it has read. `version` is part of the cache key alone.
    schema = Schema.load(folder / "schema.json")
    return find_rows(split_files(folder, split), schema, _encoded(folder, split))


def count_split(
    run: RunFolder, split: str, cohorts: tuple[Any, ...] = (), design: LabelDesign = "conflict"
) -> TaskCounts:
    """Rows and positives of each task on a split, counted once for all seeds."""
    return _count(run.path, split, _version(run.path, split), cohorts, design)


@functools.lru_cache(maxsize=64)
def _count(folder: Path, split: str, version: Any, cohorts: tuple[Any, ...], design: LabelDesign) -> TaskCounts:
    return count_tasks(split_files(folder, split), Schema.load(folder / "schema.json"), cohorts, design)


def read_split(run: RunFolder, split: str, names: Iterable[str], most: int | None = None) -> Columns:
    """The named columns of a split: of all rows, or of at most the first `most`."""
    columns = {name: run.schema.columns[name] for name in sorted(names)}
    parts: list[Columns] = []
    for batch in read_columns(split_files(run.path, split), columns):
        parts.append(batch)
        if most is not None and sum(map(num_rows, parts)) >= most:
            break
    return {name: values[:most] for name, values in concatenate(parts).items()}


def sample_rows(run: RunFolder, num_rows: int = EXPORT_SAMPLE) -> Columns:
    """The first validation rows, as raw columns of the features."""
    return read_split(run, "validation", [feature.name for feature in run.schema.features], num_rows)


def training_sizes(run: RunFolder, cuts: tuple[Cut, ...]) -> CohortSizes:
    """How much each cohort has to learn from, counted once in one pass over the training files."""
    return _sizes(run.path, _version(run.path, "train"), cuts)


@functools.lru_cache(maxsize=8)
def _sizes(folder: Path, version: Any, cuts: tuple[Cut, ...]) -> CohortSizes:
    schema = Schema.load(folder / "schema.json")
    names = {name for cut in cuts for cohort in cut.cohorts for name in cohort.columns}
    names |= {schema.labels[0]} | ({schema.weight} if schema.weight else set())
    batches = read_columns(split_files(folder, "train"), {name: schema.columns[name] for name in sorted(names)})
    first, *others = (
        count_sizes(
            rows,
            cuts,
            labels=rows[schema.labels[0]],
            weights=rows[schema.weight] if schema.weight else None,
        )
        for rows in batches
    )
    return sum(others, first)
