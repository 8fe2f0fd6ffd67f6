"""What an evaluation needs to know of the rows, as a value that adds up over shards and days."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import expit
from tqdm import tqdm

from ..blocks import NUM_BLOCKS, deal_blocks
from ..types import Array
from .scoring import NUM_SCORES, Rows, log_losses, score_buckets

ALL, REST = "all", "rest"
"""Names of slices: the one of every row, which is always there, and by custom the one of no targeted cohort's."""


@dataclass(frozen=True, eq=False)
class ArmCounts:
    """Sums of some arms on some slices; `+`, and so `sum`, merges those of other rows.

    Args:
        arms: Names of the arms.
        slices: Names of the slices, `all` first.
        grouped: Whether the rows of one unit are in one block.
        seed: Of the dealing into blocks.
        rows: Rows of a weight above 0, int64 of shape (slices,).
        positives: Those with label 1, int64 of shape (slices,).
        weight: Sums of the weights, of shape (slices,).
        positive_weight: The same over rows with label 1.
        block_rows: Rows per block, int64 of shape (blocks,).
        losses: Sums of the weighted log losses, of shape (arms, seeds, slices, blocks).
        predictions: Sums of the weighted predictions, of shape (arms, seeds, slices).
        scores: Weights by label and score bucket, of shape (arms, seeds, slices, 2, buckets); (..., 0) where AUCs are
            exact.
        aucs: Exact AUCs (arms, seeds, slices), NaN where all labels are equal; None where rows are in several shards.
    """

    arms: tuple[str, ...]
    slices: tuple[str, ...]
    grouped: bool
    seed: int
    rows: Array
    positives: Array
    weight: Array
    positive_weight: Array
    block_rows: Array
    losses: Array
    predictions: Array
    scores: Array
    aucs: Array | None = None

    @property
    def num_seeds(self) -> int:
        """Number of paired seeds."""
        return int(self.losses.shape[1])

    @property
    def num_blocks(self) -> int:
        """Number of blocks that rows are dealt into."""
        return len(self.block_rows)

    def __add__(self, other: "ArmCounts") -> "ArmCounts":
        mine, theirs = (
            {name: getattr(counts, name) for name in ("arms", "slices", "num_seeds", "num_blocks", "seed", "grouped")}
            for counts in (self, other)
        )
        for name, value in mine.items():
            if theirs[name] != value:
                raise ValueError(f"Counts add up only over the same {name}. Received: {value} and {theirs[name]}")
        if self.aucs is not None or other.aucs is not None:
            raise ValueError("Counts with exact AUCs are of all rows and do not add up. Count with exact=False")
        arrays = [f.name for f in dataclasses.fields(self) if isinstance(getattr(self, f.name), np.ndarray)]
        return dataclasses.replace(self, **{name: getattr(self, name) + getattr(other, name) for name in arrays})

    def __radd__(self, other: int) -> "ArmCounts":
        """Lets `sum` start at 0."""
        return self if other == 0 else NotImplemented


