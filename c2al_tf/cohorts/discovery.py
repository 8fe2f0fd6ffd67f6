"""Discovery: the two cohorts that the baselines treat most differently (C2AL, steps 2 and 3)."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from ..blocks import resample_counts
from ..types import Array
from .axes import Axis, as_axes, cut_axes
from .chance import FIT_DRAWS, random_signs
from .counts import NUM_BLOCKS, CohortCounts, CohortSizes, as_predictions, count_cohorts, count_sizes, counted_rows
from .divergence import DIVERGENCES, NUM_BUCKETS
from .guard import Guard
from .judgement import Judgement, judge_pairs
from .measurement import MeasuredPairs, measure_axis
from .results import AxisSummary, CohortSummary, Discovery, Pair
from .table import Table, raw_columns

_GUARD = Guard()


def discover_cohorts(
    predictions: Any,
    columns: Table,
    axes: Sequence[Axis | str],
    *,
    labels: Any = None,
    weights: Any = None,
    units: Any = None,
    training_columns: Table | None = None,
    training_labels: Any = None,
    divergence: str = "js",
    guard: Guard = _GUARD,
    num_buckets: int = NUM_BUCKETS,
    num_blocks: int = NUM_BLOCKS,
    num_resamples: int = 200,
    num_draws: int = 999,
    seed: int = 0,
    progress: bool = True,
) -> Discovery:
    """Cuts rows along axes and ranks all pairs of cohorts by how differently the baselines predict on them.

    Examples:
        >>> rng = np.random.default_rng(0)
        >>> surface = rng.choice(np.array(["feed", "reels", "stories"], dtype=object), 6000)
        >>> rate = np.where(surface == "reels", 0.3, 0.1)
        >>> predictions, labels = rate * rng.uniform(0.5, 1.5, 6000), rng.random(6000) < rate
        >>> found = discover_cohorts(predictions, {"surface": surface}, ["surface"], labels=labels)
        >>> str(found.best.head.cohort), [pair.accepted for pair in found.pairs]
        ('surface is reels', [True, True, False])

    Args:
        predictions: Probabilities of shape (seeds, rows) or (seeds, rows, 1), one baseline per seed; (rows,) and
            (rows, 1) are one seed. All seeds decide. These, labels, weights and units are NumPy arrays, tensors, lists
            or of pandas.
        columns: Raw columns of the same rows, one value per row: a dict, or a pandas DataFrame. `raw_column` says in
            which forms.
        axes: What to cut along; a string is the axis of the column of that name.
        labels: 0 or 1, of shape (rows,); without them head and tail are told apart by the mean prediction, and the
            guard cannot ask for positives nor for a difference in the labels.
        weights: Of the rows, at least 0, of shape (rows,). Rows of weight 0 are left out; other weights change nothing:
            histograms count rows, whose number is what the tests for chance rest on.
        units: Ids (a user, say) of shape (rows,) whose rows are not independent; without them every row is.
        training_columns: Raw columns of the training rows, in which the guard counts what a cohort has to learn from;
            the rows above if not given.
        training_labels: Of the training rows; given with `training_columns` if `labels` are.
        divergence: The measure that ranks: `js`, `kl`, `wasserstein` or `cosine`.
        guard: What a pair must pass.
        num_buckets: Buckets of the log-normalised prediction.
        num_blocks: Blocks of units that are resampled.
        num_resamples: Resamples for intervals and stability.
        num_draws: Draws for the p-values; the smallest p-value is 1 / (num_draws + 1).
        seed: Of the draws.
        progress: Whether to show bars when it takes long.

    Raises:
        ValueError: If lengths differ, there are no rows, a prediction, label, weight or column breaks its rule, or
            the measure is unknown.

    References:
        C2AL, arXiv 2510.02215, section 3.
    """
    axes = as_axes(axes)
    if not axes:
        raise ValueError("Discovery needs at least one axis to cut along. Received: axes=[]")
    if training_columns is None and training_labels is not None:
        raise ValueError("`training_labels` are those of `training_columns`. Received: labels without columns")
    raw = raw_columns(columns, (name for axis in axes for name in axis.columns))
    predictions = as_predictions(predictions, raw)
    if predictions.size == 0:
        raise ValueError("Discovery needs rows. Received: 0 predictions")
    present = raw
    if weights is not None:
        kept = counted_rows(weights, predictions.shape[1])
        if not kept.any():
            raise ValueError("Discovery needs rows of a weight above 0. Received: only weights of 0")
        present = {name: column.take(kept) for name, column in raw.items()}
    cuts = cut_axes(axes, present)
    counts = count_cohorts(
        predictions,
        raw,
        cuts,
        labels=labels,
        weights=weights,
        units=units,
        num_buckets=num_buckets,
        num_blocks=num_blocks,
        seed=seed,
        progress=progress,
    )
    training = None if training_columns is None else count_sizes(training_columns, cuts, labels=training_labels)
    return rank_cohorts(
        counts,
        training=training,
        divergence=divergence,
        guard=guard,
        num_resamples=num_resamples,
        num_draws=num_draws,
        seed=seed,
        progress=progress,
    )


def rank_cohorts(
    counts: CohortCounts,
    *,
    training: CohortSizes | None = None,
    divergence: str = "js",
    guard: Guard = _GUARD,
    num_resamples: int = 200,
    num_draws: int = 999,
    seed: int = 0,
    progress: bool = True,
) -> Discovery:
    """Ranks all pairs of counted cohorts; arguments as of `discover_cohorts`.

    The counts may be the sum of those of many shards: of the same cuts they are those of all rows, and so is the
    result, but for the rounding of mean predictions.

    Args:
        counts: Of the rows with predictions.
        training: Sizes of the same cohorts in the training rows; those of `counts` if not given.
        divergence: The measure that ranks.
        guard: What a pair must pass.
        num_resamples: Resamples for intervals and stability.
        num_draws: Draws for the p-values.
        seed: Of the draws.
        progress: Whether to show a bar when it takes long.
    """
    _check_settings(counts, training, divergence, guard, num_resamples, num_draws)
    signs_rng, tables_rng = np.random.default_rng(seed).spawn(2)
    signs = random_signs(FIT_DRAWS + num_draws, counts.num_blocks, signs_rng)
    draws = resample_counts(counts.num_blocks, num_resamples, seed)
    axes = _summarize(counts, training)
    total = counts.total_rows if training is None else training.total_rows
    measured, first = [], 0
    for axis in tqdm(axes, desc="comparing cohorts", unit="axis", delay=2, disable=not progress):
        cohorts = slice(first, first := first + len(axis.cohorts))
        measured.append(measure_axis(axis, counts, cohorts, total, divergence, guard, signs, draws, tables_rng))
    ranked = _rank(axes, measured, judge_pairs(counts, measured, guard, signs), divergence)
    return Discovery(
        divergence,
        counts.total_rows,
        len(counts.histograms),
        guard,
        axes,
        tuple(pair for pair, _ in ranked),
        _stability(ranked),
    )


def _rank(
    axes: Sequence[AxisSummary], measured: Sequence[MeasuredPairs], judgements: Sequence[Judgement], divergence: str
) -> list[tuple[Pair, Array]]:
    """All pairs, the most divergent first, each with its resampled divergences (seeds, resamples)."""
    in_order = iter(judgements)
    ranked = []
    for axis, found in zip(axes, measured, strict=True):
        for number, (head, tail) in enumerate(found.pairs.tolist()):
            low, high = found.intervals[number].tolist()
            judgement = next(in_order)
            pair = Pair(
                axis.name,
                axis.cohorts[head],
                axis.cohorts[tail],
                {name: float(values[number]) for name, values in found.divergences.items()},
                None if np.isnan(low) else (low, high),
                judgement.p_value,
                judgement.label_p_value,
                judgement.reasons,
            )
            ranked.append((pair, found.resampled[:, :, number]))
    return sorted(ranked, key=lambda item: -item[0].divergences[divergence])


def _stability(ranked: Sequence[tuple[Pair, Array]]) -> float | None:
    """Share of seeds x resamples in which the best accepted pair, the first in order, is the first of the accepted."""
    accepted = [resampled for pair, resampled in ranked if pair.accepted]
    return float((np.stack(accepted).argmax(0) == 0).mean()) if accepted else None


def _summarize(counts: CohortCounts, training: CohortSizes | None) -> tuple[AxisSummary, ...]:
    rows = counts.rows
    positives = None if counts.positives is None else counts.positives.sum(-1)
    training_rows, training_positives = (rows, positives) if training is None else (training.rows, training.positives)
    predictions = counts.prediction_sums.sum(-1).mean(0) / np.maximum(rows, 1)
    histograms = counts.histograms.sum(2, dtype=np.int64).mean(0)
    numbers = itertools.count()
    return tuple(
        AxisSummary(
            cut.axis,
            tuple(
                CohortSummary(
                    cohort,
                    int(rows[number := next(numbers)]),
                    None if positives is None else int(positives[number]),
                    float(predictions[number]),
                    tuple(histograms[number].tolist()),
                    int(training_rows[number]),
                    None if training_positives is None else int(training_positives[number]),
                )
                for cohort in cut.cohorts
            ),
        )
        for cut in counts.cuts
    )


def _check_settings(
    counts: CohortCounts,
    training: CohortSizes | None,
    divergence: str,
    guard: Guard,
    num_resamples: int,
    num_draws: int,
) -> None:
    if training is not None and training.cuts != counts.cuts:
        raise ValueError("`training` must be counted over the cuts of the counts: cut the axes once, for all rows")
    if training is not None and (training.positives is None) != (counts.positives is None):
        raise ValueError("Give labels for the training rows if the other rows have labels, and for neither otherwise")
    if divergence not in DIVERGENCES:
        raise ValueError(f"`divergence` must be one of {', '.join(DIVERGENCES)}. Received: divergence={divergence!r}")
    if num_resamples < 2:
        raise ValueError(f"`num_resamples` must be at least 2. Received: num_resamples={num_resamples}")
    if 1 / (num_draws + 1) > guard.max_p_value:
        raise ValueError(
            f"`num_draws` must be at least {int(np.ceil(1 / guard.max_p_value)) - 1} for p-values to reach "
            f"max_p_value={guard.max_p_value:g}. Received: num_draws={num_draws}"
        )
