"""What went wrong in a run, by name: failure signatures of C2AL and conditions under which it cannot work."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from c2al_tf.cohorts import FEW_POSITIVES
from c2al_tf.evaluation import ALL

from .course import FEWEST_SEEDS, Change
from .evidence import Evidence, label

BASELINE, C2AL = "baseline", "c2al"

UNSTABLE_NE = 0.004
"""Relative: between what a learning rate decayed to zero lets NE move from seed to seed, 0.2 %, and a constant, 1 %."""

LEAST_NORM = 0.01
"""Auxiliary over primary gradient: below it, hundreds of steps move the attention less than one primary step does."""

DENSE_ENTROPY = 0.95
"""Share of the maximum, at which all fields weigh the same: there is hardly anything left to widen."""

DENSE_NEAR_ZERO = 0.05
"""Share of the weights near zero below which an attention of that entropy has no field that it leaves out."""

MOST_UNEQUAL = 20
"""Training rows of the largest over the smallest cohort: beyond it one lambda cannot fit both tasks."""

NOISY_NE = 0.99
"""NE of the baseline: 1 is the base rate, so the features explain less than a hundredth of the labels' entropy."""

_CHANCE = ("chance", "labels", "rows")
"""Rules of the guard that a pair breaks if chance explains its difference, or too few rows tell."""


@dataclass(frozen=True)
class Signature:
    """A failure by its name.

    Args:
        name: The name.
        seen: The numbers behind it, a sentence without its full stop.
        advice: What to do: the knob to turn.
    """

    name: str
    seen: str
    advice: str


def diagnose(evidence: Evidence) -> list[Signature]:
    """The failure signatures and break conditions that a run shows; none if all is well.

    References:
        METHOD, section 6.
    """
    return [
        *_overall_worse(evidence),
        *_no_gain(evidence),
        *_attention(evidence),
        *_gradient_does_not_reach(evidence),
        *_unstable(evidence),
        *_cohorts(evidence),
        *_labels(evidence),
    ]


def not_judged(evidence: Evidence) -> list[str]:
    """What `diagnose` cannot say of a run, in words."""
    reasons = []
    if len(evidence.seeds) < 2:
        reasons.append("Gains, losses and stability: only one seed was trained.")
    if not evidence.layers(C2AL) or not evidence.layers(BASELINE):
        reasons.append("Attention: it was not measured (no FMAttention, several replicas, or an older version).")
    elif any(change.side == "unknown" for change in evidence.attention_changes):
        reasons.append(f"Attention beside the baseline's: fewer than {FEWEST_SEEDS} paired seeds measured it.")
    if not evidence.auxiliary_ne:
        reasons.append("Auxiliary tasks: no history has their validation NE.")
    return reasons


def _overall_worse(evidence: Evidence) -> list[Signature]:
    if ALL not in evidence.metrics["worse"]:
        return []
    current, lower = _scaled(evidence.lambdas, 1), _scaled(evidence.lambdas, 1 / 3)
    advice = f"Try lambda {lower} instead of {current} (`cohorts.lambdas`). Do not deploy this model."
    seen = f"NE_diff over all rows is {_difference(evidence.metrics['ne_diff']['all'])}"
    return [Signature("overall worse", seen, f"The cohort tasks probably weigh too much. {advice}")]


