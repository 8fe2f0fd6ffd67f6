"""Fewer negatives: every row with label 1, and a share of those with label 0 at the inverse weight."""

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np

from ...blocks import draw_rows
from ...types import Array, Columns
from ..columns.raw import num_rows
from .source import Source

WEIGHT = "sampling_weight"
"""Column of the weights where a source has none of its own."""

# Another seed than that of the blocks: which negatives stay says nothing of what is resampled together.
_SEED = 1


def with_weight(source: Source) -> Source:
    """Returns the source with a column of weights: its own, or `WEIGHT`, 1 in every row of every split."""
    if source.weight is not None:
        return source

    def weighted(split: Callable[[], Iterator[Columns]]) -> Callable[[], Iterator[Columns]]:
        return lambda: map(weighted_rows, split())

    return dataclasses.replace(
        source, weight=WEIGHT, splits={name: weighted(split) for name, split in source.splits.items()}
    )


def weighted_rows(rows: Columns) -> Columns:
    """Rows with `WEIGHT`, 1 in each."""
    return {**rows, WEIGHT: np.ones(num_rows(rows), np.float32)}


def sample_negatives(rows: Columns, label: str, weight: str, share: float, first_row: int) -> Columns:
    """Keeps every positive and a share of the negatives of a batch, so that weighted sums keep their expectation.

        P(kept) = 1 if y = 1, share if y = 0
        weight' = weight / P(kept)

    Examples:
        >>> rows = {"y": np.float32([1, 0, 0, 0]), "w": np.float32([1, 2, 1, 1])}
        >>> {name: values.tolist() for name, values in sample_negatives(rows, "y", "w", 0.5, first_row=0).items()}
        {'y': [1.0, 0.0, 0.0], 'w': [1.0, 4.0, 2.0]}

    Args:
        rows: Raw columns.
        label: Column in {0, 1}.
        weight: Column of row weights.
        share: In (0, 1].
        first_row: Number of the batch's first row in its split, from 0.
    """
    # A row is kept by the hash of its place. By a hash of its content, equal rows would stay or go together: 30,000
    # rows of one kind would become none, or 30,000 at weight 1 / share. The place does not depend on how rows are
    # batched, sharded or dealt to workers, only on their order in the source.
    positive = rows[label] == 1
    drawn = draw_rows(np.arange(first_row, first_row + num_rows(rows)), _SEED) < share
    kept = np.flatnonzero(positive | drawn)
    sampled: dict[str, Array] = {name: values[kept] for name, values in rows.items()}
    sampled[weight] = np.where(positive[kept], sampled[weight], sampled[weight] / np.float32(share))
    return sampled


def check_share(share: float | None) -> None:
    """Raises ValueError unless `negative_sampling` is a share above 0, or None."""
    if share is not None and not 0 < share <= 1:
        raise ValueError(f"`negative_sampling` must be in (0, 1], or null. Received: negative_sampling={share}")


def check_rate(positives: int, rows: int) -> None:
    """Raises ValueError unless the negatives are the many: at least half of the rows, and not all of them."""
    if not 0 < positives <= rows / 2:
        raise ValueError(
            "`negative_sampling` keeps all positives: they must be some, and at most half, of the training rows. "
            f"Received: {positives:,} positives in {rows:,} rows ({positives / rows:.1%})"
        )
