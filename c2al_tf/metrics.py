"""Keras metrics for click models."""

from typing import Any

import keras
from keras import ops

from .losses import binary_cross_entropy
from .types import Tensor


@keras.saving.register_keras_serializable(package="c2al_tf")
class NormalizedEntropy(keras.metrics.Metric):
    """Normalized entropy: mean log loss over the entropy of the mean label.

        NE = mean_w(bce(y, z)) / H(mean_w(y)),    H(p) = -p log p - (1 - p) log(1 - p)

    Predicting the base rate gives 1; lower is better. NaN until rows of both labels were added. Each sum is a float32
    and a float32 remainder: a float32 alone counts to 2^24 rows, and JAX has no float64 by default.

    Args:
        from_logits: Whether predictions are logits (the default) or probabilities.

    References:
        He et al. 2014, Practical Lessons from Predicting Clicks on Ads at Facebook, section 3.
    """

    def __init__(self, from_logits: bool = True, name: str = "ne", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        self.from_logits = from_logits
        self.sums = self._zeros("sums")
        self.remainders = self._zeros("remainders")

    def _zeros(self, name: str) -> keras.Variable:
        """Zeros for losses, labels and weights: `add_variable`, but float32 also within a layer of mixed precision."""
        with keras.name_scope(self.name):
            return keras.Variable(
                "zeros",
                (3,),
                "float32",
                trainable=False,
                autocast=False,
                aggregation="sum",
                synchronization="on_read",
                name=name,
            )

    def update_state(self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None) -> None:
        """Adds a batch: labels and predictions (batch,) or (batch, 1), weights (batch,)."""
        labels = ops.reshape(ops.cast(y_true, "float32"), (-1,))
        logits = ops.reshape(ops.cast(y_pred, "float32"), (-1,))
        if not self.from_logits:
            p = ops.clip(logits, 1e-7, 1 - 1e-7)
            logits = ops.log(p) - ops.log1p(-p)
        weights = ops.ones_like(labels) if sample_weight is None else ops.reshape(sample_weight, (-1,))
        weights = ops.cast(weights, "float32")
        losses = binary_cross_entropy(labels, logits)
        leading, rest = _sum(ops.stack([weights * losses, weights * labels, weights]))
        sums, error = _two_sum(self.sums, leading)
        sums, remainders = _two_sum(sums, self.remainders + error + rest)
        self.sums.assign(sums)
        self.remainders.assign(remainders)

    def result(self) -> Tensor:
        """The normalized entropy of all batches so far."""
        loss_sum, label_sum, weight_sum = ops.unstack(self.sums + self.remainders)
        rate = label_sum / weight_sum
        entropy = -rate * ops.log(rate) - (1 - rate) * ops.log1p(-rate)
        return loss_sum / weight_sum / entropy

    def get_config(self) -> dict[str, object]:
        """The arguments."""
        return {**super().get_config(), "from_logits": self.from_logits}


def _two_sum(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """The rounded sum and its rounding error: s + e = a + b exactly (Knuth, TAOCP volume 2, section 4.2.2)."""
    s = a + b
    b_in_s = s - a
    return s, (a - (s - b_in_s)) + (b - b_in_s)


def _sum(terms: Tensor) -> tuple[Tensor, Tensor]:
    """Sums (3, batch) over the batch, as leading part and rest.

    Adding and subtracting `scale` rounds the terms to multiples of one number: their sum rounds nothing (Rump et al.
    2008, Accurate Floating-Point Summation I, section 3). The rest is small: its rounding does not
    matter in batches of up to 100,000 rows.
    """
    scale = 4 * ops.sum(ops.abs(terms), axis=1, keepdims=True)
    leading = (scale + terms) - scale
    return ops.sum(leading, axis=1), ops.sum(terms - leading, axis=1)
