"""The graph of a functional Keras model: which calls made a tensor, and which tensors a layer made."""

from collections.abc import Iterable, Iterator
from typing import Any

import keras

from .types import Tensor

_SQUASHING = {"sigmoid", "hardsigmoid", "logsigmoid", "softmax", "logsoftmax", "sparsemax", "sparsesigmoid"}
"""Activations, layers and operations, in lower case without `_`, whose result is a probability or the log of one."""

_MIXING = {"average", "maximum", "minimum", "multiply"}
"""Layers and operations that make a probability of probabilities alone."""

_PASSING = {
    "activityregularization", "cast", "clip", "concatenate", "dropout", "expanddims", "flatten", "getitem", "identity",
    "permute", "ravel", "repeatvector", "reshape", "split", "squeeze", "stack", "stopgradient", "transpose", "unstack",
}  # fmt: skip
"""Layers and operations that leave a probability one."""


def calls(tensors: Iterable[Tensor]) -> list[Any]:
    """The calls that tensors depend on, each once: Keras nodes, with operation, input and output tensors."""
    found: dict[int, Any] = {}
    waiting = list(tensors)
    while waiting:
        node = _call(waiting.pop())
        if id(node) not in found:
            found[id(node)] = node
            waiting += node.input_tensors
    return list(found.values())


def is_nested_model(operation: Any) -> bool:
    """Whether an operation is a model with a graph of its own."""
    return isinstance(operation, keras.Function | keras.Sequential)


def all_layers(model: keras.Model) -> Iterator[keras.layers.Layer]:
    """The layers of a model and of the models in it."""
    for layer in model.layers:
        yield layer
        if isinstance(layer, keras.Model):
            yield from all_layers(layer)


def tensors_of_layer(model: keras.Model, name: str) -> list[Tensor]:
    """The tensors of the model's graph that a layer makes: none, or several if it is called twice.

    A layer in a nested model counts if it makes an output of the nested model.
    """
    nodes = calls([*model.inputs, *model.outputs])
    return [x for node in nodes if node.operation.name == name for x in node.output_tensors] or [
        outer for node in nodes for outer, inner in _outputs_of_nested(node) if _is_made_by(node.operation, inner, name)
    ]


def tensor_in_graph(model: keras.Model, tensor: Tensor) -> Tensor | None:
    """The tensor, if it is computed from the model's inputs; for an output of a nested model what the nested call gave.

    A nested model has a graph of its own: `model.get_layer("tower").output` is a tensor of the tower's.
    """
    if not hasattr(tensor, "_keras_history"):
        return None
    inputs = {id(x) for x in model.inputs}
    if all(id(x) in inputs for node in calls([tensor]) if node.is_input for x in node.output_tensors):
        return tensor
    nodes = calls(model.outputs)
    outer = [outer for node in nodes for outer, inner in _outputs_of_nested(node) if inner is tensor]
    return outer[0] if len(outer) == 1 else None


def squashing_operation(tensor: Tensor) -> Any | None:
    """The sigmoid, softmax or layer with such an activation whose result a tensor is, reshaped at most; else None.

    It sees the graph alone: what a layer of one's own computes in its `call` is hidden.
    """
    operation, _, position = tensor._keras_history
    if is_nested_model(operation):
        return squashing_operation(operation.outputs[position])
    names = _applied(operation)
    if names & _SQUASHING:
        return operation
    found = [squashing_operation(x) for x in _call(tensor).input_tensors]
    if names & _MIXING:
        return found[0] if found and all(found) else None
    return next(filter(None, found), None) if names & _PASSING or names == {"activation", "linear"} else None


def _applied(operation: Any) -> set[str]:
    """Names of what an operation computes: its own, and that of its activation if it is one of Keras's."""
    names = {_plain_name(operation)}
    if type(operation).__module__.split(".")[0] == "keras":
        functions = [getattr(operation, name, None) for name in ("activation", "function")]
        names |= {name for function in functions if function is not None for name in _applied(function)}
    return names


def _plain_name(operation: Any) -> str:
    return getattr(operation, "__name__", type(operation).__name__).lower().replace("_", "")


def _call(tensor: Tensor) -> Any:
    operation, index, _ = tensor._keras_history
    return operation._inbound_nodes[index]


def _outputs_of_nested(node: Any) -> list[tuple[Tensor, Tensor]]:
    """Pairs of an output of a call of a nested model and the tensor of its own graph that it is."""
    if not is_nested_model(node.operation):
        return []
    return list(zip(node.output_tensors, node.operation.outputs, strict=True))


def _is_made_by(nested: keras.Model, inner: Tensor, name: str) -> bool:
    return any(inner is tensor for tensor in tensors_of_layer(nested, name))
