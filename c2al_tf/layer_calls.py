"""What layers of any model are given and give while the model is called."""

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import keras

from .types import Tensor


def layer_of(model: keras.Model, at: str | keras.Layer | Tensor | None) -> keras.Layer | None:
    """The layer that `at` names, whose calls are to be recorded; None where the calls of Dense layers decide.

    Raises:
        ValueError: If there is none, or another of its name.
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
            return found[0]
        raise ValueError(f"`at` must be a layer of a name that no other has. Received: {at!r}, of {len(same)} layers")
    names = sorted({layer.name for layer in layers})
    raise ValueError(
        "`at` must be a layer of the model, its name, or a tensor of a functional model. Received: "
        f"{at!r}, of {len(found)} layers; there are {names}"
    )


def layers_at(model: Any, name: str | None, dense: type = keras.layers.Dense) -> list[Any]:
    """The layers of a name; None: all Dense layers, which are of the class `dense`. The model may be of Keras 2."""
    return [layer for layer in _layers(model) if (isinstance(layer, dense) if name is None else layer.name == name)]


def _layers(model: Any) -> list[keras.Layer]:
    """All layers, also those within layers, and the operations of functional models."""
    layers = list(model._flatten_layers(include_self=False))
    operations = [x for each in [model, *layers] if isinstance(each, keras.Function) for x in each.operations]
    return list({id(layer): layer for layer in [*layers, *operations]}.values())


class Called(NamedTuple):
    """A call of a layer."""

    layer: keras.Layer
    inputs: Any
    outputs: Any


@contextlib.contextmanager
def recorded_calls(layers: Iterable[keras.Layer], method: str = "call") -> Iterator[list[Called]]:
    """Collects the calls of a method of layers, in their order."""
    seen: list[Called] = []
    set_before = []

    def recording(layer: keras.Layer, call: Any) -> Any:
        def recorded(*args: Any, **kwargs: Any) -> Any:
            outputs = call(*args, **kwargs)
            seen.append(Called(layer, args[0] if args else next(iter(kwargs.values())), outputs))
            return outputs

        return recorded

    for layer in layers:
        # Keras calls a quantized layer by another method.
        name = "quantized_call" if method == "call" and getattr(layer, "quantization_mode", None) else method
        set_before.append((layer, name, vars(layer).get(name)))
        object.__setattr__(layer, name, recording(layer, getattr(layer, name)))  # Keras would track the attribute
    try:
        yield seen
    finally:
        for layer, name, own in set_before:
            object.__delattr__(layer, name) if own is None else object.__setattr__(layer, name, own)


def calls_at(at: str | None, seen: Iterable[Called], outputs: Any) -> list[Called]:
    """The calls that `at` may mean: those of the layer; None: of Dense layers that give what has the output's shape."""
    if at is not None:
        return list(seen)
    leaves = keras.tree.flatten(outputs)
    return [called for called in seen if len(leaves) == 1 and called.outputs.shape[1:] == leaves[0].shape[1:]]


def representation(at: str | None, calls: Sequence[Called]) -> Tensor:
    """What the layer gives, or the Dense layer reads where `at` is None: (batch, units).

    Raises:
        ValueError: If there is not one call, or of a layer that is computed anew for gradients, or h has another form.
    """
    where = "a Dense layer that gives the output" if at is None else f"layer `{at}`"
    if len(calls) != 1:
        raise ValueError(
            "`at` must name a layer that the model calls once in a forward pass; None needs a model of one output "
            f"and one Dense layer of its shape. Received: {where}, of which there are {len(calls)} calls: "
            f"{[called.layer.name for called in calls]}"
        )
    if getattr(getattr(calls[0].layer, "_remat_mode", None), "mode", None):  # which cuts h off from the weights
        raise ValueError(f"`at` must not mean a layer that Keras computes anew for gradients. Received: {where}")
    h = calls[0].inputs if at is None else calls[0].outputs
    is_tensor = keras.ops.is_tensor(h) or isinstance(h, keras.KerasTensor)
    if not is_tensor or len(h.shape) != 2 or h.shape[1] is None:
        raise ValueError(
            "`at` must name a layer that gives one tensor (batch, units), whose units are known. "
            f"Received: {where}, which gives {getattr(h, 'shape', type(h).__name__)}"
        )
    return h
