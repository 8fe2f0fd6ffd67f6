"""The attentive factorization machine as a layer of Keras 2."""

from typing import Any

import tensorflow as tf
import tf_keras

from ...layers.fm_attention import fields_and_dim, fm_attention
from ...types import Shape, Tensor


@tf_keras.utils.register_keras_serializable(package="c2al_tf")
class FMAttention(tf_keras.layers.Layer):
    """`c2al_tf.FMAttention` (attentive) for models of Keras 2: G = X (X^T Y), Y = AttentionMLP(X).

    Args:
        num_outputs: k, the number of attention columns. At least 1.
        hidden_units: Units of the attention MLP's hidden layer.

    Raises:
        ValueError: If an argument is below 1.
    """

    def __init__(self, num_outputs: int, hidden_units: int = 32, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if num_outputs < 1 or hidden_units < 1:
            raise ValueError(
                "`num_outputs` and `hidden_units` must be at least 1. "
                f"Received: num_outputs={num_outputs}, hidden_units={hidden_units}"
            )
        self.num_outputs = num_outputs
        self.hidden_units = hidden_units

    def build(self, input_shape: Shape) -> None:
        """Creates the attention MLP."""
        num_fields, dim = fields_and_dim(tuple(input_shape))
        self.hidden = tf_keras.layers.Dense(
            self.hidden_units, "relu", name="attention_hidden", dtype=self._dtype_policy
        )
        self.hidden.build((None, num_fields * dim))
        self.weights_out = tf_keras.layers.Dense(
            num_fields * self.num_outputs, name="attention_weights", dtype=self._dtype_policy
        )
        self.weights_out.build((None, self.hidden_units))
        super().build(input_shape)

    def call(self, X: Tensor) -> Tensor:
        """Maps (batch, num_fields, dim) to (batch, num_fields, num_outputs)."""
        num_fields, dim = X.shape[1:]
        Y = self.weights_out(self.hidden(tf.reshape(X, (-1, num_fields * dim))))
        return fm_attention(X, tf.reshape(Y, (-1, num_fields, self.num_outputs)))

    def compute_output_shape(self, input_shape: Shape) -> tf.TensorShape:
        """(batch, num_fields, num_outputs)."""
        return tf.TensorShape((*input_shape[:2], self.num_outputs))

    def get_config(self) -> dict[str, Any]:
        """The arguments."""
        return super().get_config() | {"num_outputs": self.num_outputs, "hidden_units": self.hidden_units}
