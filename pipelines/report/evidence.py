"""What a run's folder holds for its diagnosis: metrics, cohorts, and the course of attention and gradients."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from c2al_tf.cohorts import Cohort, CohortSummary, Discovery, Pair

ATTENTION_MEASURES = ("entropy", "gini", "effective_rank", "near_zero")
"""Measures of attention weights that are summarized; see `c2al_tf.diagnostics`."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """What a run's folder holds of its arms `baseline` and `c2al`.

    Args:
        metrics: `metrics.json`.
        seeds: The entries of `metrics_by_seed.json`.
        discovery: `cohorts.json`.
        chosen: The targeted cohorts.
        lambdas: Weights of the auxiliary losses.
        attention: By arm what `summarize_diagnostics` made of its `diagnostics.jsonl`; empty if there is none.
        auxiliary_ne: What `last_auxiliary_ne` made of the `history.json` of C2AL's models.
    """

    metrics: Mapping[str, Any]
    seeds: Sequence[Mapping[str, Any]]
    discovery: Discovery
    chosen: Sequence[Cohort]
    lambdas: Sequence[float] = ()
    attention: Mapping[str, Mapping[str, Any]] | None = None
    auxiliary_ne: Mapping[str, float | None] | None = None

    @property
    def pairs(self) -> list[Pair]:
        """The pairs of targeted cohorts."""
        return [pair for pair in self.discovery.pairs if set(pair.cohorts) <= set(self.chosen)]

    @property
    def other_pair(self) -> str | None:
        """The next accepted pair in words, if there is one."""
        others = (pair for pair in self.discovery.pairs if pair.accepted and pair not in self.pairs)
        return next((f"{label(pair.head.cohort)} against {label(pair.tail.cohort)}" for pair in others), None)

    @property
    def summaries(self) -> list[CohortSummary]:
        """The targeted cohorts with their sizes."""
        summaries = {s.cohort: s for axis in self.discovery.axes for s in axis.cohorts}
        return [summaries[cohort] for cohort in self.chosen]

    def layers(self, arm: str) -> Mapping[str, Any]:
        """An arm's attention by layer."""
        return (self.attention or {}).get(arm, {}).get("layers", {})


def label(cohort: Cohort) -> str:
    """The predicate in words, with edges as short as a reader wants them."""
    return re.sub(r"\d+\.\d{3,}", lambda number: f"{float(number[0]):.4g}", str(cohort))


def summarize_diagnostics(by_seed: Iterable[Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """The course of an arm's attention, and of its gradients, in means over its seeds.

    Args:
        by_seed: Of each seed the rows of its `diagnostics.jsonl`.

    Returns:
        `layers`: by layer the measures of the `first` and the `last` measurement. `tasks`: by layer and auxiliary task
        the share of measurements in `conflict` (cosine < 0), the mean `cosine`, and `norm_ratio`, the mean norm of
        lambda times the auxiliary gradient over that of the primary. None where there is no number.
    """
    first: dict[str, list[Mapping[str, Any]]] = {}
    last: dict[str, list[Mapping[str, Any]]] = {}
    tasks: dict[str, dict[str, list[Mapping[str, Any]]]] = {}
    for rows in by_seed:
        layers: dict[str, list[Mapping[str, Any]]] = {}
        for row in rows:
            if "task" in row:
                tasks.setdefault(row["layer"], {}).setdefault(row["task"], []).append(row)
            else:
                layers.setdefault(row["layer"], []).append(row)
        for layer, measured in layers.items():
            first.setdefault(layer, []).append(measured[0])
            last.setdefault(layer, []).append(measured[-1])
    return {
        "layers": {layer: {"first": _measures(first[layer]), "last": _measures(last[layer])} for layer in first},
        "tasks": {layer: {task: _gradients(rows) for task, rows in found.items()} for layer, found in tasks.items()},
    }


def last_auxiliary_ne(histories: Sequence[Mapping[str, Any]], cohorts: Sequence[Cohort]) -> dict[str, float | None]:
    """By auxiliary task the NE on the validation rows in the last epoch, mean over the seeds; None if there is none.

    Args:
        histories: `history.json` of each of C2AL's models.
        cohorts: The cohorts that may have a task.
    """
    last = [history["epochs"][-1] for history in histories if history["epochs"]]
    names = [cohort.name for cohort in cohorts if any(f"val_{cohort.name}_ne" in epoch for epoch in last)]
    return {name: _mean(epoch.get(f"val_{name}_ne") for epoch in last) for name in names}


def _measures(rows: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    return {name: _mean(row[name] for row in rows) for name in ATTENTION_MEASURES}


def _gradients(rows: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    primary = _mean(row["primary_norm"] for row in rows)
    return {
        "conflict": _mean(float(row["cosine"] < 0) for row in rows),
        "cosine": _mean(row["cosine"] for row in rows),
        "norm_ratio": (_mean(row["norm"] for row in rows) or 0.0) / primary if primary else None,
    }


def _mean(values: Iterable[float | None]) -> float | None:
    present = [value for value in values if value is not None and not math.isnan(value)]
    return float(np.mean(present)) if present else None
