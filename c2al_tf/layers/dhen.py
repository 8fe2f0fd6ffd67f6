"""A block of the Deep Hierarchical Ensemble Network, the paper's backbone (C2AL, Figure 1)."""

from collections.abc import Sequence
from typing import Any, Self

import keras
from keras import ops

from ..types import Shape, Tensor


@keras.saving.register_keras_serializable(package="c2al_tf")
class DHENBlock(keras.layers.Layer):
    """Interaction modules side by side, an ensemble layer, then Add & Norm.

        u = concat(flatten(module(X)) for every module)
        Z = reshape(W LayerNorm(u) + b, like X)
        output = LayerNorm(X + Dropout(Z))

    The inner norm keeps products of embeddings, which grow with the number of fields, on the scale of a linear module's
    output.

    Args:
        interactions: Layers, each mapping (batch, num_fields, dim) to (batch, rows, columns). At least one.
        dropout: Share of the ensemble's outputs dropped in training, in [0, 1).

    References:
        DHEN, arXiv 2203.11014, section 3.
    """

    def __init__(self, interactions: Sequence[keras.layers.Layer], dropout: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not interactions:
            raise ValueError("`interactions` must hold at least one layer. Received: none")
        self.interactions = list(interactions)
        self.dropout = dropout
        self.dropout_layer = keras.layers.Dropout(dropout, dtype=self.dtype_policy)
        self.inner_norm = keras.layers.LayerNormalization(name="inner_norm", dtype=self.dtype_policy)
        self.norm = keras.layers.LayerNormalization(name="norm", dtype=self.dtype_policy)

    def build(self, input_shape: Shape) -> None:
        """Creates the weights of the modules, the ensemble and the norms."""
        size = 0
        for layer in self.interactions:
            if not layer.built:
                layer.build(input_shape)
            _, rows, columns = layer.compute_output_shape(input_shape)
            size += rows * columns
        self.inner_norm.build((None, size))
        self.ensemble = keras.layers.Dense(input_shape[1] * input_shape[2], name="ensemble", dtype=self.dtype_policy)
        self.ensemble.build((None, size))
        self.norm.build(input_shape)

    def call(self, X: Tensor, training: bool | None = None) -> Tensor:
        """Maps (batch, num_fields, dim) to (batch, num_fields, dim)."""
        outputs = [layer(X) for layer in self.interactions]
        u = ops.concatenate([ops.reshape(Z, (-1, Z.shape[1] * Z.shape[2])) for Z in outputs], axis=1)
        Z = ops.reshape(self.ensemble(self.inner_norm(u)), (-1, *X.shape[1:]))
        return self.norm(X + self.dropout_layer(Z, training=training))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """(batch, num_fields, dim)."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """The arguments, with the interaction modules serialized."""
        config = super().get_config()
        config["interactions"] = [keras.saving.serialize_keras_object(layer) for layer in self.interactions]
        config["dropout"] = self.dropout
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """The inverse of `get_config`."""
        config = dict(config)
        config["interactions"] = [keras.saving.deserialize_keras_object(layer) for layer in config["interactions"]]
        return cls(**config)
