"""Positives per task: the start of each task head's bias, and whether it has anything to learn from."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ...cohorts.cohort import Cohort
from ...cohorts.guard import FEW_POSITIVES
from ...schema import Schema
from ...types import Columns
from ..columns.raw import num_rows
from ..columns.readers import Paths, read_columns
from .dataset import primary_tasks
from .labels import check_columns_present, check_names, cohort_labels


@dataclass(frozen=True)
class TaskCounts:
    """Rows and the positives of each task among them.

    Args:
        rows: Number of rows, those of weight 0 included.
        positives: Positives of a weight above 0, by task.
        weighted_rates: Share of the positives in the sum of the weights, by task; None if every row counts once.
    """

    rows: int
    positives: Mapping[str, int]
    weighted_rates: Mapping[str, float] | None = None

    @property
    def priors(self) -> dict[str, float]:
        """Share of positives by task; share of the weights where rows have weights."""
        if self.weighted_rates is not None:
            return dict(self.weighted_rates)
        return {task: count / self.rows for task, count in self.positives.items()}


def count_tasks(paths: Paths, schema: Schema, cohorts: Sequence[Cohort] = ()) -> TaskCounts:
    """Counts the positives of the primary tasks and of each cohort's task, in one pass over the files.

    Where the schema has a weight, rows of weight 0 are neither positives nor in a cohort.

    Raises:
        ValueError: If a cohort has no row or is on a column that the data lacks, a task has no positive or no negative,
            or two tasks have one name.

    Warns:
        UserWarning: If a cohort's task has fewer than `FEW_POSITIVES` positives.
    """
    tasks = primary_tasks(schema)
    check_names(cohorts, tasks)
    check_columns_present(cohorts, schema.columns)
    names = {*tasks.values(), *(name for cohort in cohorts for name in cohort.columns)}
    names |= {schema.weight} if schema.weight else set()
    totals = dict.fromkeys([*tasks, *(cohort.name for cohort in cohorts)], 0)
    members = {cohort.name: 0 for cohort in cohorts}
    weights = dict.fromkeys(totals, 0.0)
    rows, counted_rows, total_weight = 0, 0, 0.0
    for batch in read_columns(paths, {name: schema.columns[name] for name in names}):
        rows += num_rows(batch)
        columns = _counted(batch, schema)
        counted_rows += num_rows(columns)
        weight = columns[schema.weight].astype(np.float64) if schema.weight else np.ones(num_rows(columns))
        total_weight += float(weight.sum())
        labels = {task: columns[name] for task, name in tasks.items()}
        labels |= cohort_labels(columns, next(iter(labels.values())), cohorts)
        for task, label in labels.items():
            totals[task] += int(np.count_nonzero(label))
            weights[task] += float(label @ weight)
        for cohort in cohorts:
            members[cohort.name] += int(np.count_nonzero(cohort.contains(columns)))
    _check(totals, members, counted_rows, cohorts)
    if schema.weight is None:
        return TaskCounts(rows, totals)
    return TaskCounts(rows, totals, {task: weight / total_weight for task, weight in weights.items()})


def _counted(batch: Columns, schema: Schema) -> Columns:
    """The rows whose weight is above 0."""
    if schema.weight is None:
        return batch
    counted = batch[schema.weight] > 0
    return {name: values[counted] for name, values in batch.items()}


def _check(totals: Mapping[str, int], members: Mapping[str, int], rows: int, cohorts: Sequence[Cohort]) -> None:
    described = {cohort.name: f" ({cohort})" for cohort in cohorts}
    for task, positives in totals.items():
        where = f"Task `{task}`{described.get(task, '')}"
        if members.get(task) == 0:
            raise ValueError(f"{where} must have rows to learn from. Received: a cohort that matches none of {rows:,}")
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
