"""The course of attention and gradients in training, and how an arm's attention differs from its reference's."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import t as student

MEASURES = {"entropy": 1, "gini": -1, "effective_rank": 0, "near_zero": -1}
"""Measures of attention weights that are summarized; see `c2al_tf.diagnostics`. 1: dense attention has a large value,
-1: a small one, 0: the measure says nothing of density."""

FEWEST_SEEDS = 3
"""Paired seeds below which no change of the attention is judged: the interval of two spans 13 standard errors."""

_CONFIDENCE = 0.95


@dataclass(frozen=True)
class Change:
    """A measure of one layer's attention at the end of training, an arm beside its reference.

    Args:
        layer: Name of the layer.
        measure: One of `MEASURES`.
        reference: Mean of the reference over the paired seeds.
        arm: Mean of the arm.
        low: Lower end of the 95 % interval of the difference over the paired seeds; None below `FEWEST_SEEDS`.
        high: Its upper end.
    """

    layer: str
    measure: str
    reference: float
    arm: float
    low: float | None
    high: float | None

    @property
    def differs(self) -> bool:
        """Whether the whole interval lies on one side of 0."""
        return self.low is not None and self.high is not None and not self.low <= 0 <= self.high

    @property
    def side(self) -> str:
        """`denser` or `sparser` if the whole interval says so, `unclear` if not, `unknown` without one."""
        if self.low is None or self.high is None:
            return "unknown"
        sign = MEASURES[self.measure]
        if not sign or not self.differs:
            return "unclear"
        return "denser" if sign * self.low > 0 else "sparser"


def summarize_diagnostics(by_seed: Iterable[Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """The course of an arm's attention, and of its gradients, in means over its seeds.

    Args:
        by_seed: Of each seed the rows of its `diagnostics.jsonl`.

    Returns:
        `layers`: by layer the measures of the `first` and the `last` measurement, the `steps` of both, and `by_seed`,
        each measure at the last one in each seed. `tasks`: by layer and auxiliary task the share of measurements in
        `conflict` (cosine < 0), the mean `cosine`, `norm_ratio`, the mean norm of lambda times the auxiliary gradient
        over that of the primary, and the `course`: by step the mean, lowest and highest cosine of the seeds. None where
        there is no number.
    """
    seeds = list(by_seed)
    attention = [[row for row in rows if "task" not in row] for rows in seeds]
    gradients = [row for rows in seeds for row in rows if "task" in row]
    layers = dict.fromkeys(row["layer"] for rows in attention for row in rows)
    tasks = dict.fromkeys((row["layer"], row["task"]) for row in gradients)
    found: dict[str, Any] = {"layers": {layer: _layer(layer, attention) for layer in layers}, "tasks": {}}
    for layer, task in tasks:
        rows = [row for row in gradients if (row["layer"], row["task"]) == (layer, task)]
        found["tasks"].setdefault(layer, {})[task] = _gradients(rows)
    return found


def _layer(layer: str, attention: Sequence[Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """One layer's measures, from the rows of each seed; a seed without any has None."""
    measured = [[row for row in rows if row["layer"] == layer] for rows in attention]
    first, last = ([rows[at] if rows else {} for rows in measured] for at in (0, -1))
    steps = [row["step"] for rows in measured for row in rows]
    ends = {"first": _means(first), "last": _means(last), "steps": [min(steps), max(steps)]}
    return ends | {"by_seed": {name: [_number(row.get(name)) for row in last] for name in MEASURES}}


