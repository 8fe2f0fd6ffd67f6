"""Counts of cohorts, by block of independent units, as values that add up over shards and days."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from ..blocks import deal_blocks
from ..types import Array
from .axes import Cut
from .cohort import Cohort
from .conditions import Condition
from .divergence import NUM_BUCKETS, prediction_buckets
from .table import RawColumn, Table, raw_columns, row_ids, row_values

NUM_BLOCKS = 256
"""Blocks that a discovery resamples. Evaluation deals into more: its counts have no prediction buckets."""


@dataclass(frozen=True, eq=False)
class CohortCounts:
    """Counts of the cohorts of some cuts, cut after cut in one array each; `+`, and so `sum`, merges those of others.

    Args:
        cuts: The axes with their cohorts.
        grouped: Whether the rows of one unit are in one block.
        seed: Of the dealing into blocks.
        total_rows: Rows seen, those in no cohort included.
        histograms: Rows per prediction bucket, int32, or int64 where a count needs it, of shape (seeds, cohorts,
            blocks, buckets); one seed per baseline.
        positives: Rows with label 1, int64 of shape (cohorts, blocks), or None without labels.
        prediction_sums: Sums of the predictions, float64 of shape (seeds, cohorts, blocks).
    """

    cuts: tuple[Cut, ...]
    grouped: bool
    seed: int
    total_rows: int
    histograms: Array
    positives: Array | None
    prediction_sums: Array

    @property
    def num_blocks(self) -> int:
        """Number of blocks that rows are dealt into."""
        return int(self.histograms.shape[2])

    @property
    def rows(self) -> Array:
        """Rows per cohort, int64 of shape (cohorts,)."""
        return np.asarray(self.histograms[0].sum((-2, -1), dtype=np.int64))

    def __add__(self, other: "CohortCounts") -> "CohortCounts":
        if self.cuts != other.cuts or self.histograms.shape != other.histograms.shape:
            raise ValueError(
                "Counts add up only over the same cuts, seeds, blocks and buckets: cut the axes once, for all shards. "
                f"Received: (seeds, cohorts, blocks, buckets) = {self.histograms.shape} and {other.histograms.shape}"
            )
        if (self.grouped, self.seed) != (other.grouped, other.seed):
            raise ValueError(
                "Counts add up only if units and seed deal their rows into the same blocks. "
                f"Received: grouped, seed = {(self.grouped, self.seed)} and {(other.grouped, other.seed)}"
            )
        if (self.positives is None) != (other.positives is None):
            raise ValueError("Counts with labels and counts without do not add up: give labels to all shards or none.")
        return CohortCounts(
            self.cuts,
            self.grouped,
            self.seed,
            self.total_rows + other.total_rows,
            _add_histograms(self.histograms, other.histograms),
            None if self.positives is None or other.positives is None else self.positives + other.positives,
            self.prediction_sums + other.prediction_sums,
        )

    def __radd__(self, other: int) -> "CohortCounts":
        """Lets `sum` start at 0."""
        return self if other == 0 else NotImplemented


def _add_histograms(a: Array, b: Array) -> Array:
    """Adds counts in int64, since int32 wraps silently; the sum is int32 again where it fits."""
    total = np.add(a, b, dtype=np.int64)
    return total.astype(np.int32) if total.max(initial=0) <= np.iinfo(np.int32).max else total


def count_cohorts(
    predictions: Any,
    columns: Table,
    cuts: Sequence[Cut],
    *,
    labels: Any = None,
    weights: Any = None,
    units: Any = None,
    row_numbers: Array | None = None,
    num_buckets: int = NUM_BUCKETS,
    num_blocks: int = NUM_BLOCKS,
    seed: int = 0,
    progress: bool = True,
) -> CohortCounts:
    """Counts the rows of every cohort, by block and prediction bucket.

    Args:
        predictions: Probabilities of shape (seeds, rows) or (seeds, rows, 1), one baseline per seed; (rows,) and
            (rows, 1) are one seed. These, labels, weights and units are NumPy arrays, tensors, lists or of pandas.
        columns: Raw columns; at least those that the cuts read; `raw_column` says in which forms.
        cuts: Axes resolved by `cut_axes`.
        labels: 0 or 1, of shape (rows,).
        weights: At least 0, of shape (rows,). Rows of weight 0 are left out; other weights change nothing.
        units: Ids (a user, say) of shape (rows,): the rows of one unit are not independent, and share a block.
        row_numbers: Numbers of the rows among those of all shards, of shape (rows,), which deal them into blocks where
            no `units` do; 0, 1, and so on if not given, which is right for all rows at once.
        num_buckets: Buckets of the log-normalised prediction.
        num_blocks: Blocks that the rows are dealt into, at least 2.
        seed: Of the dealing.
        progress: Whether to show a bar when it takes long.

    Raises:
        ValueError: If lengths differ, a prediction is no probability, or a label is not 0 or 1.
    """
    cohorts = [cohort for cut in cuts for cohort in cut.cohorts]
    raw = raw_columns(columns, (name for cohort in cohorts for name in cohort.columns))
    predictions = as_predictions(predictions, raw)
    labels = None if labels is None else row_values(labels, "labels")
    units = None if units is None else row_ids(units, "units")
    _check_lengths(predictions.shape[1], "predictions", raw, labels=labels, units=units, row_numbers=row_numbers)
    kept = counted_rows(weights, predictions.shape[1])
    _check_labels(labels, kept)
    blocks = deal_blocks(
        predictions.shape[1],
        units=units,
        row_numbers=None if row_numbers is None else np.asarray(row_numbers),
        num_blocks=num_blocks,
        seed=seed,
    )
    if weights is not None:
        predictions, blocks = predictions[:, kept], blocks[kept]
        raw = {name: column.take(kept) for name, column in raw.items()}
        labels = None if labels is None else labels[kept]
    cells = blocks * num_buckets + prediction_buckets(predictions, num_buckets)
    histograms = np.zeros((len(predictions), len(cohorts), num_blocks, num_buckets), np.int32)
    positives = np.zeros((len(cohorts), num_blocks), np.int64)
    sums = np.zeros((len(predictions), len(cohorts), num_blocks))
    members = tqdm(
        _members(cohorts, raw),
        total=len(cohorts),
        desc="counting cohorts",
        unit="cohort",
        delay=2,
        disable=not progress,
    )
    for c, rows in enumerate(members):
        for s, seed_cells in enumerate(cells):
            counts = np.bincount(seed_cells[rows], minlength=num_blocks * num_buckets)
            histograms[s, c] = counts.reshape(num_blocks, num_buckets)
            sums[s, c] = np.bincount(blocks[rows], predictions[s, rows].astype(np.float64), minlength=num_blocks)
        if labels is not None:
            positives[c] = np.bincount(blocks[rows], labels[rows], minlength=num_blocks)
    return CohortCounts(
        tuple(cuts),
        units is not None,
        seed,
        predictions.shape[1],
        histograms,
        None if labels is None else positives,
        sums,
    )


@dataclass(frozen=True, eq=False)
class CohortSizes:
    """How much each cohort has to learn from: its training rows; `+`, and so `sum`, merges those of other rows.

    Args:
        cuts: The axes with their cohorts.
        total_rows: Rows seen, those in no cohort included.
        rows: Rows per cohort, int64 of shape (cohorts,).
        positives: Those with label 1, int64 of shape (cohorts,), or None without labels.
    """

    cuts: tuple[Cut, ...]
    total_rows: int
    rows: Array
    positives: Array | None

    def __add__(self, other: "CohortSizes") -> "CohortSizes":
        if self.cuts != other.cuts or (self.positives is None) != (other.positives is None):
            raise ValueError("Sizes add up only over the same cuts, with labels in all shards or in none.")
        positives = None if self.positives is None or other.positives is None else self.positives + other.positives
        return CohortSizes(self.cuts, self.total_rows + other.total_rows, self.rows + other.rows, positives)

    def __radd__(self, other: int) -> "CohortSizes":
        """Lets `sum` start at 0."""
        return self if other == 0 else NotImplemented


def count_sizes(columns: Table, cuts: Sequence[Cut], *, labels: Any = None, weights: Any = None) -> CohortSizes:
    """Counts the (training) rows and positives of every cohort; arguments as of `count_cohorts`.

    Raises:
        ValueError: If there is no column, lengths differ, or a label is not 0 or 1.
    """
    cohorts = [cohort for cut in cuts for cohort in cut.cohorts]
    raw = raw_columns(columns, (name for cohort in cohorts for name in cohort.columns))
    labels = None if labels is None else row_values(labels, "labels")
    arrays = [*(column.values for column in raw.values()), *([] if labels is None else [labels])]
    if not arrays:
        raise ValueError("Sizes need the columns that the cuts read, or labels. Received: neither")
    num_rows = len(arrays[0])
    _check_lengths(num_rows, "training rows", raw, labels=labels)
    counted = counted_rows(weights, num_rows)
    _check_labels(labels, counted)
    positive = None if labels is None else labels[counted] == 1
    members = list(_members(cohorts, {name: column.take(counted) for name, column in raw.items()}))
    return CohortSizes(
        tuple(cuts),
        int(np.count_nonzero(counted)),
        np.array([len(rows) for rows in members], np.int64),
        None if positive is None else np.array([np.count_nonzero(positive[rows]) for rows in members], np.int64),
    )


def as_predictions(predictions: Any, columns: Mapping[str, RawColumn]) -> Array:
    """Predictions (rows,), (rows, 1), (seeds, rows) or (seeds, rows, 1) as (seeds, rows).

    The columns say how many rows there are: (3, 1) are three rows, or three seeds of one.
    """
    array = np.asarray(predictions)
    rows = next((len(column.values) for column in columns.values()), None)
    if array.ndim > 1 and array.shape[-1] == 1 and array.shape[-2] == rows:
        array = array[..., 0]
    array = np.atleast_2d(array.astype(np.float64) if array.dtype == object else array)
    if array.ndim != 2:
        raise ValueError(f"Predictions must have shape (rows,) or (seeds, rows). Received: shape {array.shape}")
    return array


def _members(cohorts: Sequence[Cohort], columns: Mapping[str, RawColumn]) -> Iterator[Array]:
    """Yields each cohort's row numbers."""
    masks: dict[Condition, Array] = {}
    for cohort in cohorts:
        # A cross repeats the conditions of its two columns many times.
        for condition in cohort.conditions:
            if condition not in masks:
                masks[condition] = np.asarray(condition.contains(columns))
        yield np.flatnonzero(np.logical_and.reduce([masks[condition] for condition in cohort.conditions]))


