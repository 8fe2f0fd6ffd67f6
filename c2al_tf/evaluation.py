"""Arms against a reference arm, slice by slice, with paired intervals over seeds and rows."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from .intervals import NUM_BLOCKS, NEDifference, deal_blocks, ne_differences, resample_counts
from .scoring import Metrics, Rows, ScoredModel
from .types import Array

ALL = "all"
"""Name of the slice that holds every row."""

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
    """

    metrics: dict[str, dict[str, list[Metrics]]]
    ne_diff: dict[str, dict[str, NEDifference]]
    reference: str
    interval: str

    def worse(self, arm: str) -> list[str]:
        """Slices on which `arm` is worse than the reference, its whole interval above 0; the worst first."""
        found = [
            (d.percent, name)
            for name, d in self.ne_diff[arm].items()
            if d.percent is not None and d.low is not None and d.low > 0
        ]
        return [name for _, name in sorted(found, key=lambda item: -item[0])]

    def to_json(self, arm: str) -> dict[str, Any]:
        """The form of `metrics.json`: `arm` against the reference, figures averaged over the seeds."""
        arms = (self.reference, arm)
        means = {a: {name: _mean(seeds) for name, seeds in self.metrics[a].items()} for a in arms}
        ne_diff = {name: {"percent": d.percent, "low": d.low, "high": d.high} for name, d in self.ne_diff[arm].items()}
        return {**means, "ne_diff": ne_diff, "interval": self.interval, "worse": self.worse(arm)}

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

    Example:
        >>> labels = np.array([0, 1, 0, 1])
        >>> logits = {"baseline": np.array([0.0, 0.0, 0.0, 0.0]), "c2al": np.array([-1.0, 1.0, 0.0, 0.0])}
        >>> result = evaluate_by_cohort(logits, labels, {"first two": np.arange(4) < 2})
        >>> [round(d.percent, 1) for d in result.ne_diff["c2al"].values()]
        [-27.4, -54.8]
    """
    rows = Rows.check(labels, weights)
    arms = _check_arms(logits, rows, reference)
    masks = _check_slices(slices, rows)
    kept_units = None if units is None else _check_units(units, rows)
    blocks = deal_blocks(len(rows.labels), units=kept_units, num_blocks=num_blocks, seed=seed)
    num_seeds = len(arms[reference])
    metrics: dict[str, dict[str, list[Metrics]]] = {arm: {name: [] for name in masks} for arm in arms}
    losses = {arm: np.zeros((num_seeds, len(masks), num_blocks)) for arm in arms}
    todo = [(arm, k) for arm in arms for k in range(num_seeds)]
    for arm, k in tqdm(todo, desc="evaluate", unit="model", disable=not progress, delay=2):
        model = ScoredModel.score(arms[arm][k], rows)
        blocks_in_order = blocks[model.order]
        for s, (name, mask) in enumerate(masks.items()):
            places = np.flatnonzero(mask[model.order])
            metrics[arm][name].append(model.metrics(places))
            losses[arm][k, s] = np.bincount(blocks_in_order[places], model.losses[places], minlength=num_blocks)
    counts = resample_counts(num_blocks, seed=seed)
    ne_diff = {}
    for arm in (arm for arm in arms if arm != reference):
        differences = zip(masks, ne_differences(losses[arm], losses[reference], counts), strict=True)
        ne_diff[arm] = {name: _with_events(d, metrics[arm][name][0]) for name, d in differences}
    return Evaluation(metrics, ne_diff, reference, _in_words(num_seeds, blocks, units is not None))


def _with_events(difference: NEDifference, figures: Metrics) -> NEDifference:
    """Takes the interval away where so few rows carry the rarer label that resampling cannot know what is missing."""
    positives, rows = figures["positives"] or 0, figures["rows"] or 0
    enough = min(positives, rows - positives) >= MIN_EVENTS
    return difference if enough else dataclasses.replace(difference, low=None, high=None)


def _in_words(num_seeds: int, blocks: Array, grouped: bool) -> str:
    dealt = "the rows of one unit always together" if grouped else "dealt at random"
    rows = f"{len(blocks):,} rows in {len(np.unique(blocks)):,} blocks, {dealt}"
    rest = f"Slices with fewer than {MIN_EVENTS} positives or negatives have none."
    if num_seeds == 1:
        return (
            f"Each 95 % interval resamples rows alone ({rows}), for the models of one seed. It leaves out that another "
            "seed would have given other models, which can move NE by more than the interval is wide: no claim rests "
            f"on it. {rest}"
        )
    return (
        f"Each 95 % interval is of the mean over {num_seeds} paired seeds and resamples seeds and rows ({rows}), both "
        f"paired over the arms, with a t quantile that allows for the small number of seeds. {rest}"
    )


def _check_arms(logits: Mapping[str, Array], rows: Rows, reference: str) -> dict[str, list[Array]]:
    if reference not in logits:
        raise ValueError(f"`reference` must name an arm. Received: {reference!r}; there are {sorted(logits)}")
    arms = {
        arm: [
            rows.check_logits(z, f"Logits of arm {arm!r}, seed {k},")
            for k, z in enumerate(np.atleast_2d(np.asarray(values)))
        ]
        for arm, values in logits.items()
    }
    num_seeds = {arm: len(seeds) for arm, seeds in arms.items()}
    if set(num_seeds.values()) != {num_seeds[reference]}:
        raise ValueError(f"Seeds are paired, so every arm needs the same number of them. Received: {num_seeds}")
    return arms


def _check_slices(slices: Mapping[str, Array], rows: Rows) -> dict[str, Array]:
    masks = {ALL: np.ones(len(rows.labels), dtype=bool)}
    for name, values in slices.items():
        if name == ALL:
            raise ValueError(f"The slice {ALL!r} is added by itself; give yours another name. Received: {list(slices)}")
        mask = np.asarray(values)
        if mask.shape != rows.kept.shape or mask.dtype != bool:
            raise ValueError(
                f"Slice {name!r} must be a boolean mask of shape {rows.kept.shape}. "
                f"Received: {mask.dtype} of shape {mask.shape}"
            )
        masks[name] = mask[rows.kept]
    return masks


def _check_units(units: Array, rows: Rows) -> Array:
    ids = np.asarray(units)
    if ids.shape != rows.kept.shape:
        raise ValueError(f"`units` must have one id per row, shape {rows.kept.shape}. Received: shape {ids.shape}")
    return ids[rows.kept]
