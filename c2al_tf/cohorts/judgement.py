"""Which measured pairs the guard accepts: by their sizes, then their predictions, then their labels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..types import Array
from .chance import FIT_DRAWS, corrected_p_values, rate_scores, studentized
from .counts import CohortCounts
from .divergence import DIVERGENCES
from .guard import Guard
from .measurement import MeasuredPairs

MIN_EXPECTED = 25
"""Positives (and negatives) that the smaller cohort of a pair would have, did rates not differ, for a test of labels.
With 15 the test at 1 % passes 4 % of equal rates, with 50 1.7 %."""


@dataclass(frozen=True)
class Judgement:
    """p-values of a pair and why the guard refuses it, as in `Pair`."""

    p_value: float | None
    label_p_value: float | None
    reasons: Mapping[str, str]


def judge_pairs(counts: CohortCounts, measured: Sequence[MeasuredPairs], guard: Guard, signs: Array) -> list[Judgement]:
    """Judges every pair: by its size, then by its predictions, then by its labels.

    Only pairs that pass are asked the next question: fewer tests leave more power to each. Sizes do not depend on the
    predictions, nor predictions on the labels of these rows, so every draw tests the same pairs.
    """
    divergences = {name: np.concatenate([axis.divergences[name] for axis in measured]) for name in DIVERGENCES}
    reasons = [reasons for axis in measured for reasons in axis.size_reasons]
    p_values: list[float | None] = [None] * len(reasons)
    tested = [number for number, found in enumerate(reasons) if not found]
    surprises = np.concatenate([axis.surprise for axis in measured], axis=1)
    for number, p_value in zip(tested, corrected_p_values(surprises[:, tested]).tolist(), strict=True):
        p_values[number] = p_value
        values = {name: float(divergences[name][number]) for name in DIVERGENCES}
        reasons[number] = guard.prediction_reasons(values, p_value, len(tested))
    label_p_values: list[float | None] = [None] * len(reasons)
    if counts.positives is not None:
        asked = [number for number in tested if not reasons[number]]
        pairs = np.concatenate([axis.offset + axis.pairs for axis in measured])[asked]
        for number, p_value in zip(asked, _label_p_values(counts, pairs, signs).tolist(), strict=True):
            label_p_values[number] = p_value
            reasons[number] = guard.label_reasons(p_value, len(asked))
    return [Judgement(*judged) for judged in zip(p_values, label_p_values, reasons, strict=True)]


def _label_p_values(counts: CohortCounts, pairs: Array, signs: Array) -> Array:
    """Of the larger of two differences, that of the positive rate and that of the calibration: (pairs,).

    1 where a cohort's rows with predictions are too few to show a difference of rates: with a handful of positives the
    signs of the blocks are all but equal, and would call anything a difference.
    """
    assert counts.positives is not None
    rows = counts.histograms[0].sum(-1, dtype=np.int64)
    # A prediction of 0 is one of 1e-6, as for the buckets.
    predictions = np.maximum(counts.prediction_sums.mean(0), 1e-6 * rows)
    rate, calibration = (rate_scores(counts.positives, sums, pairs) for sums in (rows, predictions))
    kept = np.delete(signs, slice(1, 1 + FIT_DRAWS), axis=0)
    p_values = corrected_p_values(np.maximum(studentized(rate, kept), studentized(calibration, kept)))
    n, positives = rows.sum(-1)[pairs], counts.positives.sum(-1)[pairs]
    shared = positives.sum(1) / np.maximum(n.sum(1), 1)
    expected = n.min(1) * np.minimum(shared, 1 - shared)
    return np.where(expected >= MIN_EXPECTED, p_values, 1.0)
