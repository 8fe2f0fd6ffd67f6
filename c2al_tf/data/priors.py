"""Positives per task, from which each task head's bias starts and which tell whether it has anything to learn from."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..cohorts.cohort import Cohort
from ..schema import Schema
from .dataset import primary_tasks
from .labels import cohort_labels
from .readers import Paths, read_columns

FEW_POSITIVES = 100
"""Below so many positives a task head mostly fits noise."""


@dataclass(frozen=True)
class TaskCounts:
    """Rows and the positives of each task among them.

    Args:
        rows: Number of rows.
        positives: Positives by task.
    """

    rows: int
    positives: Mapping[str, int]

    @property
    def priors(self) -> dict[str, float]:
        """Share of positives by task."""
        return {task: count / self.rows for task, count in self.positives.items()}


def count_tasks(paths: Paths, schema: Schema, cohorts: Sequence[Cohort] = ()) -> TaskCounts:
    """Counts the positives of the primary tasks and of each cohort's task, in one pass over the files.

    Raises:
        ValueError: If a cohort has no row, or a task no positive or no negative.

    Warns:
        UserWarning: If a cohort's task has fewer than `FEW_POSITIVES` positives.
    """
    tasks = primary_tasks(schema)
    names = {*tasks.values(), *(name for cohort in cohorts for name in cohort.columns)}
    totals = dict.fromkeys([*tasks, *(cohort.name for cohort in cohorts)], 0)
    members = {cohort.name: 0 for cohort in cohorts}
    rows = 0
    for columns in read_columns(paths, {name: schema.columns[name] for name in names}):
        labels = {task: columns[name] for task, name in tasks.items()}
        labels |= cohort_labels(columns, next(iter(labels.values())), cohorts)
        rows += len(next(iter(labels.values())))
        for task, label in labels.items():
            totals[task] += int(np.count_nonzero(label))
        for cohort in cohorts:
            members[cohort.name] += int(np.count_nonzero(cohort.contains(columns)))
    _check(totals, members, rows, cohorts)
    return TaskCounts(rows, totals)


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
