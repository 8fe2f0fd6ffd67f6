"""Arms compared in logs that hold their logits."""

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np

from c2al_tf.cohorts import Cohort, read_once
from c2al_tf.evaluation import REST, ArmCounts, Evaluation, compare_arms, count_arms
from c2al_tf.feature import Column
from c2al_tf.types import Array, Columns

from .log import Log
from .pieces import Piece, list_pieces, sum_batches
from .totals import Runner, total

NUM_SCORES = 4096
"""Buckets of scores that AUCs come from: `Evaluation.auc_error` bounds how far they are from the exact ones."""


def evaluate_log(
    log: Log,
    arms: Mapping[str, Sequence[str]],
    targeted: Sequence[Cohort],
    others: Sequence[Cohort] = (),
    *,
    reference: str = "baseline",
    runner: Runner | None = None,
) -> Evaluation:
    """What `evaluate_by_cohort` says, of any number of rows: one pass. AUCs have an error, whose bound is given.

    Args:
        log: The rows.
        arms: Arm to its columns of logits, one per paired seed.
        targeted: The cohorts that have a task; `rest` are the rows in none of them.
        others: Further cohorts.
        reference: The arm that the others are compared with.
        runner: What runs it.

    Raises:
        ValueError: If a file, column or value breaks a rule; the message names it.
    """
    runner = runner or Runner()
    cohorts = list(dict.fromkeys([*targeted, *others]))
    names = [cohort.name for cohort in cohorts]
    if len(set(names)) < len(names) or (targeted and REST in names):
        raise ValueError(f"Cohorts must have distinct names, none of them {REST!r}. Received: {', '.join(names)}")
    if reference not in arms or len(arms) < 2:
        raise ValueError(f"`arms` must be {reference!r}, the reference, and others. Received: {', '.join(arms)}")
    logits = [name for names in arms.values() for name in names]
    read = sorted({name for cohort in cohorts for name in cohort.columns})
    columns = log.columns(read, logits)
    count = partial(
        _count,
        log=log,
        columns=columns,
        arms={arm: tuple(names) for arm, names in arms.items()},
        cohorts=cohorts,
        targeted=len(targeted),
    )
    counts = total(list_pieces(log.files), count, runner, "evaluating")
    named = [*(cohort.name for cohort in targeted), *([REST] if targeted else [])]
    return compare_arms(counts, reference=reference, named=named)


def _count(
    piece: Piece,
    log: Log,
    columns: dict[str, Column],
    arms: dict[str, tuple[str, ...]],
    cohorts: list[Cohort],
    targeted: int,
) -> ArmCounts:
    def counted(numbers: Array, batch: Columns) -> ArmCounts:
        raw = read_once(batch, cohorts)
        slices = {cohort.name: cohort.contains(raw) for cohort in cohorts[:targeted]}
        if targeted:
            slices[REST] = ~np.logical_or.reduce(list(slices.values()))
        slices |= {cohort.name: cohort.contains(raw) for cohort in cohorts[targeted:]}
        return count_arms(
            {arm: np.stack([batch[name] for name in names]) for arm, names in arms.items()},
            slices=slices,
            **log.of_rows(batch),
            row_numbers=numbers,
            num_scores=NUM_SCORES,
            progress=False,
        )

    counts: ArmCounts = sum_batches(piece, columns, counted)
    return counts