def count_arms(
    logits: Mapping[str, Array],
    labels: Array,
    slices: Mapping[str, Array],
    *,
    weights: Array | None = None,
    units: Array | None = None,
    row_numbers: Array | None = None,
    num_blocks: int = NUM_BLOCKS,
    seed: int = 0,
    exact: bool = False,
    num_scores: int = NUM_SCORES,
    progress: bool = True,
) -> ArmCounts:
    """Sums up what `compare_arms` needs of a shard's rows.

    Args:
        logits: Each arm's logits, `(seeds, rows)`, or `(rows,)` for one seed, as of `evaluate_by_cohort`.
        labels: `(rows,)` in {0, 1}.
        slices: Name to boolean mask `(rows,)`; the same names in every shard. The slice `all` is added, first.
        weights: `(rows,)` row weights, at least 0; all 1 if not given.
        units: `(rows,)` ids whose rows are resampled together, wherever they lie.
        row_numbers: `(rows,)` numbers of the rows among those of all shards, which deal them into blocks where no
            `units` do; 0, 1, and so on if not given, which is right for all rows at once.
        num_blocks: Number of blocks that the rows are dealt into for resampling.
        seed: Of the dealing and the resampling.
        exact: Whether these are all rows: AUCs are then exact, and the counts do not add up.
        num_scores: Buckets of scores otherwise: eight bytes for each, by arm, seed, slice and label. The fewer, the
            larger the error of an AUC (`scoring.histogram_auc`).
        progress: Whether to show a progress bar.

    Raises:
        ValueError: If a shape differs, or a value is out of range; the message names it.
    """
    rows = Rows.check(labels, weights)
    arms = _check_arms(logits, rows)
    masks = _check_slices(slices, rows)
    ids, numbers = (
        None if values is None else _check_ids(values, name, rows)
        for values, name in ((units, "`units`"), (row_numbers, "`row_numbers`"))
    )
    if numbers is None:
        numbers = np.flatnonzero(rows.kept)
    blocks = deal_blocks(len(rows.labels), units=ids, row_numbers=numbers, num_blocks=num_blocks, seed=seed)
    places = [np.flatnonzero(mask) for mask in masks.values()]
    shape = (len(arms), len(next(iter(arms.values()))), len(masks))
    losses, predictions = np.zeros((*shape, num_blocks)), np.zeros(shape)
    scores = np.zeros((*shape, 2, 0 if exact else num_scores))
    aucs = np.full(shape, np.nan)
    todo = [(a, k, z) for a, seeds in enumerate(arms.values()) for k, z in enumerate(seeds)]
    for a, k, z in tqdm(todo, desc="evaluate", unit="model", disable=not progress, delay=2):
        loss, prediction = log_losses(z, rows), rows.weights * expit(z)
        for s, at in enumerate(places):
            losses[a, k, s] = np.bincount(blocks[at], loss[at], minlength=num_blocks)
            predictions[a, k, s] = prediction[at].sum()
        if exact:
            aucs[a, k] = _exact_aucs(z, rows, masks)
        else:
            scores[a, k] = _count_scores(z, rows, places, num_scores)
    return ArmCounts(
        arms=tuple(arms),
        slices=tuple(masks),
        grouped=units is not None,
        seed=seed,
        rows=np.array([len(at) for at in places]),
        positives=np.array([np.count_nonzero(rows.labels[at]) for at in places]),
        weight=np.array([rows.weights[at].sum() for at in places]),
        positive_weight=np.array([rows.weights[at] @ rows.labels[at] for at in places]),
        block_rows=np.bincount(blocks, minlength=num_blocks),
        losses=losses,
        predictions=predictions,
        scores=scores,
        aucs=aucs if exact else None,
    )


def join_arms(counts: Mapping[str, Sequence[ArmCounts]]) -> ArmCounts:
    """The counts of several arms, from those of each arm's seeds, one seed each, on the same rows and slices.

    Raises:
        ValueError: If they are of other rows or slices, or the arms have different numbers of seeds.
    """
    num_seeds = {arm: len(seeds) for arm, seeds in counts.items()}
    if len(set(num_seeds.values())) != 1:
        raise ValueError(f"Seeds are paired, so every arm needs the same number of them. Received: {num_seeds}")
    first = next(iter(counts.values()))[0]
    for arm, seeds in counts.items():
        for other in seeds:
            same = other.slices == first.slices and other.seed == first.seed
            if not same or not np.array_equal(other.block_rows, first.block_rows):
                raise ValueError(f"Arms must be counted on the same rows and slices. Received: others for arm {arm!r}")

    def joined(name: str) -> Array:
        return np.stack([np.stack([getattr(c, name)[0, 0] for c in seeds]) for seeds in counts.values()])

    return dataclasses.replace(
        first,
        arms=tuple(counts),
        losses=joined("losses"),
        predictions=joined("predictions"),
        scores=joined("scores"),
        aucs=None if first.aucs is None else joined("aucs"),
    )


_SLICE_AXES = {
    **dict.fromkeys(("rows", "positives", "weight", "positive_weight"), 0),
    **dict.fromkeys(("losses", "predictions", "scores", "aucs"), 2),
}


def join_slices(parts: Sequence[ArmCounts], slices: Sequence[str]) -> ArmCounts:
    """The counts on some slices, from counts of the same arms and rows on some of these slices each.

    Args:
        parts: The counts, at least one. Of a slice that several have, the first one's are taken.
        slices: Names of the slices that are wanted, `all` first.

    Raises:
        ValueError: If the parts are of other arms or rows, or a slice is in none of them.
    """
    first = parts[0]
    for part in parts:
        same = part.arms == first.arms and part.seed == first.seed and (part.aucs is None) == (first.aucs is None)
        # All rows of all arms lose the same, block by block.
        if not same or not np.array_equal(part.losses[:, :, 0], first.losses[:, :, 0]):
            raise ValueError(f"Slices must be counted for the same arms and rows. Received: {first.arms}, {part.arms}")
    names = [name for part in parts for name in part.slices]
    missing = [name for name in slices if name not in names]
    if missing or list(slices[:1]) != [ALL]:
        raise ValueError(f"`slices` must be of {names}, {ALL!r} first. Received: {list(slices)}")
    at = [names.index(name) for name in slices]
    arrays: dict[str, Any] = {name: x.take(at, _SLICE_AXES[name]) for name, x in _side_by_side(parts).items()}
    return dataclasses.replace(first, slices=tuple(slices), **arrays)


