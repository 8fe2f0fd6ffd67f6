"""Which slices are called better or worse, where sixty are looked at and some look so by chance."""

import dataclasses
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq, nnls
from scipy.stats import false_discovery_control, t as student

from ..blocks import Variation
from ..types import Array
from .counts import ALL
from .intervals import NEDifference

FALSE_DISCOVERY_RATE = 0.05

# Rounds of reweighting: a variance is known to a share of itself, so the fit weighs by its own result.
_ROUNDS = 5
# A slice weighs at most as one with a thousandth of the typical variance.
_SMALLEST = 1e-3


@dataclass(frozen=True)
class Claims:
    """What is said of an arm's slices.

    Args:
        better: Slices on which the arm is better than the reference, the best first.
        worse: Slices on which it is worse, the worst first.
        q_values: Of each slice that was not named beforehand: the false discovery rate at which it would be called.
    """

    better: tuple[str, ...]
    worse: tuple[str, ...]
    q_values: Mapping[str, float]


def claim(differences: Mapping[str, NEDifference], named: Collection[str]) -> Claims:
    """Calls slices better or worse.

    Those of `named`, which were chosen beforehand, by their own 95 % intervals. The others are tested together, with a
    false discovery rate of 5 %: the procedure of Benjamini and Hochberg on the p-values of `p_values`. With one seed no
    slice is called anything: how much another seed changes is not known.

    References:
        Y. Benjamini, Y. Hochberg, "Controlling the false discovery rate", Journal of the Royal Statistical Society B 57
        (1995).
    """
    if any(d.variation is not None and d.variation.num_seeds == 1 for d in differences.values()):
        return Claims((), (), {})
    others = {name: p for name, p in p_values(differences).items() if name not in named}
    q_values = dict(zip(others, false_discovery_control(list(others.values())).tolist(), strict=True)) if others else {}
    called = [name for name, q in q_values.items() if q <= FALSE_DISCOVERY_RATE]
    called += [name for name in named if _excludes_zero(differences[name])]
    percents = {name: differences[name].percent or 0.0 for name in called}
    ordered = sorted(called, key=lambda name: percents[name])
    return Claims(
        tuple(name for name in ordered if percents[name] < 0),
        tuple(name for name in reversed(ordered) if percents[name] > 0),
        q_values,
    )


def p_values(differences: Mapping[str, NEDifference]) -> dict[str, float]:
    """Two-sided p-values of slices with an interval, for looking at all of them at once; several seeds are needed.

    A slice's own t test does not do. Its seeds may agree by chance, so that its variance is far too small: with two
    seeds and sixty slices this happens often. And a seed that is good or bad as a whole moves all slices together. So
    the variance V of a slice's mean over K seeds has two parts:

        common  C / K        C the variance over seeds of the slice `all`: known from K numbers, K - 1 df
        own     V - C / K    V with v_seeds no smaller than slices like this one have:
                             v_seeds = alpha + beta v_each fitted to all slices, alpha, beta >= 0

    The own part has the degrees of freedom of all slices, counted half, since slices overlap. The p-value solves

        |D| / sqrt(V) = (common t_{K-1}(p) + own t_{df}(p)) / V

    with t(p) the two-sided quantiles: exact where either part is alone.

    References:
        W. G. Cochran, G. M. Cox, Experimental Designs, 2nd ed. (1957), section 4.14: the weighted quantile.
    """
    variations = {name: d.variation for name, d in differences.items() if d.variation is not None and d.low is not None}
    if not variations:
        return {}
    typical = dict(zip(variations, _seed_variances(list(variations.values())).tolist(), strict=True))
    common = variations[ALL].seeds if ALL in variations else 0.0
    num_like = max(len(variations) / 2, 1.0)
    return {
        name: _p_value((differences[name].percent or 0.0) / 100, variation, typical[name], common, num_like)
        for name, variation in variations.items()
    }


def _p_value(mean: float, variation: Variation, typical: float, common: float, num_like: float) -> float:
    """The p-value of one slice; `typical` is the fitted v_seeds, `num_like` how many slices it was fitted to."""
    num_seeds = variation.num_seeds
    seeds = max(variation.seeds, typical, common)
    variance = dataclasses.replace(variation, seeds=seeds).variance
    if variance == 0:
        return float(mean == 0)
    a, b = common / num_seeds, max(variance - common / num_seeds, 0.0)
    own = (seeds - common) / num_seeds
    rest = max(b - own, 0.0)
    spread = own**2 / (num_like * (num_seeds - 1)) + rest**2 / (variation.num_filled - 1)
    df = b**2 / spread if spread > 0 else float(variation.num_filled - 1)
    t = abs(mean) / variance**0.5

    def excess(log_p: float) -> float:
        half = np.exp(log_p) / 2
        return float((a * student.isf(half, num_seeds - 1) + b * student.isf(half, df)) / (a + b) - t)

    lowest = -650.0  # of what a double holds
    if excess(0.0) >= 0 or t == 0:
        return 1.0
    return float(np.exp(brentq(excess, lowest, 0.0))) if excess(lowest) > 0 else float(np.exp(lowest))


def _seed_variances(variations: list[Variation]) -> Array:
    """What slices with the same variance over rows have over seeds, of shape (slices,)."""
    seeds, each = (np.array([getattr(v, name) for v in variations]) for name in ("seeds", "each"))
    # Slices on which the arms are equal say nothing of the others.
    varied = (seeds > 0) & (each > 0)
    if not varied.any():
        return seeds
    scale = float(np.median(each[varied]))
    terms = np.stack([np.ones(len(each)), each / scale], axis=1)
    fitted = each
    for _ in range(_ROUNDS):
        weights = 1 / np.maximum(fitted[varied] / np.median(fitted[varied]), _SMALLEST)
        coefficients, _ = nnls(terms[varied] * weights[:, None], seeds[varied] / scale * weights)
        fitted = scale * (terms @ coefficients)
    return np.where(each > 0, fitted, seeds)


def _excludes_zero(difference: NEDifference) -> bool:
    return difference.low is not None and difference.high is not None and not difference.low <= 0 <= difference.high
