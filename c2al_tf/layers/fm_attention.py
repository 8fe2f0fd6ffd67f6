"""Factorization-machine interaction with attention (C2AL, Figure 1)."""

from typing import Any, Literal

import keras
from keras import ops

from ..types import Shape, Tensor
from .products import product_transposed, transposed_product


def fm_attention(X: Tensor, Y: Tensor) -> Tensor:
    """G = X (X^T Y), mapping (batch, num_fields, dim) and (batch, num_fields, num_outputs) to the shape of `Y`.

    Equal to `(X X^T) Y`, the pairwise inner products of all fields weighted by the attention, without ever building the
    num_fields x num_fields matrix. A static `Y`, the same for every row, has shape (num_fields, num_outputs).
    """
    P_T = transposed_product(Y, X)
    return product_transposed(X, P_T)


@keras.saving.register_keras_serializable(package="c2al_tf")
class FMAttention(keras.layers.Layer):
    """Factorization-machine interaction whose pairs are weighted by attention.

        Y = AttentionMLP(X)      attentive: from the row itself; static: a weight
        P = X^T Y
        G = X P = (X X^T) Y

    Args:
        num_outputs: k, the number of attention columns. At least 1.
        mode: `"attentive"` (the paper's) or `"static"` (Wukong's optimized FM).
        hidden_units: Units of the attention MLP's hidden layer.

    References:
        C2AL, arXiv 2510.02215, Figure 1; Wukong, arXiv 2403.02545, section 3.4.
    """

    def __init__(
        self,
        num_outputs: int,
        mode: Literal["attentive", "static"] = "attentive",
        hidden_units: int = 32,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if num_outputs < 1:
            raise ValueError(f"`num_outputs` must be at least 1. Received: num_outputs={num_outputs}")
        if mode not in ("attentive", "static"):
            raise ValueError(f"`mode` must be 'attentive' or 'static'. Received: mode={mode!r}")
        if hidden_units < 1:
            raise ValueError(f"`hidden_units` must be at least 1. Received: hidden_units={hidden_units}")
        self.num_outputs = num_outputs
        self.mode = mode
        self.hidden_units = hidden_units

    def build(self, input_shape: Shape) -> None:
        """Creates the attention MLP, or the static weights."""
        num_fields, dim = _fields(input_shape)
        if self.mode == "static":
            self.static_attention = self.add_weight(
                shape=(num_fields, self.num_outputs), initializer="glorot_uniform", name="attention"
            )
            return
        self.hidden = keras.layers.Dense(self.hidden_units, "relu", name="attention_hidden", dtype=self.dtype_policy)
        self.hidden.build((None, num_fields * dim))
        self.weights_out = keras.layers.Dense(
            num_fields * self.num_outputs, name="attention_weights", dtype=self.dtype_policy
        )
        self.weights_out.build((None, self.hidden_units))

    def attention(self, X: Tensor) -> Tensor:
        """Y: maps (batch, num_fields, dim) to (batch, num_fields, num_outputs); static: (num_fields, num_outputs)."""
        if self.mode == "static":
            return ops.convert_to_tensor(self.static_attention)
        num_fields, dim = X.shape[1:]
        Y = self.weights_out(self.hidden(ops.reshape(X, (-1, num_fields * dim))))
        return ops.reshape(Y, (-1, num_fields, self.num_outputs))

    def call(self, X: Tensor) -> Tensor:
        """Maps (batch, num_fields, dim) to (batch, num_fields, num_outputs)."""
        return fm_attention(X, self.attention(X))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """(batch, num_fields, num_outputs)."""
        return (*input_shape[:2], self.num_outputs)


def _fields(input_shape: Shape) -> tuple[int, int]:
    if len(input_shape) != 3 or None in input_shape[1:]:
        raise ValueError(
            f"The input must have shape (batch, num_fields, dim) with both sizes known. Received: shape={input_shape}"
        )
    return input_shape[1], input_shape[2]
