"""Arms against a reference arm: figures by slice, and the differences with their intervals."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..blocks import NUM_BLOCKS, resample_counts
from ..types import Array
from .claims import FALSE_DISCOVERY_RATE, Claims, claim
from .counts import ALL, ArmCounts, count_arms
from .intervals import NEDifference, ne_differences
from .scoring import Metrics, SliceSums, histogram_auc

MIN_EVENTS = 10
"""Positives, and negatives, below which a slice has no interval."""


@dataclass(frozen=True)
class Evaluation:
    """Every arm's figures on every slice, and each arm against the reference arm.

    Args:
        metrics: `metrics[arm][slice][seed]`; the slice `all` comes first.
        ne_diff: `ne_diff[arm][slice]` for each arm but the reference.
        reference: The arm that the others are compared with.
        interval: In words, what the intervals resample and what they leave out.
        claims: For each arm but the reference, which slices are called better or worse.
        claims_in_words: How these were found.
        auc_error: How far at most any AUC is from the exact one; 0 where all rows were at hand.
    """

    metrics: dict[str, dict[str, list[Metrics]]]
    ne_diff: dict[str, dict[str, NEDifference]]
    reference: str
    interval: str
    claims: dict[str, Claims]
    claims_in_words: str
    auc_error: float = 0.0

    def to_json(self, arm: str) -> dict[str, Any]:
        """The form of `metrics.json`: `arm` against the reference, figures averaged over the seeds."""
        arms = (self.reference, arm)
        means = {a: {name: _mean(seeds) for name, seeds in self.metrics[a].items()} for a in arms}
        claims = self.claims[arm]
        ne_diff = {
            name: {"percent": d.percent, "low": d.low, "high": d.high, "q_value": claims.q_values.get(name)}
            for name, d in self.ne_diff[arm].items()
        }
        called = {"better": list(claims.better), "worse": list(claims.worse), "claims": self.claims_in_words}
        return {**means, "ne_diff": ne_diff, "interval": self.interval, **called}

    def seeds_to_json(self, arm: str) -> dict[str, Any]:
        """The form of `metrics_by_seed.json`: `arm` against the reference, one entry per seed."""
        arms = (self.reference, arm)
        entries = [
            {
                "seed": k,
                **{a: {name: seeds[k] for name, seeds in self.metrics[a].items()} for a in arms},
                "ne_diff": {name: d.by_seed[k] for name, d in self.ne_diff[arm].items()},
            }
            for k in range(len(self.metrics[arm][ALL]))
        ]
        return {"seeds": entries}


def _mean(seeds: Sequence[Metrics]) -> Metrics:
    """Mean over seeds; rows and labels, and so the counts and which figures are defined, are the same in each."""
    first = seeds[0]
    means: Metrics = {name: first[name] for name in ("rows", "positives")}
    for name in first.keys() - means.keys():
        values = [seed[name] for seed in seeds]
        means[name] = None if None in values else float(np.mean(np.array(values, dtype=np.float64)))
    return {name: means[name] for name in first}


def evaluate_by_cohort(
    logits: Mapping[str, Array],
    labels: Array,
    slices: Mapping[str, Array],
    *,
    reference: str = "baseline",
    named: Sequence[str] = (),
    weights: Array | None = None,
    units: Array | None = None,
    num_blocks: int = NUM_BLOCKS,
    seed: int = 0,
    progress: bool = True,
) -> Evaluation:
    """Compares arms on every slice, paired over seeds and rows; `intervals.ne_differences` says how.

    Args:
        logits: Each arm's logits, `(seeds, rows)`: seed `k` of every arm started from the same weights and saw the
            rows in the same order. An arm's `(rows,)` is one seed.
        labels: `(rows,)` in {0, 1}.
        slices: Name to boolean mask `(rows,)`, as from `Cohort.contains`; may overlap. The slice `all` is added, first.
        reference: The arm in `logits` that the others are compared with.
        named: Slices that were named before the rows were looked at, such as the targeted cohorts: each is judged by
            its own interval, as `all` is. The others are judged together.
        weights: `(rows,)` row weights, at least 0; all 1 if not given. A row of weight 0 changes nothing.
        units: `(rows,)` ids (a user, say) whose rows are resampled together.
        num_blocks: Number of blocks that the rows are dealt into for resampling.
        seed: Of the dealing and the resampling.
        progress: Whether to show a progress bar.

    Returns:
        The figures. A slice without rows has None for each, one with fewer than 10 positives or negatives has no
        interval.

    Raises:
        ValueError: If a name is unknown, a shape differs, or a value is out of range; the message names it.

    Examples:
        >>> labels = np.array([0, 1, 0, 1])
        >>> logits = {"baseline": np.array([0.0, 0.0, 0.0, 0.0]), "c2al": np.array([-1.0, 1.0, 0.0, 0.0])}
        >>> result = evaluate_by_cohort(logits, labels, {"first two": np.arange(4) < 2})
        >>> [round(d.percent, 1) for d in result.ne_diff["c2al"].values()]
        [-27.4, -54.8]
    """
    _check_reference(reference, list(logits))
    counts = count_arms(
        logits,
        labels,
        slices,
        weights=weights,
        units=units,
        num_blocks=num_blocks,
        seed=seed,
        exact=True,
        progress=progress,
    )
    return compare_arms(counts, reference=reference, named=named)


def compare_arms(counts: ArmCounts, *, reference: str = "baseline", named: Sequence[str] = ()) -> Evaluation:
    """Compares counted arms; figures and intervals as of `evaluate_by_cohort`, but for AUCs of shards: see `auc_error`.

    Examples:
        >>> rng = np.random.default_rng(0)
        >>> labels = rng.random(1000) < 0.3
        >>> logits = {"baseline": rng.normal(size=1000), "c2al": rng.normal(size=1000) + labels}
        >>> whole = evaluate_by_cohort(logits, labels, {})
        >>> halves = [np.arange(500), np.arange(500, 1000)]
        >>> parts = [count_arms({a: z[i] for a, z in logits.items()}, labels[i], {}, row_numbers=i) for i in halves]
        >>> found = compare_arms(sum(parts))
        >>> abs(found.ne_diff["c2al"]["all"].low - whole.ne_diff["c2al"]["all"].low) < 1e-9
        True

    Raises:
        ValueError: If `reference` is no arm, or a name of `named` no slice.
    """
    _check_reference(reference, counts.arms)
    aucs, auc_error = (counts.aucs, 0.0) if counts.aucs is not None else _histogram_aucs(counts)
    if not set(named) <= set(counts.slices):
        raise ValueError(f"`named` must name slices. Received: {list(named)}; there are {list(counts.slices)}")
    beforehand = dict.fromkeys([ALL, *named])
    metrics = {
        arm: {
            name: [_slice_sums(counts, a, k, s).metrics(float(aucs[a, k, s])) for k in range(counts.num_seeds)]
            for s, name in enumerate(counts.slices)
        }
        for a, arm in enumerate(counts.arms)
    }
    drawn = resample_counts(counts.num_blocks, seed=counts.seed)
    base = counts.losses[counts.arms.index(reference)]
    ne_diff = {}
    for arm, losses in zip(counts.arms, counts.losses, strict=True):
        if arm != reference:
            differences = zip(counts.slices, ne_differences(losses, base, drawn), strict=True)
            ne_diff[arm] = {name: _with_events(d, metrics[arm][name][0]) for name, d in differences}
    claims = {arm: claim(differences, beforehand) for arm, differences in ne_diff.items()}
    words = _claims_in_words(len(counts.slices) - len(beforehand), counts.num_seeds)
    return Evaluation(metrics, ne_diff, reference, _in_words(counts), claims, words, auc_error)


def _slice_sums(counts: ArmCounts, arm: int, seed: int, at: int) -> SliceSums:
    return SliceSums(
        int(counts.rows[at]),
        int(counts.positives[at]),
        float(counts.weight[at]),
        float(counts.positive_weight[at]),
        float(counts.losses[arm, seed, at].sum()),
        float(counts.predictions[arm, seed, at]),
    )


def _histogram_aucs(counts: ArmCounts) -> tuple[Array, float]:
    """AUCs (arms, seeds, slices), NaN where all labels are equal, and how far at most one is from the exact one."""
    aucs = np.full(counts.predictions.shape, np.nan)
    error = 0.0
    for at in np.ndindex(aucs.shape):
        value, bound = histogram_auc(*counts.scores[at])
        aucs[at], error = np.nan if value is None else value, max(error, bound)
    return aucs, error


def _check_reference(reference: str, arms: Sequence[str]) -> None:
    if reference not in arms:
        raise ValueError(f"`reference` must name an arm. Received: {reference!r}; there are {sorted(arms)}")


def _with_events(difference: NEDifference, figures: Metrics) -> NEDifference:
    """Takes the interval away where so few rows carry the rarer label that resampling cannot know what is missing."""
    positives, rows = figures["positives"] or 0, figures["rows"] or 0
    enough = min(positives, rows - positives) >= MIN_EVENTS
    return difference if enough else dataclasses.replace(difference, low=None, high=None, variation=None)


def _in_words(counts: ArmCounts) -> str:
    dealt = "the rows of one unit always together" if counts.grouped else "dealt at random"
    num_filled = np.count_nonzero(counts.block_rows)
    rows = f"{counts.block_rows.sum():,} rows in {num_filled:,} blocks, {dealt}"
    rest = f"Slices with fewer than {MIN_EVENTS} positives or negatives have none."
    if counts.num_seeds == 1:
        return (
            f"Each 95 % interval resamples rows alone ({rows}), for the models of one seed. It leaves out that another "
            "seed would have given other models, which can move NE by more than the interval is wide: no claim rests "
            f"on it. {rest}"
        )
    return (
        f"Each 95 % interval is of the mean over {counts.num_seeds} paired seeds and resamples seeds and rows "
        f"({rows}), both paired over the arms, with a t quantile that allows for the small number of seeds. {rest}"
    )


def _claims_in_words(num_others: int, num_seeds: int) -> str:
    if num_seeds == 1:
        return "With one seed no slice is called better or worse."
    return (
        "All rows and the slices named beforehand are called better or worse by their own 95 % intervals. The other "
        f"{num_others} slices are tested together, with a false discovery rate of {100 * FALSE_DISCOVERY_RATE:.0f} % "
        "(Benjamini-Hochberg)."
    )
