"""A hash of row numbers: chance that follows from a row alone, and so is the same however rows are sharded."""

import numpy as np

from .types import Array

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
