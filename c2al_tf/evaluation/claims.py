"""Which slices are called better or worse, where sixty are looked at and some look so by chance."""

import dataclasses
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls
from scipy.stats import false_discovery_control, t as student

from ..blocks import Variation
from ..types import Array
from .intervals import NEDifference

FALSE_DISCOVERY_RATE = 0.05

# Rounds of reweighting: a variance is known to a share of itself, so the fit weighs by its own result.
_ROUNDS = 5
_SMALLEST = 1e-9


@dataclass(frozen=True)
class Claims:
    """What is said of an arm's slices.

    Args:
        better: Slices on which the arm is better than the reference, the best first.
        worse: Slices on which it is worse, the worst first.
        q_values: Of each slice that was not named beforehand: the false discovery rate at which it would be named.
    """

    better: tuple[str, ...]
    worse: tuple[str, ...]
    q_values: Mapping[str, float]


def claim(differences: Mapping[str, NEDifference], named: Collection[str]) -> Claims:
    """Calls slices better or worse.

    Those of `named`, which were chosen beforehand, by their own 95 % intervals. Of the others, so that on average at
    most 5 % of the slices called better or worse are so by chance (and where nothing changed at all, in 5 % of
    evaluations any is): the procedure of Benjamini and Hochberg on the p-values of `p_values`. With one seed none of
    the others is called anything: how much another seed changes is not known.

    References:
        Y. Benjamini, Y. Hochberg, "Controlling the false discovery rate", Journal of the Royal Statistical Society B 57
        (1995).
    """
    found = p_values(differences)
    others = {name: p for name, p in found.items() if name not in named}
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
    """Two-sided p-values of slices with an interval, for looking at all of them at once; empty with one seed.

    Of sixty slices some have seeds that agree by chance. Such a slice's own variance is far too small, and its interval
    excludes 0, the more often the fewer the seeds: at two seeds, where models differ by slice, four of ten evaluations
    without any difference would name one. So the variance over seeds is no smaller than what slices like it have,

        v_seeds = S + I    fitted as    alpha + beta v_each,    alpha, beta >= 0

    S what a seed moves any slice by, I in proportion to the variance over rows. Its degrees of freedom are those of
    all slices, counted half, since slices overlap.
    """
    variations = {name: d.variation for name, d in differences.items() if d.variation is not None and d.low is not None}
    if not variations or next(iter(variations.values())).num_seeds == 1:
        return {}
    fitted = _seed_variances(list(variations.values()))
    result = {}
    for (name, own), typical in zip(variations.items(), fitted.tolist(), strict=True):
        variation = dataclasses.replace(own, seeds=max(own.seeds, typical))
        df = variation.degrees_of_freedom(max(len(variations) / 2, 1.0) * (own.num_seeds - 1))
        percent = differences[name].percent or 0.0
        deviation = 100 * variation.variance**0.5
        result[name] = float(2 * student.sf(abs(percent) / deviation, df)) if deviation > 0 else float(percent == 0)
    return result


def _seed_variances(variations: list[Variation]) -> Array:
    """What slices with the same variance over rows have over seeds, of shape (slices,)."""
    seeds, each = (np.array([getattr(v, name) for v in variations]) for name in ("seeds", "each"))
    if seeds.max() == 0 or each.max() == 0:
        return seeds
    terms = np.stack([np.ones(len(each)), each / each.max()], axis=1)
    fitted = each
    for _ in range(_ROUNDS):
        scale = 1 / np.maximum(fitted / fitted.max(), _SMALLEST)
        coefficients, _ = nnls(terms * scale[:, None], seeds / seeds.max() * scale)
        fitted = seeds.max() * (terms @ coefficients)
    return fitted


def _excludes_zero(difference: NEDifference) -> bool:
    return difference.low is not None and difference.high is not None and not difference.low <= 0 <= difference.high
