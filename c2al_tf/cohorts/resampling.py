"""Divergences of pairs, without the part that few rows give them, and how they vary over baselines and blocks."""

import numpy as np
from scipy.stats import random_table

from ..types import Array
from .divergence import Divergence

# Elements of a temporary array: 1 MiB of float64, which stays in the cache (16 MiB took twice as long).
_MAX_ELEMENTS = 2**17

# Where SciPy's sampler of contingency tables stops being safe (tried: 1e10 works, 5e10 crashes).
_MAX_ROWS = 10**10

# Draws of the null mean: its standard error is 1/8 of the divergence's own deviation under the null.
_NULL_DRAWS = 64


def pair_divergences(divergence: Divergence, histograms: Array, pairs: Array) -> Array:
    """Maps histograms (replicates, cohorts, buckets) and pairs (pairs, 2) of cohorts to (replicates, pairs)."""
    replicates, _, buckets = histograms.shape
    step = max(1, _MAX_ELEMENTS // max(1, len(pairs) * buckets))
    parts = [
        divergence.measure(part[:, pairs[:, 0]], part[:, pairs[:, 1]])
        for part in (histograms[start : start + step] for start in range(0, replicates, step))
    ]
    return np.concatenate(parts)


def null_tables(first: Array, second: Array, rng: np.random.Generator) -> Array:
    """Draws the pair's rows anew into its cohorts, without regard to the predictions: (draws, 2, buckets).

    Both margins stay: the cohorts keep their sizes, the buckets their rows.

    Args:
        first: Rows per bucket of a cohort, of shape (buckets,), at least one.
        second: Of another one.
        rng: Source of randomness.
    """
    rows = np.array([first.sum(), second.sum()], np.int64)
    if rows.sum() > _MAX_ROWS:
        raise ValueError(f"A pair can hold at most {_MAX_ROWS:,} rows; count a sample. Received: {rows.sum():,}")
    table = random_table(rows, (first + second).astype(np.int64))
    return np.asarray(table.rvs(_NULL_DRAWS, method="patefield", random_state=rng))


def independent_noise(first: Array, second: Array, rng: np.random.Generator) -> Array:
    """What independent rows would add to the difference of two cohorts' shares: (draws, filled)."""
    filled = first + second > 0
    noise = np.zeros((_NULL_DRAWS, np.count_nonzero(filled)))
    for histogram, sign in ((first[filled], 1.0), (second[filled], -1.0)):
        n = histogram.sum()
        noise += sign * (rng.multinomial(n, histogram / n, _NULL_DRAWS) - histogram) / n
    return noise


def design_effect(divergence: Divergence, noise: Array, independent: Array, m: Array) -> float:
    """How much larger the mean squared distance of near histograms is than of independent rows.

        mean over draws of d^2(noise) / mean over draws of d^2(independent)

    1 where rows are independent. Larger where the rows of a unit resemble each other and lie in one cohort, smaller
    where they lie in both.

    Args:
        divergence: The measure, whose `local` form is d^2.
        noise: From `chance.signed_noise`, of shape (draws, filled).
        independent: From `independent_noise`, of shape (draws, filled).
        m: Mean of the two cohorts' shares in the filled buckets, of shape (filled,).
    """
    expected = float(divergence.local(independent, m).mean())
    return float(divergence.local(noise, m).mean()) / expected if expected > 0 else 1.0


def beyond_chance(divergence: Divergence, value: float, tables: Array, effect: float) -> float:
    """A pair's divergence less what it has where cohorts do not differ: few rows in many buckets diverge by themselves.

        d^2 - E_0[d^2]    with d a distance, E_0 the mean over tables, times the design effect; then its signed root

    Squares of distances have means that add up, as variances do. `js`, `kl` and `cosine` are such squares themselves,
    `wasserstein` is a distance. Below 0 the cohorts differ less than chance alone makes them.

    Args:
        divergence: The measure.
        value: The pair's divergence as it is.
        tables: From `null_tables`.
        effect: From `design_effect`.
    """
    power = 2 / divergence.degree
    null = divergence.measure(tables[:, 0], tables[:, 1]) ** power
    squared = value**power - float(null.mean()) * effect
    return float(np.sign(squared) * np.abs(squared) ** (1 / power))


def resampled_histograms(histograms: Array, draws: Array) -> Array:
    """Maps counts (cohorts, blocks, buckets) and how often each block is drawn (replicates, blocks) to their sums.

    Of shape (replicates, cohorts, buckets). A cohort of which no block is drawn keeps its own histogram.
    """
    drawn = np.einsum("rb,cbk->rck", draws, histograms.astype(np.float64), optimize=True)
    empty = drawn.sum(-1) == 0
    return np.where(empty[..., None], histograms.sum(1), drawn)
