"""Positives per task: the start of each task head's bias, and whether it has anything to learn from."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...cohorts.cohort import Cohort, read_once
from ...cohorts.guard import FEW_POSITIVES
from ...schema import Schema
from ...types import Array, Columns
from ..columns.formats import Paths
from ..columns.raw import num_rows
from ..columns.readers import read_columns
from .labels import LabelDesign, check_columns_present, check_design, check_names, task_labels, task_weights
from .packing import primary_tasks


@dataclass(frozen=True)
class TaskCounts:
    """Rows and the positives of each task among them.

    Args:
        rows: Number of rows, those of weight 0 included.
        positives: Positives of a weight above 0, by task.
        priors: Share of the positives in the sum of the weights, by task.
    """

    rows: int
    positives: Mapping[str, int]
    priors: Mapping[str, float]


def count_tasks(
    paths: Paths, schema: Schema, cohorts: Sequence[Cohort] = (), design: LabelDesign = "conflict"
) -> TaskCounts:
    """Counts the positives of the primary tasks and of each cohort's task, in one pass over the files.

    Where the schema has a weight, rows of weight 0 are neither positives nor in a cohort. With the design `masked` a
    cohort's positives, and their share, are among its members.

    Raises:
        ValueError: If a cohort has no row or is on a column that the data lacks, a task has no positive or no negative,
            or two tasks have one name.

    Warns:
        UserWarning: If a cohort's task has fewer than `FEW_POSITIVES` positives.
    """
    tasks = primary_tasks(schema)
    check_names(cohorts, tasks)
    check_columns_present(cohorts, schema.columns)
    check_design(design)
    names = {*tasks.values(), *(name for cohort in cohorts for name in cohort.columns)}
    names |= {schema.weight} if schema.weight else set()
    sums = {task: np.zeros(4) for task in [*tasks, *(cohort.name for cohort in cohorts)]}
    members = {cohort.name: 0 for cohort in cohorts}
    rows = 0
    for batch in read_columns(paths, {name: schema.columns[name] for name in names}):
        rows += num_rows(batch)
        columns = _counted(batch, schema)
        weight = columns[schema.weight].astype(np.float64) if schema.weight else np.ones(num_rows(columns))
        labels = {task: columns[name] for task, name in tasks.items()}
        for task, label in labels.items():
            sums[task] += _sums(label, weight)
        raw = read_once(columns, cohorts)
        for cohort in cohorts:
            member = cohort.contains(raw)
            members[cohort.name] += int(np.count_nonzero(member))
            label = task_labels(next(iter(labels.values())), member, design)
            sums[cohort.name] += _sums(label, task_weights(weight, member, design))
    counts = {task: (int(counted), int(positives)) for task, (counted, positives, _, _) in sums.items()}
    _check(counts, members, cohorts)
    return TaskCounts(
        rows,
        {task: positives for task, (_, positives) in counts.items()},
        {task: float(positive / total) for task, (_, _, total, positive) in sums.items()},
    )


def _sums(label: Array, weight: Array) -> Array:
    """Rows, positives, and their weights, (4,), of the rows of a weight above 0."""
    counted = weight > 0
    return np.array([counted.sum(), np.count_nonzero(label[counted]), weight.sum(), label @ weight])


def _counted(batch: Columns, schema: Schema) -> Columns:
    """The rows whose weight is above 0."""
    if schema.weight is None:
        return batch
    counted = batch[schema.weight] > 0
    return {name: values[counted] for name, values in batch.items()}


def _check(counts: Mapping[str, tuple[int, int]], members: Mapping[str, int], cohorts: Sequence[Cohort]) -> None:
    described = {cohort.name: f" ({cohort})" for cohort in cohorts}
    most = max(rows for rows, _ in counts.values())
    for task, (rows, positives) in counts.items():
        where = f"Task `{task}`{described.get(task, '')}"
        if members.get(task) == 0:
            raise ValueError(f"{where} must have rows to learn from. Received: a cohort that matches none of {most:,}")
        if not 0 < positives < rows:
            raise ValueError(
                f"{where} must have positives and negatives. Received: {positives:,} positives in {rows:,} rows. "
                "Choose a cohort with more positives, or bring more rows"
            )
        if task in members and positives < FEW_POSITIVES:
            warnings.warn(
                f"{where} has {positives:,} positives in {rows:,} rows: too few to learn from; {FEW_POSITIVES} or more "
                "are wanted",
                stacklevel=3,
            )
