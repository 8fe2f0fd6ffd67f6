"""Log loss and normalized entropy, with NumPy alone; `losses` and `metrics` have them for tensors."""

import math

import numpy as np

from .types import Array


def log_loss(labels: Array, logits: Array) -> Array:
    """Elementwise log loss, log(1 + exp(z)) - y z, in nats; a label y may be a probability."""
    return np.logaddexp(0.0, logits) - labels * logits


def normalized_entropy(loss_sum: float, label_sum: float, weight_sum: float) -> float:
    """The mean log loss over the entropy of the mean label.

        NE = (sum w l / sum w) / H(sum w y / sum w),    H(p) = -p log p - (1 - p) log(1 - p)

    Args:
        loss_sum: Sum of the weighted log losses w l.
        label_sum: Sum of the weighted labels w y.
        weight_sum: Sum of the weights w.

    Returns:
        The normalized entropy; NaN where all labels are equal, or there are none.

    Examples:
        >>> normalized_entropy(4 * math.log(2), 2, 4)
        1.0

    References:
        He et al. 2014, Practical Lessons from Predicting Clicks on Ads at Facebook, section 3.
    """
    if not 0 < label_sum < weight_sum:
        return math.nan
    p = label_sum / weight_sum
    return loss_sum / weight_sum / (-p * math.log(p) - (1 - p) * math.log1p(-p))
