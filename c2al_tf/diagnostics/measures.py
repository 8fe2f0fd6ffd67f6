"""How dense attention weights are: measures of arrays."""

import math

import numpy as np

from ..types import Array

NEAR_ZERO = 0.01
"""A weight is near zero if it is smaller in size than this share of the root mean square."""


def measures_of(Y: Array) -> dict[str, float]:
    """The measures of attention weights Y, (rows, num_fields, num_outputs) or (num_fields, num_outputs)."""
    Y = Y.astype(np.float64)
    return {
        "entropy": entropy(Y),
        "gini": gini(Y),
        "kurtosis": kurtosis(Y),
        "effective_rank": effective_rank(Y),
        "near_zero": share_near_zero(Y),
    }


def entropy(Y: Array) -> float:
    """Entropy of |Y| over the fields as a share of its maximum, log num_fields; the mean over rows and outputs.

    It is 1 if all fields weigh the same, 0 if one has all the weight. Columns of zeros do not count.
    """
    p = _shares(Y)
    terms = np.where(p > 0, p * np.log(np.where(p > 0, p, 1)), 0)
    return float(np.mean(-terms.sum(axis=1)) / math.log(max(p.shape[1], 2))) if len(p) else math.nan


def gini(Y: Array) -> float:
    """Gini index of |Y| over the fields; the mean over rows and outputs.

    With a_1 <= ... <= a_n it is sum_i (2 i - n - 1) a_i / (n sum_i a_i): 0 if all fields weigh the same, (n - 1) / n if
    one has all the weight. Columns of zeros do not count.

    References:
        Hurley and Rickard, arXiv 0811.4706.
    """
    ordered = np.sort(_shares(Y), axis=1)
    n = ordered.shape[1]
    ranks = 2 * np.arange(1, n + 1) - n - 1
    return float(np.mean(ordered @ ranks) / n) if len(ordered) else math.nan


def kurtosis(values: Array) -> float:
    """Excess kurtosis of all values together: 0 for a normal distribution, larger if more are far out or near zero."""
    deviations = values - np.mean(values)
    variance = np.mean(deviations**2)
    return float(np.mean(deviations**4) / variance**2 - 3) if variance > 0 else math.nan


def effective_rank(Y: Array) -> float:
    """The exponential of the entropy of each matrix's singular values as shares of their sum; mean over rows.

    Between 1 and the smaller side of the matrix. Matrices of zeros do not count.

    References:
        Roy and Vetterli, The effective rank, EUSIPCO 2007.
    """
    values = np.linalg.svd(Y.reshape(-1, *Y.shape[-2:]), compute_uv=False)
    totals = values.sum(axis=1, keepdims=True)
    p = (values / np.where(totals > 0, totals, 1))[totals[:, 0] > 0]
    terms = np.where(p > 0, p * np.log(np.where(p > 0, p, 1)), 0)
    return float(np.mean(np.exp(-terms.sum(axis=1)))) if len(p) else math.nan


def share_near_zero(values: Array) -> float:
    """Share of values that are smaller in size than `NEAR_ZERO` times their root mean square, or 0."""
    size = np.abs(values.astype(np.float64))
    return float(np.mean((size < NEAR_ZERO * np.sqrt(np.mean(size**2))) | (size == 0)))


def dead_units(hidden: Array) -> float:
    """Share of hidden units, (rows, units), that are 0 or negative on all rows."""
    return float(np.mean((hidden <= 0).all(axis=0)))


def _shares(Y: Array) -> Array:
    """|Y| of each row and output as shares of its sum over the fields, (rows * outputs, fields), without sums of 0."""
    columns = np.moveaxis(np.abs(Y), -2, -1).reshape(-1, Y.shape[-2])
    totals = columns.sum(axis=1, keepdims=True)
    return (columns / np.where(totals > 0, totals, 1))[totals[:, 0] > 0]
