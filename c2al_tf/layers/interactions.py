"""Interaction modules that stand beside the factorization machine in a DHEN block."""

from typing import Any

import keras
from keras import ops

from ..types import Shape, Tensor
from .products import transposed_product


@keras.saving.register_keras_serializable(package="c2al_tf")
class FieldMixing(keras.layers.Layer):
    """Linear combinations of the fields: Z = W^T X, with W of shape (num_fields, num_outputs).

    Args:
        num_outputs: Number of combinations. At least 1.

    References:
        The linear module of DHEN, arXiv 2203.11014; the linear compression block of Wukong, arXiv 2403.02545.
    """

    def __init__(self, num_outputs: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if num_outputs < 1:
            raise ValueError(f"`num_outputs` must be at least 1. Received: num_outputs={num_outputs}")
        self.num_outputs = num_outputs

    def build(self, input_shape: Shape) -> None:
        """Creates W."""
        self.kernel = self.add_weight(shape=(input_shape[1], self.num_outputs), name="kernel")

    def call(self, X: Tensor) -> Tensor:
        """Maps (batch, num_fields, dim) to (batch, num_outputs, dim)."""
        return transposed_product(ops.convert_to_tensor(self.kernel), X)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """(batch, num_outputs, dim)."""
        return (input_shape[0], self.num_outputs, input_shape[2])
