"""The form of a functional or Sequential model, kept while it has auxiliary heads: class and structure of outputs."""

from collections.abc import Mapping
from typing import Any

import keras

from .layers import NamedInputs
from .types import PRIMARY, Tensor

_CLASSES = {"Sequential": keras.Sequential, "NamedInputs": NamedInputs, "Functional": keras.Function}


def inputs_of(model: keras.Model) -> Any:
    """The inputs in their structure."""
    return model.inputs[0] if isinstance(model, keras.Sequential) else model.input


def outputs_by_name(model: keras.Model) -> dict[str, Tensor]:
    """The outputs: a single one is `primary`, those of a list have the names of their layers, those of a dict its keys.

    Raises:
        ValueError: If the model is neither functional nor a Sequential that is built, or its outputs are of another
            structure.
    """
    outputs = _outputs(model)
    leaves = _leaves(outputs)
    if not leaves or not all(keras.backend.is_keras_tensor(leaf) for leaf in leaves):
        _raise_wrong_form(model, outputs)
    named = dict(zip(_leaves(_names(outputs)), leaves, strict=True))
    if len(named) < len(leaves):
        _raise_wrong_form(model, outputs)
    return named


def named_outputs(model: keras.Model, outputs: Any) -> Mapping[str, Any]:
    """What any model gave, or labels of it, by name: a single one is `primary`, those of a list as the model says.

    Raises:
        ValueError: If there are several without names.
    """
    if isinstance(outputs, Mapping):
        return outputs
    if not isinstance(outputs, list | tuple) or len(outputs) == 1:
        return {PRIMARY: outputs[0] if isinstance(outputs, list | tuple) else outputs}
    names = getattr(model, "output_names", None) or ()
    if len(names) != len(outputs):
        raise ValueError(
            f"Several outputs need names: a dict of them. Received: a {type(outputs).__name__} of {len(outputs)}"
        )
    return dict(zip(names, outputs, strict=True))


def names_in(form: Mapping[str, Any]) -> set[str]:
    """The names of the outputs."""
    return {*_leaves(form["outputs"])}


def form_of(model: keras.Model) -> dict[str, Any]:
    """Class, name, structure of the outputs with names in place of tensors, and `trainable`; fit for JSON."""
    return {
        "name": model.name,
        "model": next(name for name, kind in _CLASSES.items() if isinstance(model, kind)),
        "outputs": _names(_outputs(model)),
        "trainable": model.trainable,
    }


def restore(form: Mapping[str, Any], inputs: Any, outputs: Mapping[str, Tensor]) -> keras.Model:
    """A model of this form, with its layers shared and not changed."""
    kind = NamedInputs if form["model"] == "NamedInputs" else keras.Model
    own = {"name": form["name"], "trainable": form["trainable"]}
    model = kind(inputs, _pack(form["outputs"], outputs), **own)
    return keras.Sequential(model.layers, **own) if form["model"] == "Sequential" else model


def _outputs(model: keras.Model) -> Any:
    if isinstance(model, keras.Sequential) and model.built:
        return model.outputs[0] if len(model.outputs) == 1 else model.outputs
    return model.output if isinstance(model, keras.Function) else None


def _names(outputs: Any) -> Any:
    if isinstance(outputs, Mapping):
        return {name: name for name in outputs}
    if not isinstance(outputs, list | tuple):
        return PRIMARY
    names = [PRIMARY] if len(outputs) == 1 else [output._keras_history.operation.name for output in outputs]
    return tuple(names) if isinstance(outputs, tuple) else names


def _leaves(structure: Any) -> list[Any]:
    if isinstance(structure, Mapping):
        return list(structure.values())
    return list(structure) if isinstance(structure, list | tuple) else [structure]


def _pack(names: Any, outputs: Mapping[str, Tensor]) -> Any:
    if isinstance(names, str):
        return outputs[names]
    if isinstance(names, Mapping):
        return {name: outputs[name] for name in names}
    packed = [outputs[name] for name in names]
    return tuple(packed) if isinstance(names, tuple) else packed


def _raise_wrong_form(model: keras.Model, outputs: Any) -> None:
    raise ValueError(
        "The model must be functional, or a Sequential with an Input. Its outputs must be one tensor, a dict of "
        "tensors by task, or a list of tensors of layers with different names. "
        f"Received: {type(model).__name__} with outputs {outputs!r:.200}"
    )
