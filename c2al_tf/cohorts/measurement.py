"""Pairs of an axis, measured: divergences beyond chance, intervals, and how surprising the predictions are."""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..blocks import Variation
from ..types import Array
from .chance import FIT_DRAWS, SignedCohort, signed_differences, signed_noise, surprise
from .counts import CohortCounts
from .divergence import DIVERGENCES, pearson
from .guard import Guard
from .resampling import (
    beyond_chance,
    design_effect,
    independent_noise,
    null_tables,
    pair_divergences,
    resampled_histograms,
)
from .results import AxisSummary, CohortSummary


@dataclass(frozen=True, eq=False)
class MeasuredPairs:
    """Pairs (head, tail) of an axis, in arrays with one entry per pair, before they are judged.

    Args:
        pairs: Numbers of the cohorts in the axis, of shape (pairs, 2).
        offset: Number of the axis' first cohort in the counts.
        divergences: Measure to estimates less their null means, mean over the seeds, of shape (pairs,).
        resampled: The measure that ranks, on every seed and resample, around its own estimate: (seeds, resamples,
            pairs); 0 for a pair that the guard refuses by its size.
        intervals: 95 % intervals of the measure that ranks, of shape (pairs, 2); NaN with rows in fewer than 2 blocks,
            and for a pair that the guard refuses by its size.
        surprise: Of the predictions under every draw of signs, of shape (draws, pairs); 0 for a pair that the guard
            refuses by its size.
        size_reasons: Why the guard refuses a pair by its size.
    """

    pairs: Array
    offset: int
    divergences: dict[str, Array]
    resampled: Array
    intervals: Array
    surprise: Array
    size_reasons: list[dict[str, str]]


def measure_axis(
    axis: AxisSummary,
    counts: CohortCounts,
    cohorts: slice,
    total_rows: int,
    divergence: str,
    guard: Guard,
    signs: Array,
    draws: Array,
    rng: np.random.Generator,
) -> MeasuredPairs:
    """Measures all pairs of an axis; those that the guard refuses by their size without intervals and tests.

    Crosses of two axes have mostly such pairs, and about half of the time of a pair goes into intervals and tests.

    Args:
        axis: The axis with its cohorts.
        counts: Counts of all axes.
        cohorts: Where those of the axis are among them.
        total_rows: Training rows.
        divergence: The measure that ranks.
        guard: What sizes it asks for.
        signs: Of the blocks, from `random_signs`.
        draws: How often each block is drawn in each resample, of shape (resamples, blocks).
        rng: Source of randomness.
    """
    histograms = counts.histograms[:, cohorts]
    order = sorted(range(len(axis.cohorts)), key=lambda number: _head_first(axis.cohorts[number]))
    pairs = np.array(list(itertools.combinations(order, 2)), np.int64).reshape(-1, 2)
    # An empty cohort has no distribution: its pairs keep divergence 0 and are refused.
    filled = np.flatnonzero((histograms[0].sum((-2, -1))[pairs] > 0).all(-1))
    reasons = [
        _size_reasons(axis.cohorts[head], axis.cohorts[tail], total_rows, guard) for head, tail in pairs.tolist()
    ]
    tested = np.flatnonzero([not found for found in reasons])
    by_seed = {name: np.zeros((len(histograms), len(pairs))) for name in DIVERGENCES}
    resampled = np.zeros((len(histograms), len(draws), len(pairs)))
    statistics = np.zeros((len(signs), len(tested)))
    for s, blocks in enumerate(histograms):
        signed = {c: SignedCohort.of(blocks[c].astype(np.float64), signs) for c in np.unique(pairs[filled]).tolist()}
        for name, values in _beyond_chance(blocks.sum(1, dtype=np.int64), signed, pairs[filled], rng).items():
            by_seed[name][s, filled] = values
        for number, (head, tail) in enumerate(pairs[tested].tolist()):
            statistics[:, number] += pearson(*signed_differences(signed[head], signed[tail])) / len(histograms)
        if len(tested):
            drawn = pair_divergences(DIVERGENCES[divergence], resampled_histograms(blocks, draws), pairs[tested])
            resampled[s][:, tested] = drawn - drawn.mean(0) + by_seed[divergence][s, tested]
    surprises = np.zeros((len(signs) - FIT_DRAWS, len(pairs)))
    surprises[:, tested] = surprise(statistics)
    return MeasuredPairs(
        pairs,
        cohorts.start,
        {name: values.mean(0) for name, values in by_seed.items()},
        resampled,
        _intervals(by_seed[divergence], resampled, histograms[0], pairs, tested),
        surprises,
        reasons,
    )


def _beyond_chance(
    histograms: Array, signed: Mapping[int, SignedCohort], pairs: Array, rng: np.random.Generator
) -> dict[str, Array]:
    """One baseline's divergences of the pairs, by measure, each less its null mean."""
    plain = {name: pair_divergences(measure, histograms[None], pairs)[0] for name, measure in DIVERGENCES.items()}
    for number, (head, tail) in enumerate(pairs.tolist()):
        noise = signed_noise(signed[head], signed[tail], FIT_DRAWS)
        tables = null_tables(histograms[head], histograms[tail], rng)
        independent = independent_noise(histograms[head], histograms[tail], rng)
        m = _mean_shares(histograms[head], histograms[tail])
        for name, measure in DIVERGENCES.items():
            effect = design_effect(measure, noise, independent, m)
            plain[name][number] = beyond_chance(measure, float(plain[name][number]), tables, effect)
    return plain


def _mean_shares(first: Array, second: Array) -> Array:
    """The mean of two cohorts' shares in the buckets with rows, of shape (filled,)."""
    m = first / first.sum() / 2 + second / second.sum() / 2
    return np.asarray(m[m > 0])


def _intervals(by_seed: Array, resampled: Array, histograms: Array, pairs: Array, tested: Array) -> Array:
    """Intervals (pairs, 2) over seeds and blocks; the mean over the seeds lies in its middle."""
    intervals = np.full((len(pairs), 2), np.nan)
    num_filled = (histograms.sum(-1) > 0)[pairs].any(1).sum(-1)
    for number in tested[num_filled[tested] >= 2]:
        center = by_seed[:, number].mean()
        margin = Variation.of(by_seed[:, number], resampled[:, :, number], int(num_filled[number])).margin
        intervals[number] = center - margin, center + margin
    return intervals


def _size_reasons(head: CohortSummary, tail: CohortSummary, total_rows: int, guard: Guard) -> dict[str, str]:
    reasons: dict[str, str] = {}
    for role, cohort in (("head", head), ("tail", tail)):
        found = guard.size_reasons(role, cohort.cohort, cohort.training_rows, total_rows, cohort.training_positives)
        if cohort.rows == 0:
            found["rows"] = f"{role} cohort `{cohort.cohort}` has no row with a prediction"
        for rule, words in found.items():
            reasons[rule] = f"{reasons[rule]}; {words}" if rule in reasons else words
    return reasons


def _head_first(cohort: CohortSummary) -> tuple[float, float]:
    rate = cohort.mean_prediction if cohort.positive_rate is None else cohort.positive_rate
    return -rate, -cohort.mean_prediction
