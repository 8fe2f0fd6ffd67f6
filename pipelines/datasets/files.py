"""Your own data: Parquet, CSV or TFRecord files, with features that you declare."""

import glob
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from c2al_tf.data.columns.csv_fields import CsvFormat
from c2al_tf.data.columns.raw import num_rows
from c2al_tf.data.columns.readers import read_columns
from c2al_tf.data.preparation.learned_schema import SchemaLearner
from c2al_tf.data.preparation.source import FeatureSpec, Source
from c2al_tf.feature import Column, DType
from c2al_tf.types import Columns


@dataclass(frozen=True)
class Files:
    """Where the rows are and what their columns mean.

    Args:
        train: Pattern of the files to train on, such as `"train/*.parquet"`, relative to the data folder.
        test: Pattern of the files to test on.
        label: Column with the label, 0 or 1.
        features: The features. A categorical one without a `dtype` is read as strings.
        axes: Semantic axes, each the name of a column, or of two to be crossed.
        validation: Pattern of the files to validate on. Without it a part of the training rows is set aside.
        validation_share: That part, chosen at random but always the same.
        axis_columns: Columns of the axes that are no features.
        weight: Column of row weights, at least 0.
        csv: How CSV files are written.
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
        """The columns to be read."""
        columns = [Column(f.name, _dtype(f), f.length) for f in self.features]
        columns += [*self.axis_columns, Column(self.label, "float32")]
        columns += [Column(self.weight, "float32")] if self.weight else []
        return {column.name: column for column in columns}


def _dtype(feature: FeatureSpec) -> DType:
    return feature.dtype or ("float32" if feature.kind == "numeric" else "string")


def open_source(data: Path | None, files: Files) -> Source:
    """Opens files that are described by `files`.

    Args:
        data: The folder that the patterns are relative to; the current one if not given.
        files: What is where.

    Raises:
        ValueError: If a pattern matches no file.
    """
    folder = data or Path()
    train, test = matches(folder, files.train), matches(folder, files.test)
    features = tuple(replace(feature, dtype=_dtype(feature)) for feature in files.features)
    source = Source(features, files.label, files.axes, {}, files.axis_columns, weight=files.weight)
    rules = SchemaLearner(source, {})

    def stream(paths: list[str]) -> Callable[[], Iterator[Columns]]:
        return lambda: _checked(paths, files, rules)

    def part(for_validation: bool) -> Callable[[], Iterator[Columns]]:
        return lambda: _part(stream(train)(), files.validation_share, for_validation)

    splits = {"train": part(False), "validation": part(True), "test": stream(test)}
    if files.validation is not None:
        splits |= {"train": stream(train), "validation": stream(matches(folder, files.validation))}
    return replace(source, splits=splits)


def matches(folder: Path, pattern: str) -> list[str]:
    """The files that match a pattern, sorted.

    Raises:
        ValueError: If there is none.
    """
    paths = sorted(glob.glob(str(folder / pattern), recursive=True))
    if not paths:
        there = sorted(path.name for path in folder.iterdir())[:10] if folder.is_dir() else "no such folder"
        raise ValueError(f"{folder}: no file matches {pattern!r}. Received: {there}")
    return paths


def _checked(paths: list[str], files: Files, rules: SchemaLearner) -> Iterator[Columns]:
    """Checks the rows here already, where a bad one's file and its row there are known."""
    for path in paths:
        first_row = 0
        for batch in read_columns(path, files.columns, csv_format=files.csv):
            yield rules.check(batch, path, first_row)
            first_row += num_rows(batch)


def _part(batches: Iterator[Columns], share: float, for_validation: bool) -> Iterator[Columns]:
    # One draw per row, in the order of the rows: which rows are chosen does not depend on the batches.
    rng = np.random.default_rng(0)
    for batch in batches:
        chosen = (rng.random(num_rows(batch)) < share) == for_validation
        if chosen.any():
            yield {name: column[chosen] for name, column in batch.items()}
