"""Backbones: functions from the embeddings of the fields to the representation h that all task heads share."""

from collections.abc import Callable, Mapping
from typing import TypeAlias

import keras

from .config import ModelConfig
from .layers import CrossLayer, DHENBlock, FieldEmbedding, FieldMixing, FMAttention, HistoryAttention
from .schema import CategoricalFeature, NumericFeature, Schema
from .types import Tensor

REPRESENTATION = "representation"
"""Name of the layer whose output `h` the task heads of `build_model` share."""

Backbone: TypeAlias = Callable[[Tensor, ModelConfig, str], Tensor]
"""Maps X (batch, num_fields, dim), the sizes and the layers' dtype policy to h (batch, units), by Keras layers."""


def field_embedding(schema: Schema, config: ModelConfig, dtype: str) -> FieldEmbedding:
    """The layer from the inputs to X; with the backbone `history_attention` attention pools multi-valued features.

    Raises:
        ValueError: If that backbone is asked for and no feature is multi-valued.
    """
    features = schema.features
    multiple = [feature for feature in features if isinstance(feature, CategoricalFeature) and feature.length]
    combiners: dict[str, str | keras.layers.Layer] = {feature.name: feature.combiner for feature in multiple}
    if config.backbone == "history_attention":
        if not multiple:
            raise ValueError(
                "`schema` must have a multi-valued feature, a CategoricalFeature with a `length`, for "
                f"backbone='history_attention'. Received: features={[feature.name for feature in features]}"
            )
        combiners = {
            name: HistoryAttention(config.attention_heads, name=f"history_{name}", dtype=dtype) for name in combiners
        }
    return FieldEmbedding(
        num_ids={feature.name: feature.num_ids for feature in features},
        dim=config.embedding_dim,
        values={f.name: f.value_input for f in features if isinstance(f, NumericFeature) and f.value_input},
        combiners=combiners,
        shares={f.name: f.shares for f in features if isinstance(f, CategoricalFeature) and f.shares},
        name="field_embedding",
        dtype=dtype,
    )


def dhen(X: Tensor, config: ModelConfig, dtype: str) -> Tensor:
    """DHEN blocks with the attentive factorization machine, the paper's backbone (C2AL, Figure 1)."""
    for index in range(config.num_blocks):
        X = _dhen_block(config, index, dtype)(X)
    return _dense_layers(_flatten(X, dtype), config, dtype)


def mlp(X: Tensor, config: ModelConfig, dtype: str) -> Tensor:
    """Dense layers on all embeddings of a row."""
    return _dense_layers(_dropout(_flatten(X, dtype), config, "dropout", dtype), config, dtype)


def dcn_v2(X: Tensor, config: ModelConfig, dtype: str) -> Tensor:
    """A cross network, then dense layers: the stacked structure of DCN-V2 (arXiv 2008.13535)."""
    x_0 = x = _flatten(X, dtype)
    for index in range(config.num_blocks):
        x = CrossLayer(name=f"cross_{index}", dtype=dtype)(x_0, x)
    return _dense_layers(_dropout(x, config, "dropout", dtype), config, dtype)


def self_attention(X: Tensor, config: ModelConfig, dtype: str) -> Tensor:
    """Multi-head self-attention over the fields, in blocks X = LayerNorm(X + Dropout(MultiHeadAttention(X, X))).

    References:
        AutoInt's interacting layer, arXiv 1810.11921, with the residual and norm of the Transformer.
    """
    units = max(1, config.embedding_dim // config.attention_heads)
    for index in range(config.num_blocks):
        attention = keras.layers.MultiHeadAttention(
            config.attention_heads, units, name=f"attention_{index}", dtype=dtype
        )
        Z = _dropout(attention(X, X), config, f"dropout_{index}", dtype)
        X = keras.layers.Add(name=f"residual_{index}", dtype=dtype)([X, Z])
        X = keras.layers.LayerNormalization(name=f"norm_{index}", dtype=dtype)(X)
    return _dense_layers(_flatten(X, dtype), config, dtype)


BACKBONES: Mapping[str, Backbone] = {
    "dhen": dhen,
    "mlp": mlp,
    "dcn_v2": dcn_v2,
    "self_attention": self_attention,
    "history_attention": mlp,  # its attention pools the histories, in `field_embedding`
}
"""By the name that `ModelConfig.backbone` has for it."""


def as_representation(h: Tensor, dtype: str) -> Tensor:
    """The representation h as the output of a layer of that name, whatever layer made it.

    Raises:
        ValueError: If h is not of shape (batch, units).
    """
    if not keras.backend.is_keras_tensor(h) or len(h.shape) != 2 or h.shape[-1] is None:
        raise ValueError(f"`backbone` must return a tensor of the model of shape (batch, units). Received: {h!r}")
    if h._keras_history.operation.name == REPRESENTATION:
        return h
    return keras.layers.Identity(name=REPRESENTATION, dtype=dtype)(h)


def _dhen_block(config: ModelConfig, index: int, dtype: str) -> DHENBlock:
    attention = FMAttention(
        config.num_outputs,
        config.attention,
        config.attention_units,
        config.density_penalty,
        name=f"fm_{index}",
        dtype=dtype,
    )
    interactions: list[keras.layers.Layer] = [attention]
    if config.mixing_outputs:
        interactions.append(FieldMixing(config.mixing_outputs, name=f"mixing_{index}", dtype=dtype))
    return DHENBlock(interactions, config.dropout, name=f"block_{index}", dtype=dtype)


def _flatten(X: Tensor, dtype: str) -> Tensor:
    return keras.layers.Flatten(name="flatten", dtype=dtype)(X)


def _dropout(x: Tensor, config: ModelConfig, name: str, dtype: str) -> Tensor:
    return keras.layers.Dropout(config.dropout, name=name, dtype=dtype)(x) if config.dropout else x


def _dense_layers(x: Tensor, config: ModelConfig, dtype: str) -> Tensor:
    """Dense layers with relu; the last one is the shared representation."""
    *hidden, last = config.shared_units
    for index, units in enumerate(hidden):
        x = keras.layers.Dense(units, "relu", name=f"shared_{index}", dtype=dtype)(x)
    return keras.layers.Dense(last, "relu", name=REPRESENTATION, dtype=dtype)(x)
