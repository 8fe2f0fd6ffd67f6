"""Blocks of independent units: what discovery and evaluation resample, the same however rows are sharded."""

import zlib

import numpy as np

from .types import Array

NUM_BLOCKS = 1000
NUM_RESAMPLES = 2000

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def hash_rows(numbers: Array, seed: int = 0) -> Array:
    """Maps row numbers (rows,) to evenly distributed uint64 (rows,); another seed gives another hash.

    >>> bool((hash_rows(np.arange(2, 6)) == hash_rows(np.arange(10))[2:6]).all())
    True

    References:
        G. Steele, D. Lea, C. Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014: SplitMix64.
    """
    stream = _mix(np.array([seed], np.uint64))
    return _mix((numbers.astype(np.uint64) + np.uint64(1)) * _GOLDEN ^ stream)


def _mix(z: Array) -> Array:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def deal_blocks(
    rows: int,
    *,
    units: Array | None = None,
    row_numbers: Array | None = None,
    num_blocks: int = NUM_BLOCKS,
    seed: int = 0,
) -> Array:
    """Deals rows into blocks, the things that are resampled, by a hash: a row's block does not depend on its shard.

    Args:
        rows: Number of rows.
        units: `(rows,)` ids (a user, say) whose rows are not independent: rows of one unit get one block, by the hash
            of its id. Without it every row is dealt by the hash of its number.
        row_numbers: `(rows,)` numbers of the rows among those of all shards; 0, 1, and so on if not given.
        num_blocks: Number of blocks, at least 2.
        seed: Of the dealing.

    Returns:
        `(rows,)` block numbers in `[0, num_blocks)`.
    """
    if num_blocks < 2:
        raise ValueError(f"`num_blocks` must be at least 2. Received: num_blocks={num_blocks}")
    if units is None:
        numbers = np.arange(rows) if row_numbers is None else row_numbers
        return (hash_rows(numbers, seed) % np.uint64(num_blocks)).astype(np.int64)
    ids, inverse = np.unique(units, return_inverse=True)
    blocks = np.array([zlib.crc32(str(name).encode(), seed) % num_blocks for name in ids], dtype=np.int64)
    return blocks[inverse]


def resample_counts(num_blocks: int, num_resamples: int = NUM_RESAMPLES, seed: int = 0) -> Array:
    """How often each block is drawn in each bootstrap resample: `(num_resamples, num_blocks)`."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(num_blocks, np.full(num_blocks, 1 / num_blocks), size=num_resamples).astype(np.float64)
