"""Your own data: Parquet, CSV or TFRecord files, with features that you declare."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from c2al_tf.data.columns.bad_rows import MOST_BAD_ROWS, bad_rows_error
from c2al_tf.data.columns.csv_fields import CsvFormat
from c2al_tf.data.columns.formats import FileFormat, as_paths, under
from c2al_tf.data.columns.raw import num_rows
from c2al_tf.data.columns.readers import read_files
from c2al_tf.data.preparation.learned_schema import SchemaLearner
from c2al_tf.data.preparation.source import FeatureSpec, Source
from c2al_tf.feature import Column, DType
from c2al_tf.names import input_name
from c2al_tf.types import Array, Columns

_MORE_BATCHES = 15
"""Batches, a million rows, in which further bad rows are looked for."""


@dataclass(frozen=True)
class Files:
    """Where the rows are and what their columns mean.

    A feature whose name cannot be a model's input, such as `Price (EUR)`, is the input `Price_EUR`, by `input_name`.

    Args:
        train: The files to train on: one, a folder, or a pattern such as `"train/*.parquet"`, relative to the data
            folder.
        test: The files to test on.
        label: Column with the label, 0 or 1. Cohorts are found by it, and their tasks are made of it.
        features: The features. A categorical one without a `dtype` is read as strings.
        axes: Semantic axes, each the name of a column, or of two to be crossed.
        validation: The files to validate on. Without it a part of the training rows is set aside.
        validation_share: That part, chosen at random but always the same.
        axis_columns: Columns of the axes that are no features.
        weight: Column of row weights, at least 0.
        csv: How CSV files are written.
        format: Format of files whose names do not tell it.
        more_labels: Columns with further labels, 0 or 1, each a task with a head that is served, too. The heads are
            called as their columns are, by `input_name`.
    """

    train: str
    test: str
    label: str
    features: tuple[FeatureSpec, ...]
    axes: tuple[tuple[str, ...], ...]
    validation: str | None = None
    validation_share: float = 0.1
    axis_columns: tuple[Column, ...] = ()
    weight: str | None = None
    csv: CsvFormat | None = None
    format: FileFormat | None = None
    more_labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0 < self.validation_share < 1:
            raise ValueError(
                f"`validation_share` must be between 0 and 1. Received: validation_share={self.validation_share}"
            )
        for names, what in (([f.name for f in self.features], "features"), (self.axes, "axes")):
            if not names:
                raise ValueError(f"`{what}` must name at least one. Received: {what}=()")

    @property
    def columns(self) -> dict[str, Column]:
        """The columns to be read, by the names that are given here."""
        columns = [Column(f.name, _dtype(f), f.length) for f in self.features]
        columns += [*self.axis_columns, *(Column(name, "float32") for name in (self.label, *self.more_labels))]
        columns += [Column(self.weight, "float32")] if self.weight else []
        return {column.name: column for column in columns}

    @property
    def names(self) -> dict[str, str]:
        """What becomes a model's input or output, under its name there, by the name that is given here."""
        tasks = (self.label, *self.more_labels) if self.more_labels else ()
        return {name: input_name(name) for name in (*(feature.name for feature in self.features), *tasks)}


def _renamed(feature: FeatureSpec) -> FeatureSpec:
    return replace(feature, name=input_name(feature.name), shares=feature.shares and input_name(feature.shares))


def _dtype(feature: FeatureSpec) -> DType:
    return feature.dtype or ("float32" if feature.kind == "numeric" else "string")


def open_source(data: Path | None, files: Files) -> Source:
    """Opens files that are described by `files`.

    Args:
        data: The folder that the patterns are relative to; the current one if not given.
        files: What is where.

    Raises:
        ValueError: If a pattern matches no file, or a file is not as declared.
    """
    folder = data or Path()
    train, test = as_paths(under(folder, files.train)), as_paths(under(folder, files.test))
    features = tuple(replace(_renamed(feature), dtype=_dtype(feature)) for feature in files.features)
    names = files.names
    axes = tuple(tuple(names.get(name, name) for name in axis) for axis in files.axes)
    label, *more_labels = (names.get(name, name) for name in (files.label, *files.more_labels))
    source = Source(features, label, axes, {}, files.axis_columns, weight=files.weight, more_labels=tuple(more_labels))
    rules = SchemaLearner(source, {})

    def stream(paths: list[Path]) -> Callable[[], Iterator[Columns]]:
        return lambda: _checked(paths, files, rules)

    def part(for_validation: bool) -> Callable[[], Iterator[Columns]]:
        return lambda: part_of(stream(train)(), files.validation_share, for_validation)

    splits = {"train": part(False), "validation": part(True), "test": stream(test)}
    if files.validation is not None:
        splits |= {"train": stream(train), "validation": stream(as_paths(under(folder, files.validation)))}
    return replace(source, splits=splits)


def _checked(paths: list[Path], files: Files, rules: SchemaLearner) -> Iterator[Columns]:
    for path, batches in read_files(paths, files.columns, csv_format=files.csv, file_format=files.format):
        yield from checked_rows(path, batches, files, rules)


def checked_rows(
    path: Path, batches: Iterable[Columns], files: Files, rules: SchemaLearner, first_row: int = 0
) -> Iterator[Columns]:
    """Yields the rows of a file from row `first_row` on under a model's names, checked: a bad one's number is known.

    Raises:
        ValueError: If a row breaks a rule of `rules`.
    """
    names = files.names
    found: list[tuple[int, str]] = []
    # After the first bad row some more batches, so that it is not the only one that is named.
    last = None
    try:
        for number, batch in enumerate(batches):
            named = {names.get(name, name): values for name, values in batch.items()}
            rows, bad = rules.find_bad_rows(named, str(path), first_row)
            first_row += num_rows(batch)
            found += bad
            last = number + _MORE_BATCHES if found and last is None else last
            if len(found) > MOST_BAD_ROWS or number == last:
                break
            if not found:
                yield rows
    except ValueError:
        if not found:
            raise
    if found:
        raise bad_rows_error(str(path), found)


def part_of(batches: Iterable[Columns], share: float, for_validation: bool, first_row: int = 0) -> Iterator[Columns]:
    """Yields those of the training files' rows, from row `first_row` on, that are set aside, or the others."""
    for batch in batches:
        chosen = in_validation(first_row, num_rows(batch), share) == for_validation
        first_row += num_rows(batch)
        if chosen.any():
            yield {name: column[chosen] for name, column in batch.items()}


def in_validation(first_row: int, rows: int, share: float) -> Array:
    """Which of the training files' rows from row `first_row` on are set aside, (rows,): always the same ones."""
    # One draw of 64 bits a row, in the order of the rows: which rows are chosen does not depend on the batches.
    draws = np.random.PCG64(0).advance(first_row)
    chosen: Array = np.random.Generator(draws).random(rows) < share
    return chosen
