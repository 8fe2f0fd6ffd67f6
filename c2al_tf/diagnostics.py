"""Attention weights `Y` of every factorization machine of a model on given rows."""

import keras
import numpy as np
import tensorflow as tf

from .layers import DHENBlock, FMAttention
from .types import Array


def attention_weights(model: keras.Model, batches: tf.data.Dataset) -> dict[str, Array]:
    """The attention weights Y of every `FMAttention` in the model's DHEN blocks.

    Args:
        model: A functional model with `DHENBlock` layers.
        batches: Batches `(x, ...)` of model inputs, without padded rows.

    Returns:
        By the name of the layer: (rows, num_fields, num_outputs), or (num_fields, num_outputs) if static.

    References:
        C2AL, arXiv 2510.02215, Figures 2, 4 and 5.
    """
    blocks = [layer for layer in model.layers if isinstance(layer, DHENBlock)]
    attentions = {
        layer.name: (block.input, layer)
        for block in blocks
        for layer in block.interactions
        if isinstance(layer, FMAttention)
    }
    if not attentions:
        return {}
    inputs_of_blocks = keras.Model(model.input, {name: X for name, (X, _) in attentions.items()})
    collected: dict[str, list[Array]] = {name: [] for name in attentions}
    for x, *_ in batches:
        for name, X in inputs_of_blocks(x, training=False).items():
            collected[name].append(np.asarray(attentions[name][1].attention(X), np.float32))
    return {
        name: values[0] if attentions[name][1].mode == "static" else np.concatenate(values)
        for name, values in collected.items()
    }
