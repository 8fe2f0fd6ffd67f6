"""What chance alone does to divergences: bootstrap intervals and permutation p-values, from histograms alone."""

from collections.abc import Callable, Sequence

import numpy as np
from scipy.stats import random_table
from tqdm import tqdm

from ..types import Array

Divergence = Callable[[Array, Array], Array]

# Elements of a temporary array: 1 MiB of float64, which stays in the cache (16 MiB took twice as long).
_MAX_ELEMENTS = 2**17

# Where SciPy's sampler of contingency tables stops being safe (tried: 1e10 works, 5e10 crashes).
_MAX_ROWS = 10**10

# A smaller spread of a divergence in [0, 1] is rounding.
_ROUNDING = 1e-12


def pair_divergences(divergence: Divergence, histograms: Array, pairs: Array) -> Array:
    """Maps histograms (replicates, cohorts, buckets) and pairs (pairs, 2) of cohorts to (replicates, pairs)."""
    replicates, _, buckets = histograms.shape
    step = max(1, _MAX_ELEMENTS // max(1, len(pairs) * buckets))
    parts = [
        divergence(part[:, pairs[:, 0]], part[:, pairs[:, 1]])
        for part in (histograms[start : start + step] for start in range(0, replicates, step))
    ]
    return np.concatenate(parts)


def bootstrap_intervals(
    divergence: Divergence, histograms: Array, pairs: Array, num_bootstrap: int, rng: np.random.Generator
) -> Array:
    """Returns 95 % intervals of the pairs' divergences over the rows, of shape (pairs, 2).

    Each cohort's rows are drawn anew with replacement: a multinomial draw of its histogram. Few rows in many buckets
    make a divergence too large, and drawing anew adds the same bias once more, so the draws are reflected at the
    estimate d (the "basic" bootstrap): [2 d - q(97.5 %), 2 d - q(2.5 %)], not below 0.

    Args:
        divergence: Maps two arrays (..., buckets) to (...).
        histograms: Counts of shape (cohorts, buckets); a cohort that a pair names has at least one row.
        pairs: Numbers of two cohorts each, of shape (pairs, 2).
        num_bootstrap: Draws.
        rng: Source of randomness.
    """
    if len(pairs) == 0:
        return np.zeros((0, 2))
    rows = histograms.sum(-1)
    draws = rng.multinomial(rows, histograms / np.maximum(rows, 1)[:, None], (num_bootstrap, len(rows)))
    estimate = pair_divergences(divergence, histograms[None], pairs)
    quantiles = np.quantile(pair_divergences(divergence, draws, pairs), (0.975, 0.025), axis=0)
    return np.asarray(np.maximum(2 * estimate - quantiles, 0).T)


def permutation_p_values(
    divergence: Divergence,
    tables: Sequence[tuple[Array, Array]],
    num_permutations: int,
    rng: np.random.Generator,
    *,
    progress: bool = True,
) -> list[Array]:
    """Returns each pair's p-value under permutations of predictions over rows, corrected for all pairs of all axes.

    z = (d - mean) / sd of each pair over its permutations,  M_r = max of z over all pairs in permutation r,
    p = (1 + #{r: M_r >= z}) / (num_permutations + 1)

    Permuting the predictions over an axis' rows draws its histograms with both margins fixed (a random contingency
    table), so that no rows are needed. Mean and sd include the data's own d, which treats it as one permutation
    among the others: on one axis the correction is exact. Axes are drawn independently of each other, although they
    cut the same rows: axes that resemble each other have a smaller true maximum, which errs on the safe side.

    Args:
        divergence: Maps two arrays (..., buckets) to (...).
        tables: Per axis the counts (cohorts, buckets) of its disjoint cohorts, and pairs (pairs, 2) of them.
        num_permutations: Draws.
        rng: Source of randomness.
        progress: Whether to show a bar when it takes long.

    References:
        Westfall and Young, Resampling-Based Multiple Testing (1993), section 2.
    """
    scores = []
    for histograms, pairs in tqdm(tables, desc="permuting", unit="axis", delay=2, disable=not progress):
        if len(pairs) == 0:
            scores.append(np.zeros((num_permutations + 1, 0)))
            continue
        if histograms.sum() > _MAX_ROWS:
            raise ValueError(
                f"An axis can hold at most {_MAX_ROWS:,} rows; count a sample. Received: {histograms.sum():,}"
            )
        null = random_table(histograms.sum(1), histograms.sum(0)).rvs(
            num_permutations, method="patefield", random_state=rng
        )
        d = pair_divergences(divergence, np.concatenate([histograms[None], null]), pairs)
        deviation = d.std(0)
        scores.append(np.where(deviation > _ROUNDING, (d - d.mean(0)) / np.maximum(deviation, _ROUNDING), 0.0))
    if sum(score.shape[1] for score in scores) == 0:
        return [np.zeros(0) for _ in tables]
    maxima = np.sort(np.concatenate(scores, axis=1)[1:].max(1))
    return [
        (1 + num_permutations - np.searchsorted(maxima, score[0] - _ROUNDING)) / (num_permutations + 1)
        for score in scores
    ]
