"""What discovery needs to know of the rows, as a value that adds up over shards and days."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from ..types import Array, Columns
from .axes import Cut
from .conditions import Condition
from .divergence import NUM_BUCKETS, prediction_buckets


@dataclass(frozen=True, eq=False)
class CohortCounts:
    """Counts of the cohorts of some cuts, cut after cut in one array each; `+`, and so `sum`, merges those of others.

    Args:
        cuts: The axes with their cohorts.
        total_rows: Rows seen, those in no cohort included.
        histograms: Rows per prediction bucket, int64 of shape (cohorts, buckets).
        positives: Rows with label 1, int64 of shape (cohorts,), or None without labels.
        prediction_sums: Sums of the predictions, float64 of shape (cohorts,).
    """

    cuts: tuple[Cut, ...]
    total_rows: int
    histograms: Array
    positives: Array | None
    prediction_sums: Array

    @property
    def rows(self) -> Array:
        """Rows per cohort, int64 of shape (cohorts,)."""
        return np.asarray(self.histograms.sum(-1))

    def __add__(self, other: "CohortCounts") -> "CohortCounts":
        if self.cuts != other.cuts or self.histograms.shape != other.histograms.shape:
            raise ValueError("Counts add up only over the same cuts and buckets: cut the axes once, for all shards.")
        if (self.positives is None) != (other.positives is None):
            raise ValueError("Counts with labels and counts without do not add up: give labels to all shards or none.")
        return CohortCounts(
            self.cuts,
            self.total_rows + other.total_rows,
            self.histograms + other.histograms,
            None if self.positives is None or other.positives is None else self.positives + other.positives,
            self.prediction_sums + other.prediction_sums,
        )

    def __radd__(self, other: int) -> "CohortCounts":
        """Lets `sum` start at 0."""
        return self if other == 0 else NotImplemented


def count_cohorts(
    predictions: Array,
    columns: Columns,
    cuts: Sequence[Cut],
    *,
    labels: Array | None = None,
    weights: Array | None = None,
    num_buckets: int = NUM_BUCKETS,
    progress: bool = True,
) -> CohortCounts:
    """Counts the rows of every cohort.

    Args:
        predictions: Probabilities of shape (rows,).
        columns: Raw columns; at least those that the cuts read.
        cuts: Axes resolved by `cut_axes`.
        labels: 0 or 1, of shape (rows,).
        weights: At least 0, of shape (rows,). Rows of weight 0 are left out; other weights change nothing.
        num_buckets: Buckets of the log-normalised prediction.
        progress: Whether to show a bar when it takes long.

    Raises:
        ValueError: If lengths differ, a prediction is no probability, a label is not 0 or 1, or a row is in two
            cohorts of a cut.
    """
    predictions = np.asarray(predictions)
    needed = {name: columns[name] for cut in cuts for c in cut.cohorts for name in c.columns if name in columns}
    check_rows(predictions, needed, labels)
    if weights is not None:
        predictions, columns, labels = weighted_rows(weights, predictions, needed, labels)
    buckets = prediction_buckets(predictions, num_buckets)
    histograms, positives, sums = [], [], []
    for cut in tqdm(cuts, desc="counting cohorts", unit="axis", delay=2, disable=not progress):
        codes = _codes(cut, columns, len(predictions))
        inside, size = codes >= 0, len(cut.cohorts)
        codes = codes[inside]
        cells = np.bincount(codes * num_buckets + buckets[inside], minlength=size * num_buckets)
        histograms.append(cells.reshape(size, num_buckets))
        sums.append(np.bincount(codes, predictions[inside].astype(np.float64), minlength=size))
        if labels is not None:
            positives.append(np.bincount(codes[np.asarray(labels)[inside] == 1], minlength=size))
    return CohortCounts(
        tuple(cuts),
        len(predictions),
        np.concatenate([np.zeros((0, num_buckets), np.int64), *histograms]),
        None if labels is None else np.concatenate([np.zeros(0, np.int64), *positives]),
        np.concatenate([np.zeros(0), *sums]),
    )


def _codes(cut: Cut, columns: Columns, rows: int) -> Array:
    """Returns the number of each row's cohort, -1 for none, of shape (rows,)."""
    masks: dict[Condition, Array] = {}
    codes = np.full(rows, -1, np.int64)
    for code, cohort in enumerate(cut.cohorts):
        # A cross repeats the conditions of its two columns many times.
        for condition in cohort.conditions:
            if condition not in masks:
                masks[condition] = condition.contains(columns)
        mask = np.logical_and.reduce([masks[condition] for condition in cohort.conditions])
        clash = mask & (codes >= 0)
        if clash.any():
            row = int(np.argmax(clash))
            raise ValueError(
                f"Cohorts of one axis must be disjoint. Axis `{cut.axis}`: row {row} is in both "
                f"`{cut.cohorts[codes[row]]}` and `{cohort}`"
            )
        codes[mask] = code
    return codes


def check_rows(predictions: Array, columns: Columns, labels: Array | None) -> None:
    """Raises ValueError unless predictions, labels and columns have equal lengths and labels are 0 or 1."""
    if predictions.ndim != 1:
        raise ValueError(f"Predictions must have shape (rows,). Received: shape {predictions.shape}")
    arrays = {f"column `{name}`": column for name, column in columns.items()}
    if labels is not None:
        arrays["labels"] = np.asarray(labels)
    for what, array in arrays.items():
        if len(array) != len(predictions):
            raise ValueError(
                f"Predictions, labels and columns must have equal lengths. Received: {len(predictions):,} predictions, "
                f"but {what} of length {len(array):,}"
            )
    if labels is not None:
        bad = ~np.isin(labels, (0, 1))
        if bad.any():
            row = int(np.argmax(bad))
            raise ValueError(f"Labels must be 0 or 1. Received: {np.asarray(labels)[row]} in row {row}")


def weighted_rows(
    weights: Array, predictions: Array, columns: Columns, labels: Array | None
) -> tuple[Array, Columns, Array | None]:
    """Returns the rows of a weight above 0.

    Raises:
        ValueError: If lengths differ, or a weight is negative or not finite.
    """
    predictions, weights = np.asarray(predictions), np.asarray(weights)
    check_rows(predictions, columns, labels)
    if weights.shape != predictions.shape:
        raise ValueError(
            f"Weights must have the shape of the predictions, {predictions.shape}. Received: shape {weights.shape}"
        )
    bad = ~((weights >= 0) & np.isfinite(weights))
    if bad.any():
        row = int(np.argmax(bad))
        raise ValueError(f"Weights must be finite and at least 0. Received: {weights[row]} in row {row}")
    kept = weights > 0
    rest = {name: column[kept] for name, column in columns.items()}
    return predictions[kept], rest, None if labels is None else np.asarray(labels)[kept]
