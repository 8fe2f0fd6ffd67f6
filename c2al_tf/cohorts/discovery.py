"""Discovery: the two cohorts that the baseline treats most differently (C2AL, steps 2 and 3)."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..types import Array, Columns
from .axes import Axis, cut_axes
from .counts import CohortCounts, count_cohorts, weighted_rows
from .divergence import DIVERGENCES, NUM_BUCKETS
from .guard import Guard
from .resampling import bootstrap_intervals, pair_divergences, permutation_p_values
from .results import AxisSummary, CohortSummary, Discovery, Pair

_GUARD = Guard()


def discover_cohorts(
    predictions: Array,
    columns: Columns,
    axes: Sequence[Axis],
    *,
    labels: Array | None = None,
    weights: Array | None = None,
    divergence: str = "js",
    guard: Guard = _GUARD,
    num_buckets: int = NUM_BUCKETS,
    num_bootstrap: int = 200,
    num_permutations: int = 299,
    seed: int = 0,
    progress: bool = True,
) -> Discovery:
    """Cuts rows along axes and ranks all pairs of cohorts by how differently the baseline predicts on them.

    >>> rng = np.random.default_rng(0)
    >>> surface = rng.choice(np.array(["feed", "reels", "stories"], dtype=object), 3000)
    >>> rate = np.where(surface == "reels", 0.10, 0.02)
    >>> predictions = rate * rng.uniform(0.5, 1.5, 3000)
    >>> found = discover_cohorts(predictions, {"surface": surface}, [Axis(("surface",))], guard=Guard(min_rows=100))
    >>> str(found.best.head.cohort), [pair.accepted for pair in found.pairs]
    ('surface is reels', [True, True, False])

    Args:
        predictions: The baseline's probabilities, of shape (rows,).
        columns: Raw columns of the same rows, each of shape (rows,).
        axes: What to cut along.
        labels: 0 or 1, of shape (rows,); without them head and tail are told apart by the mean prediction, and the
            guard cannot ask for positives.
        weights: Of the rows, at least 0, of shape (rows,). Rows of weight 0 are left out; other weights change nothing:
            histograms count rows, whose number is what the tests for chance rest on.
        divergence: The measure that ranks: `js`, `kl`, `wasserstein` or `cosine`.
        guard: What a pair must pass.
        num_buckets: Buckets of the log-normalised prediction.
        num_bootstrap: Draws for the intervals.
        num_permutations: Draws for the p-values; the smallest p-value is 1 / (num_permutations + 1).
        seed: Of the draws.
        progress: Whether to show bars when it takes long.

    Raises:
        ValueError: If lengths differ, there are no rows, a prediction, label, weight or column breaks its rule, or
            the measure is unknown.

    References:
        C2AL, arXiv 2510.02215, section 3.
    """
    if np.size(predictions) == 0:
        raise ValueError("Discovery needs rows. Received: 0 predictions")
    if not axes:
        raise ValueError("Discovery needs at least one axis to cut along. Received: axes=[]")
    if weights is not None:
        predictions, columns, labels = weighted_rows(weights, predictions, columns, labels)
        if len(predictions) == 0:
            raise ValueError("Discovery needs rows of a weight above 0. Received: only weights of 0")
    cuts = cut_axes(axes, columns)
    counts = count_cohorts(predictions, columns, cuts, labels=labels, num_buckets=num_buckets, progress=progress)
    return rank_cohorts(
        counts,
        divergence=divergence,
        guard=guard,
        num_bootstrap=num_bootstrap,
        num_permutations=num_permutations,
        seed=seed,
        progress=progress,
    )


def rank_cohorts(
    counts: CohortCounts,
    *,
    divergence: str = "js",
    guard: Guard = _GUARD,
    num_bootstrap: int = 200,
    num_permutations: int = 299,
    seed: int = 0,
    progress: bool = True,
) -> Discovery:
    """Ranks all pairs of counted cohorts; arguments as of `discover_cohorts`.

    The counts may be the sum of those of many shards: of the same cuts they are those of all rows, and so is the
    result, but for the rounding of mean predictions.
    """
    _check_settings(divergence, guard, num_bootstrap, num_permutations)
    bootstrap_rng, permutation_rng = np.random.default_rng(seed).spawn(2)
    axes = _summarize(counts)
    measured = [
        _measure_axis(axis, counts.total_rows, divergence, guard, num_bootstrap, bootstrap_rng) for axis in axes
    ]
    # Only pairs of sufficient size are tested: fewer tests leave more power to each. Sizes do not depend on the
    # predictions, so a permutation tests the same pairs.
    p_values = permutation_p_values(
        DIVERGENCES[divergence],
        [pairs.large_enough() for pairs in measured],
        num_permutations,
        permutation_rng,
        progress=progress,
    )
    num_tested = sum(map(len, p_values))
    ranked = [
        pair
        for axis, pairs, p in zip(axes, measured, p_values, strict=True)
        for pair in _judge(axis, pairs, p, num_tested, guard)
    ]
    ranked.sort(key=lambda pair: -pair.divergences[divergence])
    return Discovery(divergence, counts.total_rows, guard, axes, tuple(ranked))


@dataclass(frozen=True, eq=False)
class _MeasuredPairs:
    """Pairs (head, tail) of an axis before the permutation test, in arrays with one entry per pair."""

    histograms: Array
    pairs: Array
    divergences: dict[str, Array]
    intervals: Array
    size_reasons: list[tuple[str, ...]]

    def large_enough(self) -> tuple[Array, Array]:
        """Returns the histograms of the cohorts to be tested, and the pairs by their numbers therein."""
        pairs = self.pairs[[not reasons for reasons in self.size_reasons]]
        tested = np.unique(pairs)
        return self.histograms[tested], np.searchsorted(tested, pairs)


def _measure_axis(
    axis: AxisSummary, total_rows: int, divergence: str, guard: Guard, num_bootstrap: int, rng: np.random.Generator
) -> _MeasuredPairs:
    histograms = np.array([cohort.histogram for cohort in axis.cohorts], np.int64)
    order = sorted(range(len(axis.cohorts)), key=lambda number: _head_first(axis.cohorts[number]))
    pairs = np.array(list(itertools.combinations(order, 2)), np.int64).reshape(-1, 2)
    # An empty cohort has no distribution: its pairs keep divergence 0 and are refused by size.
    filled = (histograms.sum(-1)[pairs] > 0).all(-1)
    divergences = {name: np.zeros(len(pairs)) for name in DIVERGENCES}
    intervals = np.zeros((len(pairs), 2))
    if filled.any():
        for name, measure in DIVERGENCES.items():
            divergences[name][filled] = pair_divergences(measure, histograms[None], pairs[filled])[0]
        intervals[filled] = bootstrap_intervals(DIVERGENCES[divergence], histograms, pairs[filled], num_bootstrap, rng)
    size_reasons = [
        tuple(
            reason
            for role, cohort in (("head", axis.cohorts[head]), ("tail", axis.cohorts[tail]))
            for reason in guard.size_reasons(role, cohort.cohort, cohort.rows, total_rows, cohort.positives)
        )
        for head, tail in pairs.tolist()
    ]
    return _MeasuredPairs(histograms, pairs, divergences, intervals, size_reasons)


def _judge(axis: AxisSummary, measured: _MeasuredPairs, p_values: Array, num_tested: int, guard: Guard) -> list[Pair]:
    tested = iter(p_values.tolist())
    judged = []
    for number, (head, tail) in enumerate(measured.pairs.tolist()):
        reasons = measured.size_reasons[number]
        p_value = None if reasons else next(tested)
        judged.append(
            Pair(
                axis.name,
                axis.cohorts[head],
                axis.cohorts[tail],
                {name: float(values[number]) for name, values in measured.divergences.items()},
                (float(measured.intervals[number, 0]), float(measured.intervals[number, 1])),
                p_value,
                reasons if p_value is None else guard.chance_reasons(p_value, num_tested),
            )
        )
    return judged


def _head_first(cohort: CohortSummary) -> tuple[float, float]:
    rate = cohort.mean_prediction if cohort.positive_rate is None else cohort.positive_rate
    return -rate, -cohort.mean_prediction


def _summarize(counts: CohortCounts) -> tuple[AxisSummary, ...]:
    numbers = itertools.count()
    rows = counts.rows
    return tuple(
        AxisSummary(
            cut.axis,
            tuple(
                CohortSummary(
                    cohort,
                    int(rows[number := next(numbers)]),
                    None if counts.positives is None else int(counts.positives[number]),
                    float(counts.prediction_sums[number] / max(rows[number], 1)),
                    tuple(counts.histograms[number].tolist()),
                )
                for cohort in cut.cohorts
            ),
        )
        for cut in counts.cuts
    )


def _check_settings(divergence: str, guard: Guard, num_bootstrap: int, num_permutations: int) -> None:
    if divergence not in DIVERGENCES:
        raise ValueError(f"`divergence` must be one of {', '.join(DIVERGENCES)}. Received: divergence={divergence!r}")
    if num_bootstrap < 1:
        raise ValueError(f"`num_bootstrap` must be at least 1. Received: num_bootstrap={num_bootstrap}")
    if 1 / (num_permutations + 1) > guard.max_p_value:
        raise ValueError(
            f"`num_permutations` must be at least {int(np.ceil(1 / guard.max_p_value)) - 1} for p-values to reach "
            f"max_p_value={guard.max_p_value:g}. Received: num_permutations={num_permutations}"
        )
