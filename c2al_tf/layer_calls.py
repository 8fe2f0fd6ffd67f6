"""What a layer of any model is given and gives while the model is called."""

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import keras

from .types import Tensor


def layer_of(model: keras.Model, at: str | keras.Layer | Tensor | None) -> keras.Layer | None:
    """The layer that `at` names, which is to be recorded; None where that is decided by the calls of Dense layers.

    Raises:
        ValueError: If there is none, or another of its name, or Keras hides its calls.
    """
    if at is None:
        return None
    layers = _layers(model)
    if isinstance(at, keras.KerasTensor):
        at = at._keras_history.operation
    if isinstance(at, str):
        found = [layer for layer in layers if layer.name == at]
    else:
        found = [layer for layer in layers if layer is at]
        at = getattr(at, "name", at)
    if len(found) == 1:
        same = [layer.name for layer in layers if layer.name == found[0].name]
        if len(same) == 1:
            return _recordable(found[0])
        raise ValueError(f"`at` must be a layer of a name that no other has. Received: {at!r}, of {len(same)} layers")
    names = sorted({layer.name for layer in layers})
    raise ValueError(
        "`at` must be a layer of the model, its name, or a tensor that one of its layers gives. Received: "
        f"{at!r}, of {len(found)} layers; there are {names}"
    )


def _recordable(layer: keras.Layer) -> keras.Layer:
    """Raises ValueError if Keras calls the layer in a way that hides what it gives, or cuts it off from its weights."""
    ways = {
        "quantized": getattr(layer, "quantization_mode", None),
        "computed anew for gradients": getattr(getattr(layer, "_remat_mode", None), "mode", None),
    }
    if hidden := [way for way, value in ways.items() if value]:
        raise ValueError(f"`at` must be a layer that is not {hidden[0]}. Received: layer `{layer.name}`")
    return layer


def _layers(model: keras.Model) -> list[keras.Layer]:
    """All layers, also those within layers."""
    return list(model._flatten_layers(include_self=False))


class Called(NamedTuple):
    """A call of a layer."""

    inputs: Any
    outputs: Any


@contextlib.contextmanager
def recorded_calls(model: Any, at: str | None, dense: type = keras.layers.Dense) -> Iterator[list[Called]]:
    """Collects the calls of a layer, or of all of the class `dense`, while the model, also of Keras 2, is called."""
    seen: list[Called] = []
    layers = _layers(model)
    chosen = [x for x in layers if (isinstance(x, dense) if at is None else x.name == at)]
    before = [vars(layer).get("call") for layer in chosen]

    def recording(call: Any) -> Any:
        def recorded(*args: Any, **kwargs: Any) -> Any:
            outputs = call(*args, **kwargs)
            seen.append(Called(args[0] if args else next(iter(kwargs.values())), outputs))
            return outputs

        return recorded

    for layer in chosen:
        object.__setattr__(layer, "call", recording(layer.call))  # Keras would track the attribute
    try:
        yield seen
    finally:
        for layer, own in zip(chosen, before, strict=True):
            object.__delattr__(layer, "call") if own is None else object.__setattr__(layer, "call", own)
