"""Cohorts found in logs that hold what baselines predicted."""

import dataclasses
from collections.abc import Sequence
from functools import partial

import numpy as np
from scipy.special import expit

from c2al_tf.blocks import draw_rows
from c2al_tf.cohorts import (
    DIVERGENCES,
    Axis,
    Cohort,
    CohortCounts,
    CohortSizes,
    Cut,
    Discovery,
    Guard,
    RowSample,
    count_cohorts,
    count_sizes,
    cut_axes,
    rank_cohorts,
    sample_rows,
)
from c2al_tf.cohorts.axes import as_axes
from c2al_tf.cohorts.sample import SAMPLE_ROWS
from c2al_tf.feature import Column
from c2al_tf.types import Array, Columns

from .log import Log
from .pieces import Piece, list_pieces, sum_batches
from .totals import Runner, total

_MARGIN = 1.1
"""Rows drawn in the first place, of those that are wanted."""


def discover_log(
    log: Log,
    predictions: Sequence[str],
    axes: Sequence[Axis | str],
    *,
    from_logits: bool = False,
    given: Sequence[Cohort] = (),
    training: Sequence[str] = (),
    divergence: str = "js",
    guard: Guard | None = None,
    runner: Runner | None = None,
) -> Discovery:
    """What `discover_cohorts` finds, of any number of rows: two passes, of which the first draws rows to cut axes on.

    Quantiles and frequent values are those of a million rows drawn by a hash of their numbers, or of all if there are
    no more. Each worker holds one batch, and counts of (baselines, cohorts, blocks, buckets).

    Args:
        log: The rows.
        predictions: Columns with the predictions, one per baseline.
        axes: What to cut along.
        from_logits: Whether these are logits, or else probabilities.
        given: Cohorts of your own, beside the axes.
        training: Files of the training rows, in which the guard counts; the rows themselves if there are none.
        divergence: The measure that ranks.
        guard: What a pair must pass.
        runner: What runs it.

    Raises:
        ValueError: If a file, column or value breaks a rule; the message names it.
    """
    runner, guard, axes = runner or Runner(), guard or Guard(), as_axes(axes)
    if not predictions:
        raise ValueError("`predictions` must name at least one column. Received: none")
    if not axes and not given:
        raise ValueError("Discovery needs at least one axis to cut along. Received: axes=[]")
    if divergence not in DIVERGENCES:
        raise ValueError(f"`divergence` must be one of {', '.join(DIVERGENCES)}. Received: divergence={divergence!r}")
    read = sorted({name for readers in (axes, given) for each in readers for name in each.columns})
    columns = log.columns(read, predictions)
    pieces = list_pieces(log.files)
    cut = {name: columns[name] for name in (*read, *filter(None, [log.weight]))}
    share = _MARGIN * SAMPLE_ROWS / sum(piece.num_rows for piece in pieces)
    sample = total(pieces, partial(_sample, log=log, columns=cut, share=share), runner, "drawing rows")
    if not len(sample.hashes):
        raise ValueError("Discovery needs rows of a weight above 0. Received: only weights of 0")
    cuts = cut_axes(axes, sample.columns, given=given)
    count = partial(_count, log=log, columns=columns, cuts=cuts, predictions=tuple(predictions), logits=from_logits)
    counts = total(pieces, count, runner, "counting cohorts")
    sizes = None
    if training:
        trained = {name: columns[name] for name in (*cut, log.label)}
        sizes = total(
            list_pieces(training), partial(_size, log=log, columns=trained, cuts=cuts), runner, "training rows"
        )
    return rank_cohorts(counts, training=sizes, divergence=divergence, guard=guard)


def _sample(piece: Piece, log: Log, columns: dict[str, Column], share: float) -> RowSample:
    """Rows with the lowest hashes; those that are hardly among a million of all rows do not leave the worker."""

    def drawn(numbers: Array, batch: Columns) -> RowSample:
        kept = draw_rows(numbers) < share
        if log.weight is not None:
            kept &= batch[log.weight] > 0
        return sample_rows({name: values[kept] for name, values in batch.items()}, row_numbers=numbers[kept])

    sample: RowSample = sum_batches(piece, columns, drawn)
    return sample


def _count(
    piece: Piece,
    log: Log,
    columns: dict[str, Column],
    cuts: tuple[Cut, ...],
    predictions: tuple[str, ...],
    logits: bool,
) -> CohortCounts:
    def counted(numbers: Array, batch: Columns) -> CohortCounts:
        given = np.stack([batch[name] for name in predictions]).astype(np.float64)
        return count_cohorts(
            expit(given) if logits else given,
            batch,
            cuts,
            **log.of_rows(batch),
            row_numbers=numbers,
            progress=False,
        )

    counts: CohortCounts = sum_batches(piece, columns, counted)
    return counts


def _size(piece: Piece, log: Log, columns: dict[str, Column], cuts: tuple[Cut, ...]) -> CohortSizes:
    log = dataclasses.replace(log, unit=None)
    sizes: CohortSizes = sum_batches(piece, columns, lambda _, batch: count_sizes(batch, cuts, **log.of_rows(batch)))
    return sizes
