"""Attention weights `Y` of every factorization machine of a model on given rows, and their measures."""

from collections import Counter
from collections.abc import Mapping
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
        for name, Y in _attention_of(model, layers, x).items():
            collected[name].append(Y)
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
    layers = named_layers(model)
    inputs = _inputs_of_attention(model, x)
    return [{"layer": name, **_measures(layer, inputs[name])} for name, layer in layers.items()]


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


def _attention_of(model: keras.Model, layers: Mapping[str, FMAttention], x: Any) -> dict[str, Array]:
    inputs = _inputs_of_attention(model, x)
    return {name: _array(layer.attention(inputs[name])) for name, layer in layers.items()}


def _inputs_of_attention(model: keras.Model, x: Any) -> dict[str, Tensor]:
    """X of each layer in a forward pass, (rows, num_fields, dim), the calls of a layer one after the other."""
    return compiled_once(model, "inputs of attention", _compile_inputs)(x)


def _compile_inputs(model: keras.Model) -> Any:
    def inputs(x: Any) -> dict[str, Tensor]:
        layers = named_layers(model)
        # Not all layers are in the graph of the model, where a submodel would end.
        with recorded_calls(layers.values(), "attention") as calls:
            model(x, training=False)
        of_layer = {name: [called.inputs for called in calls if called.layer is layers[name]] for name in layers}
        return {name: tf.concat(seen, axis=0) for name, seen in of_layer.items()}

    return tf.function(inputs, autograph=False)


def _measures(layer: FMAttention, X: Tensor) -> dict[str, float]:
    measures = measures_of(_array(layer.attention(X)))
    if layer.mode == "static":
        return measures
    kernels = [np.ravel(_array(dense.kernel)) for dense in (layer.hidden, layer.weights_out)]
    hidden = layer.hidden(tf.reshape(X, (-1, X.shape[1] * X.shape[2])))
    return measures | {
        "weights_near_zero": share_near_zero(np.concatenate(kernels)),
        "dead_units": dead_units(_array(hidden)),
    }


def _array(value: Tensor) -> Array:
    return np.asarray(tf.cast(tf.convert_to_tensor(value), tf.float32))
