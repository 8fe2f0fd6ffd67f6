"""Divergences between prediction histograms: histograms over fixed buckets, so those of shards and days add up.

References:
    C2AL, arXiv 2510.02215, section 3 and Figure 3: distributions over log-normalised prediction buckets.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import rel_entr

from ..types import Array

NUM_BUCKETS = 200

# Predictions at or below this share one end of the scale.
_LOWEST = 1e-6

# Jeffreys' prior: half a row in every bucket.
_SMOOTHING = 0.5


def log_normalized(predictions: ArrayLike) -> Array:
    """Maps probabilities to [0, 1]: 0 is 1e-6 or less, 1 is certainty.

    x = clip(log(p / 1e-6) / log(1 / 1e-6), 0, 1)

    Examples:
        >>> log_normalized([0.0, 1e-6, 1e-3, 1.0]).round(6).tolist()
        [0.0, 0.0, 0.5, 1.0]
    """
    p = np.clip(np.asarray(predictions, np.float64), _LOWEST, 1.0)
    return 1.0 - np.log(p) / np.log(_LOWEST)


def prediction_buckets(predictions: ArrayLike, num_buckets: int = NUM_BUCKETS) -> Array:
    """Maps probabilities of any shape to bucket numbers in [0, num_buckets).

    Raises:
        ValueError: If a prediction is no probability; the message names the first one and its row.
    """
    if num_buckets < 2:
        raise ValueError(f"`num_buckets` must be at least 2. Received: num_buckets={num_buckets}")
    p = np.asarray(predictions)
    # Negated, so that NaN is caught too.
    bad = ~((p >= 0) & (p <= 1))
    if bad.any():
        at = tuple(np.argwhere(bad)[0].tolist())
        where = f"row {at[-1]}" + (f" of seed {at[0]}" if p.ndim == 2 and len(p) > 1 else "")
        raise ValueError(
            f"Predictions must be probabilities in [0, 1] (a sigmoid turns logits into them). "
            f"Received: {p[at]} in {where}; {np.count_nonzero(bad):,} of {p.size:,} predictions are wrong"
        )
    return np.minimum((log_normalized(p) * num_buckets).astype(np.int64), num_buckets - 1)


def prediction_histogram(predictions: ArrayLike, num_buckets: int = NUM_BUCKETS) -> Array:
    """Counts probabilities of shape (rows,) in equal log-normalised buckets, int64 of shape (num_buckets,)."""
    return np.bincount(prediction_buckets(predictions, num_buckets), minlength=num_buckets)


def kl(p: ArrayLike, q: ArrayLike, smoothing: float = _SMOOTHING) -> Array:
    """Kullback-Leibler divergence of two histograms (..., buckets), in nats, of shape (...); not symmetric.

    KL(p || q) = sum_b p_b log(p_b / q_b),  p_b = (count_b + smoothing) / sum_c (count_c + smoothing)

    Smoothing makes a large divergence of few rows smaller than it is; the other measures need none.

    Args:
        p: Counts of rows per bucket.
        q: Counts of rows per bucket.
        smoothing: Rows added to every bucket; without it an empty bucket of `q` gives infinity.
    """
    return np.asarray(rel_entr(_shares(p, smoothing), _shares(q, smoothing)).sum(-1))


def symmetric_kl(p: ArrayLike, q: ArrayLike, smoothing: float = _SMOOTHING) -> Array:
    """Half of KL(p || q) + KL(q || p), in nats, of shape (...)."""
    p, q = _shares(p, smoothing), _shares(q, smoothing)
    return np.asarray(0.5 * ((p - q) * np.log(p / q)).sum(-1))


def jensen_shannon(p: ArrayLike, q: ArrayLike) -> Array:
    """Jensen-Shannon divergence of two histograms (..., buckets), in nats within [0, log 2], of shape (...).

    JS(p, q) = H(m) - (H(p) + H(q)) / 2,  m = (p + q) / 2,  H the entropy
    """
    p, q = _shares(p), _shares(q)
    m = 0.5 * (p + q)
    # Of equal histograms the entropies cancel up to rounding.
    return np.maximum(_entropy(m) - 0.5 * (_entropy(p) + _entropy(q)), 0.0)


def wasserstein(p: ArrayLike, q: ArrayLike) -> Array:
    """Wasserstein-1 distance of two histograms (..., buckets) on the log-normalised scale, in [0, 1], of shape (...).

    W(p, q) = sum_b |P_b - Q_b| / buckets,  P and Q the cumulative shares
    """
    p, q = _shares(p), _shares(q)
    return np.asarray(np.abs(np.cumsum(p - q, -1)).sum(-1) / p.shape[-1])


def cosine(p: ArrayLike, q: ArrayLike) -> Array:
    """Cosine distance of two histograms (..., buckets), in [0, 1], of shape (...).

    1 - <p, q> / (||p|| ||q||)
    """
    p, q = _shares(p), _shares(q)
    norms = np.sqrt(np.square(p).sum(-1) * np.square(q).sum(-1))
    return np.clip(1.0 - (p * q).sum(-1) / norms, 0.0, 1.0)


class Divergence(NamedTuple):
    """A measure that ranks pairs of cohorts.

    Attributes:
        measure: Maps two histograms (..., buckets) to (...).
        degree: 1 for a distance; 2 for what grows with the square of one.
        local: What the squared distance of near histograms is a multiple of: maps the difference D of their shares
            (..., buckets), and the shares M (buckets,) between them, above 0, to (...).
    """

    measure: Callable[[Any, Any], Array]
    degree: int
    local: Callable[[Array, Array], Array]


def pearson(D: Array, M: Array) -> Array:
    """Pearson's X^2 = sum over buckets of D^2 / M, of shape (...)."""
    return np.asarray(np.square(D) @ (1 / M))


def _local_wasserstein(D: Array, M: Array) -> Array:
    return np.square(np.abs(np.cumsum(D, -1)).sum(-1))


def _local_cosine(D: Array, M: Array) -> Array:
    """The part of D across M: a difference along M changes no angle."""
    return np.asarray(np.square(D).sum(-1) - np.square(D @ M) / (M @ M))


DIVERGENCES: Mapping[str, Divergence] = MappingProxyType(
    {
        "js": Divergence(jensen_shannon, 2, pearson),
        # A pair of cohorts has no order before its divergence is known: hence the symmetric form.
        "kl": Divergence(symmetric_kl, 2, pearson),
        "wasserstein": Divergence(wasserstein, 1, _local_wasserstein),
        "cosine": Divergence(cosine, 2, _local_cosine),
    }
)
"""The measures that rank pairs, by the names used in configurations and results."""


def _shares(counts: ArrayLike, smoothing: float = 0.0) -> Array:
    counts = np.asarray(counts, np.float64) + smoothing
    totals = counts.sum(-1, keepdims=True)
    if not np.all(totals > 0):
        raise ValueError("A histogram must count at least one row. Received: a histogram whose counts sum to 0")
    return counts / totals


def _entropy(shares: Array) -> Array:
    # `scipy.special.entr` gives the same five times slower: discovery spends its time here.
    return -np.einsum("...b,...b->...", shares, np.log(np.maximum(shares, np.finfo(np.float64).tiny)))
