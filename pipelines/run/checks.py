"""What can be known of a run before a baseline is trained: a mistake is found now rather than hours later."""

import numpy as np

from c2al_tf.cohorts import GIVEN, Cut, check_axes
from c2al_tf.data.preparation.source import SPLITS, Source
from c2al_tf.types import Columns

from .folder import RunFolder
from .rows import read_split, training_sizes


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
        columns = read_split(run, split, {*run.schema.labels} | ({weight} if weight else set()))
        for label in run.schema.labels:
            counted = columns[label] if weight is None else columns[label][columns[weight] > 0]
            if len(np.unique(counted)) < 2:
                raise ValueError(
                    f"The split {split!r} must have rows with label `{label}` 0 and 1. Received: {len(counted):,} rows"
                    + (f", all {counted[0]:g}" if len(counted) else " of a weight above 0")
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
