"""What can be known of a run before a baseline is trained: a mistake is found now rather than hours later."""

from pathlib import Path

import numpy as np

from c2al_tf.cohorts import GIVEN, Cut, check_axes
from c2al_tf.data.columns.formats import as_paths, under
from c2al_tf.data.columns.readers import read_columns
from c2al_tf.data.columns.shards import split_files
from c2al_tf.data.preparation.source import SPLITS, Source
from c2al_tf.storage import local_path, shown
from c2al_tf.types import Columns

from .folder import RunFolder
from .rows import training_sizes


def check_columns(run: RunFolder, source: Source) -> None:
    """Raises ValueError unless the data have the columns that the run needs."""
    present = {*(f.name for f in source.features), *(c.name for c in source.axis_columns), *source.labels}
    wanted = [(name, f"axis `{axis.name}`") for axis in run.config.cohorts.axes for name in axis.columns]
    wanted += [
        (name, f"cohort `{cohort.name}`") for cohort in run.config.cohorts.given for name in cohort.cohort().columns
    ]
    wanted += [(run.config.unit, "`unit`")] if run.config.unit else []
    for name, where in wanted:
        if name not in present:
            raise ValueError(
                f"{where} is on a column that the data lack. Received: {name!r}; there are {sorted(present)}"
            )


def check_apart(run: RunFolder) -> None:
    """Raises ValueError if the rows that are read lie where they are to be written: they would be replaced."""
    data, written = run.config.data, shown(run.path.resolve() / "data")
    if data.name == "files" and data.files is not None:
        patterns = {data.files.train, data.files.validation or data.files.train, data.files.test}
        places = [path for pattern in patterns for path in as_paths(under(data.path or Path(), pattern))]
    else:
        places = [] if data.path is None else [local_path(data.path)]
    for place in map(shown, (path.resolve() for path in places)):
        if place == written or place.startswith(f"{written}/"):
            raise ValueError(
                f"Rows that are read must not lie where they are to be written, in {written}. Received: {place}"
            )


def check_types(run: RunFolder) -> None:
    """Raises ValueError unless axes and given cohorts fit the types of their columns."""
    dtypes = {"string": object, "int64": np.int64, "float32": np.float32}
    empty: Columns = {
        name: np.zeros((0,) if column.length is None else (0, column.length), dtypes[column.dtype])
        for name, column in run.schema.columns.items()
    }
    check_axes(run.config.cohorts.axes, empty)
    for given in run.config.cohorts.given:
        given.cohort().contains(empty)


def check_labels(run: RunFolder) -> None:
    """Raises ValueError unless every split has rows with 0 and 1 of each label: without them a model has no NE."""
    weight = run.schema.weight
    for split in SPLITS:
        seen: dict[str, set[float]] = {label: set() for label in run.schema.labels}
        rows = 0
        names = [*run.schema.labels, *([weight] if weight else [])]
        for batch in read_columns(split_files(run.path, split), {name: run.schema.columns[name] for name in names}):
            counted = slice(None) if weight is None else batch[weight] > 0
            for label, values in seen.items():
                values.update(np.unique(batch[label][counted]).tolist())
            rows += len(batch[names[0]][counted])
            if all(len(values) > 1 for values in seen.values()):
                break
        for label, values in seen.items():
            if len(values) < 2:
                raise ValueError(
                    f"The split {split!r} must have rows with label `{label}` 0 and 1. Received: {rows:,} rows"
                    + (f", all {min(values):g}" if values else " of a weight above 0")
                )


def check_given(run: RunFolder) -> None:
    """Raises ValueError unless every given cohort has a training row with label 1."""
    given = [cohort.cohort() for cohort in run.config.cohorts.given]
    if not given:
        return
    sizes = training_sizes(run, (Cut(GIVEN, tuple(given)),))
    positives = np.zeros_like(sizes.rows) if sizes.positives is None else sizes.positives
    for cohort, rows, found in zip(given, sizes.rows.tolist(), positives.tolist(), strict=True):
        if not found:
            raise ValueError(
                f"Cohort `{cohort.name}` ({cohort}) must have training rows with label 1 to learn from: correct its "
                f"conditions, or bring more rows. Received: {rows:,} of {sizes.total_rows:,} training rows, with "
                f"{found:,} positives"
            )
