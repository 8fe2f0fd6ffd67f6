"""Pooling of a multi-valued field by attention."""

from typing import Any

import keras
from keras import ops

from ..types import Shape, Tensor


@keras.saving.register_keras_serializable(package="c2al_tf")
class HistoryAttention(keras.layers.Layer):
    """Pools the embeddings E of the values of a multi-valued field: self-attention, then a weighted mean.

        S = LayerNorm(E + MultiHeadAttention(E, E))      every value attends to the values that are present
        a = softmax(S q)                                 over the values that are present
        output = S^T a                                   0 where none is

    The order of the values does not matter. Padding (id 0) contributes nothing and learns nothing.

    Args:
        num_heads: Attentions side by side in the multi-head attention, each of dim / num_heads units. At least 1.

    References:
        Self-attention: arXiv 1706.03762, section 3.2. Pooling by a learned query, here without a hidden layer: Yang et
        al., NAACL 2016, section 2.2.
    """

    def __init__(self, num_heads: int = 2, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if num_heads < 1:
            raise ValueError(f"`num_heads` must be at least 1. Received: num_heads={num_heads}")
        self.num_heads = num_heads

    def build(self, input_shape: dict[str, Shape]) -> None:
        """Creates the attention, the norm and the query q."""
        shape = input_shape["embeddings"]
        dim = shape[-1]
        self.attention = keras.layers.MultiHeadAttention(
            self.num_heads, max(1, dim // self.num_heads), name="attention", dtype=self.dtype_policy
        )
        self.attention.build(shape, shape)
        self.norm = keras.layers.LayerNormalization(name="norm", dtype=self.dtype_policy)
        self.norm.build(shape)
        self.query = self.add_weight(shape=(dim, 1), initializer="glorot_uniform", name="query")

    def call(self, inputs: dict[str, Tensor]) -> Tensor:
        """Maps `embeddings` (batch, length, dim) of `ids` (batch, length) to (batch, dim)."""
        E, present = inputs["embeddings"], ops.not_equal(inputs["ids"], 0)
        S = self.norm(E + self.attention(E, E, attention_mask=ops.expand_dims(present, 1)))
        # In float32: bfloat16 has fewer than three significant digits.
        scores = ops.cast(ops.squeeze(ops.matmul(S, self.query), -1), "float32")
        a = ops.softmax(ops.where(present, scores, -1e9)) * ops.cast(present, "float32")
        return ops.sum(S * ops.cast(ops.expand_dims(a, -1), S.dtype), axis=1)

    def compute_output_shape(self, input_shape: dict[str, Shape]) -> Shape:
        """(batch, dim)."""
        batch, _, dim = input_shape["embeddings"]
        return (batch, dim)
