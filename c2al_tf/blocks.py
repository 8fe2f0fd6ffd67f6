"""Blocks of independent units: what discovery and evaluation resample, the same however rows are sharded."""

import zlib
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from scipy.stats import t as student

from .types import MISSING_INT, Array

NUM_BLOCKS = 1000
NUM_RESAMPLES = 2000
CONFIDENCE = 0.95

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def hash_rows(numbers: Array, seed: int = 0) -> Array:
    """Maps row numbers (rows,) to evenly distributed uint64 (rows,); another seed gives another hash.

    Examples:
        >>> bool((hash_rows(np.arange(2, 6)) == hash_rows(np.arange(10))[2:6]).all())
        True

    References:
        G. Steele, D. Lea, C. Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014: SplitMix64.
    """
    stream = _mix(np.array([seed], np.uint64))
    return _mix((numbers.astype(np.uint64) + np.uint64(1)) * _GOLDEN ^ stream)


def draw_rows(numbers: Array, seed: int = 0) -> Array:
    """Maps row numbers (rows,) to evenly distributed float64 (rows,) in [0, 1): what is below a share is a sample."""
    return (hash_rows(numbers, seed) >> np.uint64(11)) * 2.0**-53


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
            of its id as text, so that 7, 7.0, "7" and b"7" are one id. A row without an id (None, NaN, "" or
            `MISSING_INT`) is a unit of its own, dealt by its number. Without `units` every row is.
        row_numbers: `(rows,)` numbers of the rows among those of all shards; 0, 1, and so on if not given.
        num_blocks: Number of blocks, at least 2.
        seed: Of the dealing.

    Returns:
        `(rows,)` block numbers in `[0, num_blocks)`.
    """
    if num_blocks < 2:
        raise ValueError(f"`num_blocks` must be at least 2. Received: num_blocks={num_blocks}")
    hashes = hash_rows(np.arange(rows) if row_numbers is None else row_numbers, seed)
    if units is not None:
        if units.shape != (rows,):
            raise ValueError(f"`units` must have shape {(rows,)}, as the rows. Received: shape {units.shape}")
        ids, inverse = _distinct(units)
        texts = [_id_text(value) for value in ids]
        present = np.array([text not in _MISSING for text in texts], bool)
        # CRCs of two seeds differ by a constant for ids of one length: the seed enters after them.
        by_id = hash_rows(np.array([zlib.crc32(text) for text in texts], np.uint64), seed)
        hashes = np.where(present[inverse], by_id[inverse], hashes)
    return (hashes % np.uint64(num_blocks)).astype(np.int64)


_MISSING = (b"", str(MISSING_INT).encode())


def _distinct(units: Array) -> tuple[list[Any], Array]:
    """Returns the distinct ids, and of each row the index of its id, of shape (rows,)."""
    if units.dtype != object:
        ids, inverse = np.unique(units, return_inverse=True)
        return list(ids), inverse
    # Objects of different types cannot be sorted.
    numbers: dict[Any, int] = {}
    inverse = np.array([numbers.setdefault(value, len(numbers)) for value in units.tolist()], np.int64)
    return list(numbers), inverse


def _id_text(value: Any) -> bytes:
    """Returns an id as text, whatever type it arrives in; nothing for None and NaN."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, float | np.floating):
        if np.isnan(value):
            return b""
        value = int(value) if value.is_integer() else value
    return b"" if value is None else str(value).encode()


