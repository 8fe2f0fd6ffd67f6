"""Confidence intervals of an NE difference that resample what could have been otherwise: seeds and rows."""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from ..types import Array

CONFIDENCE = 0.95


@dataclass(frozen=True)
class NEDifference:
    """NE_diff = NE_arm / NE_reference - 1 of one slice, in percent; below 0 the arm is better.

    Args:
        percent: Mean over the seeds; None where the reference has no loss (no rows).
        low: Lower end of the 95 % interval; None where rows of fewer than two blocks fall into the slice.
        high: Upper end.
        by_seed: Each seed's own.
    """

    percent: float | None
    low: float | None
    high: float | None
    by_seed: tuple[float | None, ...]


def ne_differences(losses: Array, reference_losses: Array, counts: Array) -> list[NEDifference]:
    r"""NE_diff of an arm against the reference arm, with a paired 95 % interval, slice by slice.

    With `l[k, s, i]` the summed log loss of seed `k`, slice `s` and block `i`, and `w` a resample's counts:

        d[k, s](w) = sum_i w_i l_arm[k, s, i] / sum_i w_i l_ref[k, s, i] - 1        the entropy in NE cancels
        D[s]       = mean_k d[k, s](1)                                              the figure

    Seed `k` has the same initialisation and row order in both arms, and a resample has the same rows in both and in
    every seed. `d` varies with the rows in a way that all seeds share (variance R), with the seed (S), and with the
    rows in a way of each seed's own (I), so the figure's variance is `R + (S + I) / K`. What the data show of it:

        v_seeds = variance of d[k, s](1) over the K seeds, divisor K - 1            expects S + I
        v_each  = mean over k of the bootstrap variance of d[k, s](w)               expects R + I
        v_rows  = bootstrap variance of mean_k d[k, s](w)                           expects R + I / K
        shared  = (K v_rows - v_each) / (K - 1)                                     expects R
        V       = max(v_seeds / K + shared, v_rows)

    `v_seeds + v_rows` alone would count I twice. A percentile bootstrap over few seeds is too narrow twice over: its
    variance is `(K - 1) / K` of `v_seeds / K`, and it ignores that `K` numbers say little about a variance. So the
    divisor is `K - 1`, and the interval is `D +- t(df) sqrt(V)`, with Satterthwaite's degrees of freedom for a sum of
    two estimated variances, `a = v_seeds / K` and `b = V - a`:

        df = V^2 / (a^2 / (K - 1) + b^2 / (blocks with rows - 1))

    With one seed `V = v_rows`: rows alone, and another seed's model may lie far outside.

    Args:
        losses: `(seeds, slices, blocks)` sums of (weighted) log loss of the arm.
        reference_losses: The same of the reference arm.
        counts: `(resamples, blocks)` from `resample_counts`; the same for every arm keeps all arms paired.

    Returns:
        One difference per slice.

    References:
        A. B. Owen, "The pigeonhole bootstrap", Annals of Applied Statistics 1 (2007); F. E. Satterthwaite, "An
        approximate distribution of estimates of variance components", Biometrics Bulletin 2 (1946).
    """
    if losses.shape != reference_losses.shape or losses.shape[-1:] != counts.shape[-1:]:
        raise ValueError(
            "`losses` and `reference_losses` must have one shape (seeds, slices, blocks), and `counts` (resamples, "
            f"blocks). Received: {losses.shape}, {reference_losses.shape} and {counts.shape}"
        )
    by_seed = _relative(losses.sum(axis=-1), reference_losses.sum(axis=-1))
    resampled = _relative(losses @ counts.T, reference_losses @ counts.T)
    num_filled = (reference_losses > 0).any(axis=0).sum(axis=-1)
    return [_difference(by_seed[:, s], resampled[:, s], int(num_filled[s])) for s in range(losses.shape[1])]


def _relative(losses: Array, reference_losses: Array) -> Array:
    undefined = np.full(losses.shape, np.nan)
    return np.divide(losses, reference_losses, out=undefined, where=reference_losses > 0) - 1


def _difference(by_seed: Array, resampled: Array, num_filled: int) -> NEDifference:
    """One slice: its `(seeds,)` differences and their `(seeds, resamples)` values under resampling."""
    each = tuple(float(100 * d) if np.isfinite(d) else None for d in by_seed)
    if None in each:
        return NEDifference(None, None, None, each)
    center = float(by_seed.mean())
    # A resample without a row of a tiny slice says nothing of it.
    resampled = resampled[:, np.isfinite(resampled).all(axis=0)]
    if num_filled < 2 or resampled.shape[1] < 2:
        return NEDifference(100 * center, None, None, each)
    variance, df = _variance(by_seed, resampled, num_filled)
    margin = float(stats.t.ppf((1 + CONFIDENCE) / 2, df)) * variance**0.5
    return NEDifference(100 * center, 100 * (center - margin), 100 * (center + margin), each)


def _variance(by_seed: Array, resampled: Array, num_filled: int) -> tuple[float, float]:
    """The figure's variance V and its degrees of freedom."""
    num_seeds = len(by_seed)
    v_rows = float(resampled.mean(axis=0).var(ddof=1))
    if num_seeds == 1:
        return v_rows, num_filled - 1
    a = float(by_seed.var(ddof=1)) / num_seeds
    v_each = float(resampled.var(axis=1, ddof=1).mean())
    shared = max((num_seeds * v_rows - v_each) / (num_seeds - 1), 0.0)
    variance = max(a + shared, v_rows)
    if variance == 0:
        return 0.0, 1.0
    b = variance - a
    return variance, variance**2 / (a**2 / (num_seeds - 1) + b**2 / (num_filled - 1))
