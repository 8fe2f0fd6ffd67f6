"""Confidence intervals of an NE difference that resample what could have been otherwise: seeds and rows."""

from dataclasses import dataclass

import numpy as np

from ..blocks import Variation
from ..types import Array


@dataclass(frozen=True)
class NEDifference:
    """NE_diff = NE_arm / NE_reference - 1 of one slice, in percent; below 0 the arm is better.

    Args:
        percent: Mean over the seeds; None where the reference has no loss (no rows).
        low: Lower end of the 95 % interval; None where rows of fewer than two blocks fall into the slice.
        high: Upper end.
        by_seed: Each seed's own.
        variation: How it varies over seeds and rows, from which the interval follows; None without one.
    """

    percent: float | None
    low: float | None
    high: float | None
    by_seed: tuple[float | None, ...]
    variation: Variation | None = None


def ne_differences(losses: Array, reference_losses: Array, counts: Array) -> list[NEDifference]:
    r"""NE_diff of an arm against the reference arm, with a paired 95 % interval, slice by slice.

    With `l[k, s, i]` the summed log loss of seed `k`, slice `s` and block `i`, and `w` a resample's counts:

        d[k, s](w) = sum_i w_i l_arm[k, s, i] / sum_i w_i l_ref[k, s, i] - 1        the entropy in NE cancels
        D[s]       = mean_k d[k, s](1)                                              the figure

    Seed `k` has the same initialisation and row order in both arms, and a resample has the same rows in both and in
    every seed. The interval is `D +- t(df) sqrt(V)`, with the variance and the degrees of freedom of `Variation`.

    With one seed `V = v_rows`: rows alone, and another seed's model may lie far outside.

    Args:
        losses: `(seeds, slices, blocks)` sums of (weighted) log loss of the arm.
        reference_losses: The same of the reference arm.
        counts: `(resamples, blocks)` from `resample_counts`; the same for every arm keeps all arms paired.

    Returns:
        One difference per slice.
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
    variation = Variation.of(by_seed, resampled, num_filled)
    margin = variation.margin
    return NEDifference(100 * center, 100 * (center - margin), 100 * (center + margin), each, variation)
