"""What a run's folder holds for its diagnosis: metrics, cohorts, and the course of attention and gradients."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from c2al_tf.cohorts import Cohort, CohortSummary, Discovery, Pair
from c2al_tf.evaluation import ALL, REST

from .course import Change, attention_changes, mean

_NAMES = {ALL: "all rows", REST: "everyone else"}


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

    @property
    def attention_changes(self) -> list[Change]:
        """How C2AL's attention differs from the baseline's at the end of training."""
        measured = self.attention or {}
        return attention_changes(measured.get("baseline", {}), measured.get("c2al", {}))


def label(cohort: Cohort) -> str:
    """The predicate in words, with edges as short as a reader wants them."""
    return re.sub(r"\d+\.\d{3,}", lambda number: f"{float(number[0]):.4g}", str(cohort))


def brief(text: str) -> str:
    """A predicate in words without the edges behind a quantile.

    >>> brief("user_value in top 5 % (from 5.281394)")
    'user_value in top 5 %'
    """
    text = re.sub(r" \((?:below |from |in \[)[^()]*\)?\)", "", text)
    return re.sub(r"between quantiles (\S+) % and (\S+) %", r"in \1 to \2 %", text)


def slice_labels(discovery: Discovery) -> dict[str, str]:
    """Words for the slices of the test rows that an evaluation names."""
    cohorts = [summary.cohort for axis in discovery.axes for summary in axis.cohorts]
    return _NAMES | {cohort.name: brief(label(cohort)) for cohort in cohorts}


def last_auxiliary_ne(histories: Sequence[Mapping[str, Any]], cohorts: Sequence[Cohort]) -> dict[str, float | None]:
    """By auxiliary task the NE on the validation rows in the last epoch, mean over the seeds; None if there is none.

    Args:
        histories: `history.json` of each of C2AL's models.
        cohorts: The cohorts that may have a task.
    """
    last = [history["epochs"][-1] for history in histories if history["epochs"]]
    names = [cohort.name for cohort in cohorts if any(f"val_{cohort.name}_ne" in epoch for epoch in last)]
    return {name: mean(epoch.get(f"val_{name}_ne") for epoch in last) for name in names}
