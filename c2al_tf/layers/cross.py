"""A layer of the cross network of DCN-V2."""

from typing import Any

import keras
from keras import ops

from ..types import Shape, Tensor


@keras.saving.register_keras_serializable(package="c2al_tf")
class CrossLayer(keras.layers.Layer):
    """One cross of the features with themselves: output = x_0 * (W x + b) + x, with a full-rank W.

    References:
        The cross layer of DCN-V2, arXiv 2008.13535; `keras_rs.layers.FeatureCross` without projection.
    """

    def build(self, input_shape: Shape) -> None:
        """Creates W and b."""
        units = input_shape[-1]
        self.kernel = self.add_weight(shape=(units, units), initializer="glorot_uniform", name="kernel")
        self.bias = self.add_weight(shape=(units,), initializer="zeros", name="bias")

    def call(self, x_0: Tensor, x: Tensor | None = None) -> Tensor:
        """Maps (batch, units), the features and the last cross (at first the features), to (batch, units)."""
        x = x_0 if x is None else x
        return x_0 * (ops.matmul(x, self.kernel) + self.bias) + x

    def compute_output_shape(self, input_shape: Shape, *_: Any) -> Shape:
        """(batch, units)."""
        return input_shape
