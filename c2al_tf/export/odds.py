"""The difference of probabilities in log-odds: an absolute bound says nothing of the probabilities of rare events."""

import numpy as np

from ..types import Array
from .facts import EPSILONS

_CLIP = 1e-7
"""The distance from 0 and 1 to which Keras clips probabilities."""

_STEPS = 2.0
"""Rounding steps by which a probability may differ. A sigmoid of logits from -12 to 12 differs by 1 from its exact
value, in TensorFlow and in XLA."""


def log_odds(probabilities: Array) -> Array:
    """log(p / (1 - p)) in float64, of probabilities clipped as Keras clips them."""
    p = np.clip(np.asarray(probabilities, np.float64), _CLIP, 1 - _CLIP)
    return np.log(p) - np.log1p(-p)


def beyond_rounding(a: Array, b: Array, precision: str) -> Array:
    """The part of |log_odds(a) - log_odds(b)| that rounding of the probabilities does not explain.

    Near 0 a half precision rounds relative to the probability, near 1 all precisions round relative to 1. A model may
    take a probability from 1 in float32, so float32's step is allowed near 0, too.

        rounding = steps (epsilon p + 2^-23) / (p (1 - p)),    as log_odds' = 1 / (p (1 - p))

    Args:
        a: Probabilities, of any shape.
        b: Others, of the same shape.
        precision: The coarsest type in which they were computed, of `EPSILONS`.
    """
    ends = (np.clip(np.asarray(p, np.float64), _CLIP, 1 - _CLIP) for p in (a, b))
    step = [_STEPS * (EPSILONS[precision] * p + EPSILONS["float32"]) / (p * (1 - p)) for p in ends]
    return np.maximum(np.abs(log_odds(a) - log_odds(b)) - np.maximum(*step), 0)