def _no_gain(evidence: Evidence) -> list[Signature]:
    differences = {cohort: evidence.metrics["ne_diff"][cohort.name] for cohort in evidence.chosen}
    judged = {cohort: difference for cohort, difference in differences.items() if difference["low"] is not None}
    if len(evidence.seeds) < 2 or not judged or any(difference["high"] < 0 for difference in judged.values()):
        return []
    seen = "; ".join(f"NE_diff of {label(cohort)} is {_difference(d)}" for cohort, d in judged.items())
    other = evidence.other_pair
    pair = f"The next accepted pair is {other}." if other else "Cut the axes differently (`cohorts.axes`)."
    refused = {rule: reason for pair_ in evidence.pairs for rule, reason in pair_.reasons.items()}
    if any(rule in _CHANCE for rule in refused):
        seen = f"{seen}; the guard refuses the pair: {'; '.join(refused.values())}"
        return [Signature("the pair is chance", seen, f"Target another pair (`cohorts.given`). {pair}")]
    if evidence.pairs:
        guard = f"the guard refuses the pair: {'; '.join(refused.values())}" if refused else "the pair passes the guard"
        seen = f"{seen}; {guard}"
    worse = ALL in evidence.metrics["worse"]
    larger = "" if worse else f", or lambda too small: try {_scaled(evidence.lambdas, 3)} (`cohorts.lambdas`)"
    advice = f"Either this is the wrong pair{larger}. {pair} Divergence is necessary, not sufficient."
    return [Signature("no gain on the targeted cohorts", seen, advice)]


def _attention(evidence: Evidence) -> list[Signature]:
    """Dense before anything was done, or not denser than the baseline's; at the end of training, on every layer."""
    before = {layer: each["last"] for layer, each in evidence.layers(BASELINE).items()}
    changes = [change for change in evidence.attention_changes if change.measure in ("entropy", "near_zero")]
    if not changes:
        return []
    if all(_is_dense(b) for b in before.values()):
        return [_dense(before)]
    if any(change.side in ("denser", "unknown") for change in changes):
        return []
    return [_sparse(changes, evidence.lambdas)]


def _is_dense(measures: Mapping[str, Any]) -> bool:
    return _at_least(measures["entropy"], DENSE_ENTROPY) and not _at_least(measures["near_zero"], DENSE_NEAR_ZERO)


def _dense(before: Mapping[str, Mapping[str, Any]]) -> Signature:
    seen = "; ".join(
        f"{layer} of the baseline: entropy {_share(b['entropy'])} of the maximum, {_share(b['near_zero'])} of the "
        "weights near zero"
        for layer, b in before.items()
    )
    advice = (
        "C2AL widens attention, and here there is nothing to widen: expect little of it. A larger attention "
        "(`model.num_outputs`, `model.attention_units`) may specialise more."
    )
    return Signature("attention is dense already", seen, advice)


def _sparse(changes: Sequence[Change], lambdas: Sequence[float]) -> Signature:
    measured = "; ".join(
        f"{c.measure.replace('_', ' ')} of {c.layer} {c.reference:.3f} in the baseline and {c.arm:.3f} in C2AL"
        for c in changes
    )
    seen = f"at the end of training, in means over the paired seeds, {measured}; no interval shows a denser attention"
    advice = (
        "The cohort tasks' gradient may not reach the attention: look at its norm before raising lambda to "
        f"{_scaled(lambdas, 3)} (`cohorts.lambdas`). If C2AL gains, denser attention is not shown to be the reason. "
        "`model.density_penalty` makes attention dense by itself."
    )
    return Signature("attention is not denser than the baseline's", seen, advice)


def _gradient_does_not_reach(evidence: Evidence) -> list[Signature]:
    name = "the auxiliary gradient does not reach the attention"
    if not evidence.layers(C2AL) or not evidence.auxiliary_ne:
        return []
    tasks = (evidence.attention or {})[C2AL]["tasks"]
    if not tasks:
        seen = "no layer's attention takes a gradient in training: it is frozen"
        return [Signature(name, seen, "Unfreeze it (`frozen` of the arm), unless the frozen attention is the control.")]
    largest = {layer: _largest(ratio["norm_ratio"] for ratio in found.values()) for layer, found in tasks.items()}
    if any(ratio >= LEAST_NORM for ratio in largest.values()):
        return []
    seen = "; ".join(
        f"{layer}: the largest of lambda times an auxiliary gradient is {ratio:.2g} of the primary one"
        for layer, ratio in largest.items()
    )
    advice = f"Raise lambda to {_scaled(evidence.lambdas, 10)} (`cohorts.lambdas`), or target cohorts with more"
    return [Signature(name, seen, f"{advice} positives.")]