def add_label(counts: ArmCounts, label: str, others: ArmCounts) -> ArmCounts:
    """The counts with those of another label as further slices: `all` as `label`, a slice `s` as `label, s`.

    Args:
        counts: Of the first label.
        label: What the other one is called.
        others: The other label's, of the same arms and rows.

    Raises:
        ValueError: If they are of other arms or rows.
    """
    same = others.arms == counts.arms and others.seed == counts.seed and (others.aucs is None) == (counts.aucs is None)
    if not same or not np.array_equal(others.block_rows, counts.block_rows):
        raise ValueError(f"Labels must be counted on the same arms and rows. Received: others for {label!r}")
    names = [label if name == ALL else f"{label}, {name}" for name in others.slices]
    arrays: dict[str, Any] = _side_by_side([counts, others])
    return dataclasses.replace(counts, slices=(*counts.slices, *names), **arrays)


def _side_by_side(parts: Sequence[ArmCounts]) -> dict[str, Array]:
    """The arrays with an axis of slices, those of all parts one after the other."""
    return {
        name: np.concatenate([getattr(part, name) for part in parts], axis)
        for name, axis in _SLICE_AXES.items()
        if getattr(parts[0], name) is not None
    }


def _count_scores(z: Array, rows: Rows, places: Sequence[Array], num_scores: int) -> Array:
    """Weights by slice, label and score bucket, (slices, 2, buckets)."""
    cells = score_buckets(z, num_scores) + num_scores * rows.labels.astype(np.int64)
    weights = [np.bincount(cells[at], rows.weights[at], minlength=2 * num_scores) for at in places]
    return np.stack(weights).reshape(-1, 2, num_scores)


def _exact_aucs(z: Array, rows: Rows, masks: Mapping[str, Array]) -> Array:
    """Maps kept logits and masks to AUCs (slices,), NaN where all labels are equal; as `auc` of each slice alone.

    auc = sum_p w_p (N_<p + N_=p / 2) / (P N)        p the positives, N_<p and N_=p the weights of negatives with a
                                                     lower logit than p and with the same
    """
    # Sorted once for all slices; of a slice only the weights of its negatives are summed up in that order.
    order = np.argsort(z, kind="stable")
    z, y, w = z[order], rows.labels[order], rows.weights[order]
    positive, negative_weight = np.flatnonzero(y), w * (1 - y)
    low, high = (np.searchsorted(z, z[positive], side) for side in ("left", "right"))
    aucs = np.full(len(masks), np.nan)
    for s, mask in enumerate(masks.values()):
        inside = mask[order]
        below = np.append(0.0, np.cumsum(np.where(inside, negative_weight, 0)))
        weight = np.where(inside[positive], w[positive], 0)
        pairs = weight.sum() * below[-1]
        if pairs > 0:
            aucs[s] = weight @ (below[low] + below[high]) / (2 * pairs)
    return aucs


def _check_arms(logits: Mapping[str, Array], rows: Rows) -> dict[str, list[Array]]:
    """Maps each arm's logits to those of the kept rows, by seed; raises ValueError where some break a rule."""
    if not logits:
        raise ValueError("`logits` must hold at least one arm. Received: logits={}")
    arms = {
        arm: [
            rows.check_logits(z, f"Logits of arm {arm!r}, seed {k},")
            for k, z in enumerate(np.atleast_2d(np.asarray(values)))
        ]
        for arm, values in logits.items()
    }
    num_seeds = {arm: len(seeds) for arm, seeds in arms.items()}
    if len(set(num_seeds.values())) > 1:
        raise ValueError(f"Seeds are paired, so every arm needs the same number of them. Received: {num_seeds}")
    return arms


def _check_slices(slices: Mapping[str, Array], rows: Rows) -> dict[str, Array]:
    """Maps masks of all rows to masks of the kept ones, `all` first; raises ValueError where one breaks a rule."""
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


def _check_ids(values: Array, name: str, rows: Rows) -> Array:
    ids = np.asarray(values)
    if ids.shape != rows.kept.shape:
        raise ValueError(f"{name} must have one id per row, shape {rows.kept.shape}. Received: shape {ids.shape}")
    return ids[rows.kept]
