"""What chance alone does to a pair of cohorts: a null from the pair's own blocks, and one correction over all pairs.

The null of a pair: its two cohorts have one distribution of predictions (or one positive rate, or one calibration), and
blocks are independent. What block b adds to the difference of the cohorts then has mean 0 whatever units it holds, also
where a unit lies in both cohorts, so its sign may be flipped. All pairs of all axes take the same signs, which keeps
their dependence: the maximum over pairs is a valid correction, and pairs that resemble each other cost no power.
"""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from ..types import Array

FIT_DRAWS = 300
"""Draws of signs that give the scale of a pair's statistic. Those for the p-values come on top."""

# A smaller difference is rounding.
_ROUNDING = 1e-12


def random_signs(num_draws: int, num_blocks: int, rng: np.random.Generator) -> Array:
    """Returns signs of shape (1 + num_draws, num_blocks): first the data as they are, then random ones."""
    signs = rng.choice(np.array([-1.0, 1.0]), (1 + num_draws, num_blocks))
    signs[0] = 1.0
    return signs


@dataclass(frozen=True, eq=False)
class SignedCohort:
    """A cohort's histograms under every draw of signs, from which pairs are made.

    Args:
        histogram: Rows per bucket, of shape (buckets,).
        signed_histograms: sum_b e_b h_b, of shape (draws, buckets).
        signed_rows: sum_b e_b n_b, of shape (draws,).
    """

    histogram: Array
    signed_histograms: Array
    signed_rows: Array

    @classmethod
    def of(cls, blocks: Array, signs: Array) -> "SignedCohort":
        """Counts of shape (blocks, buckets) under signs of shape (draws, blocks)."""
        return cls(blocks.sum(0, dtype=np.float64), signs @ blocks, signs @ blocks.sum(1, dtype=np.float64))


def signed_differences(first: SignedCohort, second: SignedCohort) -> tuple[Array, Array]:
    """The difference D of two cohorts' shares under every draw of signs, (draws, filled), and what both share, M.

        M = (h_1 + h_2) / (n_1 + n_2)                                          of the pair's own rows
        D = sum_b e_b [(h_1b - n_1b M) / n_1 - (h_2b - n_2b M) / n_2]          e_b = +-1; all +1: the difference

    Only buckets with rows are there. The statistic that is tested is Pearson's, X^2 = sum of D^2 / M. Divergences
    themselves are unsuitable: a bucket with one row of a small cohort adds more to them than its mirror image, which
    no rows could give.

    Args:
        first: A cohort with at least one row.
        second: Another one.

    References:
        J. Hemerik, J. J. Goeman, L. Finos, "Robust testing in generalized linear models by sign flipping score
        contributions", Journal of the Royal Statistical Society B 82 (2020).
    """
    n_1, n_2 = first.histogram.sum(), second.histogram.sum()
    M = (first.histogram + second.histogram) / (n_1 + n_2)
    filled = M > 0
    M = M[filled]
    D = first.signed_histograms[:, filled] / n_1 - second.signed_histograms[:, filled] / n_2
    D -= (first.signed_rows / n_1 - second.signed_rows / n_2)[:, None] * M
    return D, M


def signed_noise(first: SignedCohort, second: SignedCohort, num_draws: int) -> Array:
    """The difference of two cohorts' shares under the first random signs, each around its own: (num_draws, filled).

    sum_b e_b [(h_1b - n_1b P_1) / n_1 - (h_2b - n_2b P_2) / n_2],    P_i = h_i / n_i

    `signed_differences` are around what both share, and hold the difference of the cohorts, too.
    """
    filled = first.histogram + second.histogram > 0
    draws = slice(1, 1 + num_draws)
    noise = np.zeros((len(first.signed_rows[draws]), np.count_nonzero(filled)))
    for cohort, sign in ((first, 1.0), (second, -1.0)):
        n = cohort.histogram.sum()
        P = cohort.histogram[filled] / n
        noise += sign * (cohort.signed_histograms[draws, filled] - cohort.signed_rows[draws, None] * P) / n
    return noise


def rate_scores(positives: Array, sums: Array, pairs: Array) -> Array:
    """What each block adds to the differences of the pairs' ratios y / x, of shape (pairs, blocks).

        t_b = (y_1b - r x_1b) / x_1 - (y_2b - r x_2b) / x_2,    r = (y_1 + y_2) / (x_1 + x_2)

    With x the rows, y / x is the positive rate; with x the sums of the predictions, the inverse of the calibration.

    Args:
        positives: y, of shape (cohorts, blocks).
        sums: x, of shape (cohorts, blocks), with a sum above 0 for every cohort that a pair names.
        pairs: Numbers of two cohorts each, of shape (pairs, 2).
    """
    y, x = positives[pairs].astype(np.float64), sums[pairs].astype(np.float64)
    ratio = y.sum((1, 2)) / x.sum((1, 2))
    residuals = (y - ratio[:, None, None] * x) / x.sum(2, keepdims=True)
    return np.asarray(residuals[:, 0] - residuals[:, 1])


def studentized(scores: Array, signs: Array) -> Array:
    """|sum_b e_b t_b| / sqrt(sum_b t_b^2) of scores (pairs, blocks) under signs (draws, blocks): (draws, pairs)."""
    spread = np.sqrt(np.square(scores).sum(1))
    return np.abs(signs @ scores.T) / np.maximum(spread, np.finfo(np.float64).tiny)


def surprise(statistics: Array) -> Array:
    """Maps statistics (draws, pairs) to -log of each one's chance under its own pair's null.

    Pairs have nulls of different shape, and a maximum over pairs needs one scale. So the null of each pair is fitted
    by a Pearson III distribution (a shifted gamma), to its first `FIT_DRAWS` draws. These are left out of the result,
    of shape (draws - FIT_DRAWS, pairs): what the fit has seen looks less surprising than what it has not.
    """
    fitted = statistics[1 : 1 + FIT_DRAWS]
    deviation = fitted.std(0)
    varies = deviation > _ROUNDING * np.maximum(fitted.mean(0), _ROUNDING)
    z = np.where(varies, (statistics - fitted.mean(0)) / np.where(varies, deviation, 1.0), 0.0)
    skewness = np.zeros(len(deviation))
    skewness[varies] = np.maximum(stats.skew(fitted[:, varies], axis=0), 0.0)
    return np.asarray(-stats.pearson3.logsf(np.delete(z, slice(1, 1 + FIT_DRAWS), axis=0), skewness))


def corrected_p_values(statistics: Array) -> Array:
    """p-values corrected for all pairs, of shape (pairs,), from statistics (draws, pairs) on one scale, the data first.

    p = (1 + #{r: max over pairs of draw r >= the pair's own}) / draws

    References:
        P. H. Westfall, S. S. Young, Resampling-Based Multiple Testing (1993), section 2.
    """
    maxima = np.sort(statistics[1:].max(1)) if statistics.shape[1] else np.zeros(0)
    smaller = np.searchsorted(maxima, statistics[0] - _ROUNDING)
    return np.asarray((1 + len(maxima) - smaller) / len(statistics))