def _unstable(evidence: Evidence) -> list[Signature]:
    ne = np.array([entry[C2AL][ALL]["ne"] for entry in evidence.seeds], dtype=np.float64)
    spread = float(np.abs(ne / ne.mean() - 1).max())
    if not spread > UNSTABLE_NE:
        return []
    seen = f"C2AL's NE moves by up to {100 * spread:.2g} % from seed to seed"
    advice = (
        "Decay the learning rate to zero (`training.decay: cosine`), and choose larger cohorts with more positives "
        "(`cohorts.guard.min_positives`)."
    )
    return [Signature("unstable training", seen, advice)]


def _cohorts(evidence: Evidence) -> list[Signature]:
    found = []
    few = [s for s in evidence.summaries if s.training_positives is not None and s.training_positives < FEW_POSITIVES]
    if few:
        counts = "; ".join(
            f"{label(s.cohort)} has {s.training_positives:,} positives in {s.training_rows:,} training rows"
            for s in few
        )
        advice = (
            f"A cohort's task learns from {FEW_POSITIVES} positives or more. Train on more rows, or cut larger cohorts "
            f"(`cohorts.axes`, `cohorts.given`) with `cohorts.guard.min_positives` at {FEW_POSITIVES} or above."
        )
        found.append(Signature("cohort too small", counts, advice))
    sizes = {label(s.cohort): s.training_rows for s in evidence.summaries}
    if sizes and max(sizes.values()) > MOST_UNEQUAL * min(sizes.values()):
        seen = "; ".join(f"{name} has {rows:,} training rows" for name, rows in sizes.items())
        advice = (
            "The smaller cohort's task has hardly a share in the gradient. Cut cohorts of similar size "
            "(`cohorts.axes`, `cohorts.given`), or give each a lambda of its own (`cohorts.lambdas`)."
        )
        found.append(Signature("cohorts too unequal", seen, advice))
    return found


def _labels(evidence: Evidence) -> list[Signature]:
    found = []
    baseline = evidence.metrics[BASELINE]
    noisy = {label(cohort): baseline[cohort.name]["ne"] for cohort in evidence.chosen}
    noisy = {name: ne for name, ne in noisy.items() if _at_least(ne, NOISY_NE)}
    if noisy:
        seen = "; ".join(
            f"the baseline's NE on {name} is {ne:.4f}, where 1 is the base rate" for name, ne in noisy.items()
        )
        advice = (
            "Nothing predicts these labels: check how they are made, or target cohorts whose labels the features "
            "explain (`cohorts.given`)."
        )
        found.append(Signature("noisy labels", seen, advice))
    unlearnt = {name: ne for name, ne in (evidence.auxiliary_ne or {}).items() if _at_least(ne, 1.0)}
    if unlearnt:
        seen = "; ".join(
            f"validation NE of the task {name} is {ne:.4f} in the last epoch" for name, ne in unlearnt.items()
        )
        advice = (
            "The task predicts no better than its base rate. It needs more positives, a larger lambda "
            f"({_scaled(evidence.lambdas, 3)}; `cohorts.lambdas`), or a longer training (`training.epochs`)."
        )
        found.append(Signature("the auxiliary task is not learnt", seen, advice))
    return found


def _largest(values: Iterable[float | None]) -> float:
    """Where the primary has no gradient, the auxiliary one is as large as can be."""
    return max(math.inf if value is None else value for value in values)


def _at_least(value: float | None, bound: float) -> bool:
    return value is not None and value >= bound


def _scaled(lambdas: Sequence[float], factor: float) -> str:
    if not lambdas:
        return f"{factor:.2g} times as large"
    return " and ".join(f"{factor * value:.2g}" for value in lambdas)


def _difference(difference: Mapping[str, Any]) -> str:
    return f"{difference['percent']:+.3f} % [{difference['low']:+.3f}, {difference['high']:+.3f}]"


def _share(value: float | None) -> str:
    return "unknown" if value is None else f"{100 * value:.1f} %"