def _means(rows: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    return {name: mean(row.get(name) for row in rows) for name in MEASURES}


def _gradients(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    primary = mean(row["primary_norm"] for row in rows)
    cosines: dict[int, list[float]] = {}
    for row in rows:
        cosines.setdefault(row["step"], []).append(row["cosine"])
    return {
        "conflict": mean(float(row["cosine"] < 0) for row in rows),
        "cosine": mean(row["cosine"] for row in rows),
        "norm_ratio": (mean(row["norm"] for row in rows) or 0.0) / primary if primary else None,
        "course": [
            {"step": step, "cosine": mean(found), "low": _number(min(found)), "high": _number(max(found))}
            for step, found in sorted(cosines.items())
        ],
    }


def attention_changes(reference: Mapping[str, Any], arm: Mapping[str, Any]) -> list[Change]:
    """How an arm's attention differs from its reference's at the end of training, on the layers that both have.

    Args:
        reference: What `summarize_diagnostics` made of the reference's seeds.
        arm: The same of the arm's, which are paired with the reference's first ones.
    """
    before, after = reference.get("layers", {}), arm.get("layers", {})
    changes = (
        _change(layer, measure, before[layer]["by_seed"][measure], after[layer]["by_seed"][measure])
        for layer in before
        if layer in after
        for measure in MEASURES
    )
    return [change for change in changes if change is not None]


def _change(layer: str, measure: str, before: Sequence[Any], after: Sequence[Any]) -> Change | None:
    pairs = [(b, a) for b, a in zip(before, after, strict=False) if b is not None and a is not None]
    if not pairs:
        return None
    b, a = np.array(pairs, dtype=np.float64).T
    low = high = None
    if len(pairs) >= FEWEST_SEEDS:
        quantile = student.ppf((1 + _CONFIDENCE) / 2, len(pairs) - 1)
        margin = float(quantile * (a - b).std(ddof=1) / len(pairs) ** 0.5)
        low, high = float((a - b).mean()) - margin, float((a - b).mean()) + margin
    return Change(layer, measure, float(b.mean()), float(a.mean()), low, high)


def attention_in_words(changes: Sequence[Change], arm: str, reference: str) -> str:
    """Whether the attention of an arm is denser than its reference's at the end of training, layer by layer."""
    entropies = [change for change in changes if change.measure == "entropy"]
    if not entropies:
        return "The attention was not measured."
    values = "; ".join(f"{c.layer} {c.reference:.3f} and {c.arm:.3f}" for c in entropies)
    ends = f"Entropy at the end of training, {reference} and {arm}: {values}"
    if any(change.side == "unknown" for change in entropies):
        return f"{ends}. Fewer than {FEWEST_SEEDS} paired seeds do not tell whether one is denser."
    by_side = {side: [c.layer for c in entropies if c.side == side] for side in ("denser", "sparser", "unclear")}
    words = {"denser": f"{arm} is denser in", "sparser": f"{arm} is sparser in", "unclear": "no difference is shown in"}
    said = "; ".join(f"{words[side]} {', '.join(layers)}" for side, layers in by_side.items() if layers)
    return f"{ends}. By the 95 % intervals over paired seeds: {said}."


def attention_of_arms(changes: Mapping[str, Sequence[Change]]) -> str:
    """The same of several arms, each against its reference, without the numbers."""
    words = {
        "denser": "denser than the reference's",
        "sparser": "sparser than the reference's",
        "unclear": "no difference is shown",
        "unknown": f"fewer than {FEWEST_SEEDS} paired seeds do not tell",
    }
    by_side: dict[str, list[str]] = {side: [] for side in words}
    for arm, found in changes.items():
        entropies = [change for change in found if change.measure == "entropy"]
        for side in dict.fromkeys(change.side for change in entropies):
            layers = [change.layer for change in entropies if change.side == side]
            by_side[side].append(arm if len(layers) == len(entropies) else f"{arm} ({', '.join(layers)})")
    said = "; ".join(f"{words[side]}: {', '.join(arms)}" for side, arms in by_side.items() if arms)
    return f"Entropy of the attention at the end of training, by the 95 % intervals over paired seeds: {said}."


def mean(values: Iterable[float | None]) -> float | None:
    """The mean of the numbers among some values; None if there is none."""
    present = [value for value in map(_number, values) if value is not None]
    return float(np.mean(present)) if present else None


def _number(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else float(value)
