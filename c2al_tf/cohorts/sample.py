"""A sample of rows as a value that adds up over shards: what axes are cut on where no one holds all rows."""

import dataclasses
from dataclasses import dataclass

import numpy as np

from ..blocks import hash_rows
from ..types import Array, Columns

SAMPLE_ROWS = 1_000_000
"""Rows that show where 5 % of all rows end to within 0.02 % of them, the standard deviation."""


@dataclass(frozen=True, eq=False)
class RowSample:
    """Rows drawn without replacement, each as likely as any other; `+`, and so `sum`, merges with those of other rows.

    The rows whose numbers have the lowest hashes stay, in the order of these. So the sample does not depend on how the
    rows are sharded, and of no more rows than `size` it holds every one.

    Args:
        size: Most rows that stay.
        seed: Of the hash.
        hashes: Rising, uint64 of shape (sampled,).
        columns: Raw columns of the rows, each of shape (sampled,).
    """

    size: int
    seed: int
    hashes: Array
    columns: Columns

    def __add__(self, other: "RowSample") -> "RowSample":
        form, others = ((s.size, s.seed, sorted(s.columns)) for s in (self, other))
        if form != others:
            raise ValueError(
                "Samples add up only if size, seed and columns are the same. "
                f"Received: size, seed, columns = {form} and {others}"
            )
        hashes = np.concatenate([self.hashes, other.hashes])
        if len(hashes) > self.size:  # of each sample a first part stays, mostly little of the smaller one
            last = np.partition(hashes, self.size - 1)[self.size - 1]
            mine, theirs = (np.searchsorted(s.hashes, last, "right") for s in (self, other))
            hashes = np.concatenate([self.hashes[:mine], other.hashes[:theirs]])
        else:
            mine, theirs = len(self.hashes), len(other.hashes)
        columns = {
            name: np.concatenate([column[:mine], other.columns[name][:theirs]]) for name, column in self.columns.items()
        }
        return _lowest(dataclasses.replace(self, hashes=hashes, columns=columns))

    def __radd__(self, other: int) -> "RowSample":
        """Lets `sum` start at 0."""
        return self if other == 0 else NotImplemented


def sample_rows(
    columns: Columns, *, size: int = SAMPLE_ROWS, row_numbers: Array | None = None, seed: int = 0
) -> RowSample:
    """Draws a shard's part of a sample of all rows, to be cut along axes with `cut_axes(axes, sample.columns)`.

    Examples:
        >>> columns = {"age": np.arange(100)}
        >>> shards = [np.arange(40), np.arange(40, 100)]
        >>> merged = sum(sample_rows({"age": columns["age"][i]}, size=10, row_numbers=i) for i in shards)
        >>> bool((merged.columns["age"] == sample_rows(columns, size=10).columns["age"]).all())
        True

    Args:
        columns: Raw columns that the axes are on, each of shape (rows,); rows of weight 0 left out by the caller.
        size: Most rows of the sample of all rows.
        row_numbers: Numbers of the rows among those of all shards, of shape (rows,); 0, 1, and so on if not given.
        seed: Of the draw.

    Raises:
        ValueError: If there is no column, lengths differ, or the size is less than 1.
    """
    if size < 1:
        raise ValueError(f"`size` must be at least 1. Received: size={size}")
    lengths = {name: len(column) for name, column in columns.items()}
    lengths |= {} if row_numbers is None else {"row_numbers": len(row_numbers)}
    if len(set(lengths.values())) != 1:
        raise ValueError(f"`columns` must hold at least one, all of one length. Received lengths: {lengths}")
    numbers = np.arange(next(iter(lengths.values()))) if row_numbers is None else np.asarray(row_numbers)
    return _lowest(RowSample(size, seed, hash_rows(numbers, seed), columns))


def _lowest(rows: RowSample) -> RowSample:
    order = np.argsort(rows.hashes, kind="stable")[: rows.size]
    columns = {name: np.asarray(column)[order] for name, column in rows.columns.items()}
    return dataclasses.replace(rows, hashes=rows.hashes[order], columns=columns)
