"""How the gradients of the auxiliary tasks stand to the primary one's, in the parameters of the attention."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import keras
import numpy as np
import tensorflow as tf

from ..form import outputs_by_name
from ..losses import weighted_sum_of_tasks
from ..training.batches import by_task
from ..training.program_cache import compiled_once
from ..types import Array, Tensor
from .attention import named_layers

Terms: TypeAlias = Callable[[Mapping[str, Tensor], Mapping[str, Tensor], Any], Mapping[str, Tensor]]
"""Maps labels, logits and row weights to each task's term of the loss, as the method `terms` of an objective."""

_MEAN_LOSSES = weighted_sum_of_tasks().terms


def attention_gradients(model: keras.Model, batch: tuple[Any, ...], terms: Terms | None = None) -> list[dict[str, Any]]:
    """The gradient of each auxiliary task beside the primary one's, for each `FMAttention` of a model.

        g_par = <g_aux, g_pri> / ||g_pri||^2 g_pri
        g_perp = g_aux - g_par

    The gradients are of all trainable parameters of the layer together: those of its attention MLP, or the weight of a
    static attention. The forward pass is that of inference (no dropout), so that nothing in the model changes.

    Args:
        model: A functional or Sequential model. Its first output is the primary task.
        batch: `(x, y, weight)`, as a training step takes it.
        terms: Each task's term of the loss; None: the mean binary cross entropy, without a lambda.

    Returns:
        For each layer (`layer`) with trainable parameters and each auxiliary task (`task`): `cosine` of g_aux and
        g_pri, 0 where one is 0; the norms `parallel` of g_par, `orthogonal` of g_perp, `norm` of g_aux and
        `primary_norm` of g_pri.

    References:
        METHOD, section 4.
    """
    # In training no gradient passes through an attention with `stop_gradient`.
    names = [
        name for name, layer in named_layers(model).items() if layer.trainable_variables and not layer.stop_gradient
    ]
    primary, *auxiliary = outputs_by_name(model)
    if not names or not auxiliary:
        return []
    gradients = _gradients_of_tasks(model, batch, terms or _MEAN_LOSSES, names)
    return [
        {"layer": name, "task": task, **compare(gradients[task][name], gradients[primary][name])}
        for name in names
        for task in auxiliary
    ]


def compare(g_aux: Array, g_pri: Array) -> dict[str, float]:
    """Cosine, norms of the parts of g_aux along g_pri and orthogonal to it, and both norms, of vectors."""
    norm, primary_norm = float(np.linalg.norm(g_aux)), float(np.linalg.norm(g_pri))
    g_par = (g_aux @ g_pri) / primary_norm**2 * g_pri if primary_norm > 0 else np.zeros_like(g_pri)
    return {
        "cosine": float(g_aux @ g_pri) / (norm * primary_norm) if norm * primary_norm > 0 else 0.0,
        "parallel": float(np.linalg.norm(g_par)),
        "orthogonal": float(np.linalg.norm(g_aux - g_par)),
        "norm": norm,
        "primary_norm": primary_norm,
    }


def _gradients_of_tasks(
    model: keras.Model, batch: tuple[Any, ...], terms: Terms, names: Sequence[str]
) -> dict[str, dict[str, Array]]:
    """By task and layer the gradient as a vector."""
    # What is trainable changes which variables a layer has for the tape.
    key = ("attention gradients", terms, tuple(names), tuple(layer.trainable for layer in model._flatten_layers()))
    gradients = compiled_once(model, key, lambda model: _compile(model, terms, names))(*batch)
    return {task: {name: _flat(parts) for name, parts in by_layer.items()} for task, by_layer in gradients.items()}


def _compile(model: keras.Model, terms: Terms, names: Sequence[str]) -> Any:
    """Traces the gradients once: in eager execution Python takes twenty times as long as the operations."""

    def gradients(x: Any, y: Any, weight: Any) -> dict[str, dict[str, list[Tensor]]]:
        layers = named_layers(model)
        values = {name: [variable.value for variable in layers[name].trainable_variables] for name in names}
        with tf.GradientTape(persistent=True) as tape:
            found = terms(y, by_task(model(x, training=False)), weight)
        return {
            task: tape.gradient(term, values, unconnected_gradients=tf.UnconnectedGradients.ZERO)
            for task, term in found.items()
        }

    return tf.function(gradients, autograph=False)


def _flat(gradients: Sequence[Tensor]) -> Array:
    return np.concatenate([np.ravel(np.asarray(gradient, np.float64)) for gradient in gradients])
