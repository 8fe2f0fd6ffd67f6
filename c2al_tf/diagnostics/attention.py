"""Attention weights `Y` of every factorization machine of a model on given rows, and their measures."""

from collections import Counter
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ..layer_calls import recorded_calls
from ..layers import FMAttention
from ..layers.fm_attention import attention_layers
from ..training.program_cache import compiled_once
from ..types import Array, Tensor
from .measures import dead_units, measures_of, share_near_zero


def attention_weights(model: keras.Model, batches: tf.data.Dataset) -> dict[str, Array]:
    """The attention weights Y of every `FMAttention` in the model, also within blocks and nested layers.

    Args:
        model: Any model.
        batches: Batches `(x, ...)` of model inputs, without padded rows.

    Returns:
        By the name of the layer: (rows, num_fields, num_outputs), or (num_fields, num_outputs) if static. A layer that
        a model calls several times has the rows of all calls.

    References:
        C2AL, arXiv 2510.02215, Figures 2, 4 and 5.
    """
    layers = named_layers(model)
    if not layers:
        return {}
    collected: dict[str, list[Array]] = {name: [] for name in layers}
    for x, *_ in batches:
        for name, (Y, _) in _computed(model, x).items():
            collected[name].append(_array(Y))
    return {
        name: values[0] if layers[name].mode == "static" else np.concatenate(values)
        for name, values in collected.items()
    }


def measure_attention(model: keras.Model, x: Any) -> list[dict[str, Any]]:
    """Measures of the attention of every `FMAttention` on given rows.

    Args:
        model: Any model.
        x: The model's inputs of the rows.

    Returns:
        For each layer its name as `layer`, the measures of Y (see `measures_of`), and of an attention MLP
        `weights_near_zero`, the share near zero of both its kernels' weights, and `dead_units`, the share of its hidden
        units that are 0 on all rows.
    """
    layers, computed = named_layers(model), _computed(model, x)
    return [{"layer": name, **_measures(layer, *map(_array, computed[name]))} for name, layer in layers.items()]


def named_layers(model: keras.Model) -> dict[str, FMAttention]:
    """The layers by name; where several have one name, it is followed by `:0`, `:1` ..."""
    layers = attention_layers(model)
    counts, numbers = Counter(layer.name for layer in layers), Counter[str]()
    named = {}
    for layer in layers:
        name = layer.name
        named[f"{name}:{numbers[name]}" if counts[name] > 1 else name] = layer
        numbers[name] += 1
    return named


def _computed(model: keras.Model, x: Any) -> dict[str, tuple[Tensor, Tensor]]:
    """Y of each layer in a forward pass, and its attention MLP's hidden units (rows, units), of a static one none.

    Of a layer that is called several times it is that of all calls, one after the other.
    """
    return compiled_once(model, "attention", _compile)(x)


def _compile(model: keras.Model) -> Any:
    def compute(x: Any) -> dict[str, tuple[Tensor, Tensor]]:
        layers = named_layers(model)
        # Not all layers are in the graph of the model, where a submodel would end.
        with recorded_calls(layers.values(), "attention") as calls:
            model(x, training=False)
        found = {}
        for name, layer in layers.items():
            X = tf.concat([called.inputs for called in calls if called.layer is layer], axis=0)
            hidden = tf.zeros((0, 0))
            if layer.mode != "static":
                hidden = layer.hidden(tf.reshape(X, (-1, X.shape[1] * X.shape[2])))
            found[name] = tf.convert_to_tensor(layer.attention(X)), hidden
        return found

    return tf.function(compute, autograph=False)


def _measures(layer: FMAttention, Y: Array, hidden: Array) -> dict[str, float]:
    measures = measures_of(Y)
    if layer.mode == "static":
        return measures
    kernels = [np.ravel(_array(dense.kernel)) for dense in (layer.hidden, layer.weights_out)]
    return measures | {"weights_near_zero": share_near_zero(np.concatenate(kernels)), "dead_units": dead_units(hidden)}


def _array(value: Tensor) -> Array:
    return np.asarray(tf.cast(tf.convert_to_tensor(value), tf.float32))
