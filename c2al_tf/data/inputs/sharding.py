"""The rows of each of several workers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Shard:
    """The share of one of several workers. All of them get the same number of batches, and each row goes to one.

    By rows, worker `index` gets the rows `[index * B / count, (index + 1) * B / count)` of every batch of B rows that a
    single process would get: a step of all workers is a step of one. Each worker reads all files, but only its own rows
    are encoded.

    By files, whole files, or row groups of Parquet files, are dealt out in the order of the epoch, each to the worker
    with the fewest rows, and it alone reads them. So batches differ from those of a single process, and a worker that
    has fewer rows than another ends on rows of weight 0. The rows of files that are not Parquet are counted beforehand,
    by reading them once.

    Args:
        index: The worker, from 0.
        count: Number of workers.
        by: How rows are shared.
    """

    index: int
    count: int
    by: Literal["rows", "files"] = "rows"

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"`count` must be at least 1. Received: count={self.count}")
        if not 0 <= self.index < self.count:
            raise ValueError(f"`index` must be from 0 to {self.count - 1}. Received: index={self.index}")
        if self.by not in ("rows", "files"):
            raise ValueError(f"`by` must be 'rows' or 'files'. Received: by={self.by!r}")

    def batch_rows(self, batch_size: int) -> int:
        """Returns the rows of a worker's batch.

        Raises:
            ValueError: If `count` does not divide `batch_size`.
        """
        if batch_size % self.count:
            raise ValueError(
                f"`batch_size` must be a multiple of the number of workers, {self.count}. "
                f"Received: batch_size={batch_size}"
            )
        return batch_size // self.count


WHOLE = Shard(0, 1)
"""The share of a single process."""


def deal(items: Sequence[T], sizes: Sequence[int], count: int) -> list[list[T]]:
    """Deals items out to `count` workers, in order, each to the one whose items are the smallest so far.

    Examples:
        >>> deal("abcd", [5, 1, 1, 3], 2)
        [['a'], ['b', 'c', 'd']]
    """
    shares: list[list[T]] = [[] for _ in range(count)]
    totals = [0] * count
    for item, size in zip(items, sizes, strict=True):
        least = totals.index(min(totals))
        shares[least].append(item)
        totals[least] += size
    return shares