def _check_lengths(rows: int, counted: str, columns: Mapping[str, RawColumn], **others: Array | None) -> None:
    """Raises ValueError unless all lengths are that of the rows, which are called `counted`."""
    arrays = {f"column `{name}`": column.values for name, column in columns.items()}
    arrays |= {name: np.asarray(values) for name, values in others.items() if values is not None}
    for what, array in arrays.items():
        if len(array) != rows:
            raise ValueError(
                f"{counted.capitalize()}, labels and columns must have equal lengths. Received: {rows:,} {counted}, "
                f"but {what} of length {len(array):,}"
            )


def _check_labels(labels: Array | None, counted: Array) -> None:
    """Raises ValueError unless the labels of the rows that count are 0 or 1."""
    if labels is None:
        return
    bad = counted & ~np.isin(labels, (0, 1))
    if bad.any():
        row = int(np.argmax(bad))
        raise ValueError(f"Labels must be 0 or 1. Received: {labels[row]} in row {row}")


def counted_rows(weights: Any, num_rows: int) -> Array:
    """Returns which rows have a weight above 0, of shape (rows,); all if there are no weights.

    Raises:
        ValueError: If the length differs, or a weight is negative or not finite.
    """
    if weights is None:
        return np.ones(num_rows, bool)
    weights = row_values(weights, "weights")
    if weights.shape != (num_rows,):
        raise ValueError(f"Weights must have shape {(num_rows,)}, as the rows. Received: shape {weights.shape}")
    bad = ~((weights >= 0) & np.isfinite(weights))
    if bad.any():
        row = int(np.argmax(bad))
        raise ValueError(f"Weights must be finite and at least 0. Received: {weights[row]} in row {row}")
    return np.asarray(weights > 0)