def resample_counts(num_blocks: int, num_resamples: int = NUM_RESAMPLES, seed: int = 0) -> Array:
    """How often each block is drawn in each bootstrap resample: `(num_resamples, num_blocks)`."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(num_blocks, np.full(num_blocks, 1 / num_blocks), size=num_resamples).astype(np.float64)


@dataclass(frozen=True)
class Variation:
    r"""How a figure varies over K seeds and over blocks of rows, and so how its mean over the seeds does.

    The figure `d[k]` of seed `k` varies with the rows in a way that all seeds share (variance R), with the seed (S),
    and with the rows in a way of each seed's own (I), so the mean's variance is `R + (S + I) / K`. What the data show:

        v_seeds = variance of d[k] over the K seeds, divisor K - 1              expects S + I
        v_each  = mean over k of the bootstrap variance of d[k]                 expects R + I
        v_rows  = bootstrap variance of the mean over k of d[k]                 expects R + I / K
        shared  = (K v_rows - v_each) / (K - 1)                                 expects R
        V       = max(v_seeds / K + shared, v_rows)

    `v_seeds + v_rows` alone would count I twice. A percentile bootstrap over few seeds is too narrow twice over: its
    variance is `(K - 1) / K` of `v_seeds / K`, and it ignores that `K` numbers say little about a variance. So the
    divisor is `K - 1`, and the degrees of freedom are Satterthwaite's for a sum of two estimated variances,
    `a = v_seeds / K` and `b = V - a`:

        df = V^2 / (a^2 / (K - 1) + b^2 / (blocks with rows - 1))

    With one seed `V = v_rows`: rows alone, and another seed's model may lie far outside.

    Args:
        num_seeds: K.
        num_filled: Number of blocks with rows, at least 2.
        seeds: v_seeds; 0 with one seed.
        each: v_each.
        rows: v_rows.

    References:
        A. B. Owen, "The pigeonhole bootstrap", Annals of Applied Statistics 1 (2007); F. E. Satterthwaite, "An
        approximate distribution of estimates of variance components", Biometrics Bulletin 2 (1946).
    """

    num_seeds: int
    num_filled: int
    seeds: float
    each: float
    rows: float

    @classmethod
    def of(cls, by_seed: Array, resampled: Array, num_filled: int) -> Self:
        """From each seed's figure (seeds,), and the same on every resample of blocks (seeds, resamples)."""
        return cls(
            len(by_seed),
            num_filled,
            float(by_seed.var(ddof=1)) if len(by_seed) > 1 else 0.0,
            float(resampled.var(axis=1, ddof=1).mean()),
            float(resampled.mean(axis=0).var(ddof=1)),
        )

    @property
    def variance(self) -> float:
        """V."""
        if self.num_seeds == 1:
            return self.rows
        shared = max((self.num_seeds * self.rows - self.each) / (self.num_seeds - 1), 0.0)
        return max(self.seeds / self.num_seeds + shared, self.rows)

    @property
    def degrees_of_freedom(self) -> float:
        """Of V."""
        if self.num_seeds == 1:
            return self.num_filled - 1
        a, variance = self.seeds / self.num_seeds, self.variance
        if variance == 0:
            return 1.0
        return variance**2 / (a**2 / (self.num_seeds - 1) + (variance - a) ** 2 / (self.num_filled - 1))

    @property
    def margin(self) -> float:
        """Half the width of the mean's 95 % interval."""
        return self.margin_of(1)

    def margin_of(self, number: int) -> float:
        """Half the width of the mean's interval, if `number` of such intervals are to hold at once in 95 % of cases.

        References:
            Bonferroni's correction.
        """
        quantile = student.ppf(1 - (1 - CONFIDENCE) / (2 * max(number, 1)), self.degrees_of_freedom)
        return float(quantile) * self.variance**0.5

    def projected(self, num_seeds: int, rows: float = 1.0) -> Self:
        """The variation to be expected with another number of seeds, at least 2, and `rows` times the rows.

        R and I fall with the rows, S does not; see the class. Two seeds at least must be known.
        """
        shared = max((self.num_seeds * self.rows - self.each) / (self.num_seeds - 1), 0.0)
        own = max(self.each - shared, 0.0)
        seeds = max(self.seeds - own, 0.0) + own / rows
        return type(self)(num_seeds, self.num_filled, seeds, (shared + own) / rows, (shared + own / num_seeds) / rows)
