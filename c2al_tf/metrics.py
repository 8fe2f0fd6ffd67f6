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

    Predicting the base rate gives 1; lower is better. NaN until rows of both labels were added.

    Args:
        from_logits: Whether predictions are logits (the default) or probabilities.

    References:
        He et al. 2014, Practical Lessons from Predicting Clicks on Ads at Facebook, section 3.
    """

    def __init__(self, from_logits: bool = True, name: str = "ne", **kwargs: Any) -> None:
        super().__init__(name=name, **kwargs)
        self.from_logits = from_logits
        self.loss_sum = self.add_variable(shape=(), initializer="zeros", name="loss_sum")
        self.label_sum = self.add_variable(shape=(), initializer="zeros", name="label_sum")
        self.weight_sum = self.add_variable(shape=(), initializer="zeros", name="weight_sum")

    def update_state(self, y_true: Tensor, y_pred: Tensor, sample_weight: Tensor | None = None) -> None:
        """Adds a batch: labels and predictions (batch,) or (batch, 1), weights (batch,)."""
        labels = ops.reshape(ops.cast(y_true, "float32"), (-1,))
        logits = ops.reshape(ops.cast(y_pred, "float32"), (-1,))
        if not self.from_logits:
            p = ops.clip(logits, 1e-7, 1 - 1e-7)
            logits = ops.log(p) - ops.log1p(-p)
        weights = ops.ones_like(labels) if sample_weight is None else ops.reshape(sample_weight, (-1,))
        weights = ops.cast(weights, "float32")
        self.loss_sum.assign_add(ops.sum(weights * binary_cross_entropy(labels, logits)))
        self.label_sum.assign_add(ops.sum(weights * labels))
        self.weight_sum.assign_add(ops.sum(weights))

    def result(self) -> Tensor:
        """The normalized entropy of all batches so far."""
        rate = self.label_sum / self.weight_sum
        entropy = -rate * ops.log(rate) - (1 - rate) * ops.log1p(-rate)
        return self.loss_sum / self.weight_sum / entropy

    def get_config(self) -> dict[str, object]:
        """The arguments."""
        return {**super().get_config(), "from_logits": self.from_logits}
