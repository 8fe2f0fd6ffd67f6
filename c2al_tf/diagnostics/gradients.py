"""How the gradients of the auxiliary tasks stand to the primary one's, in the parameters of the attention."""

from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import Any, TypeAlias

import keras
import numpy as np
import tensorflow as tf

from ..form import outputs_by_name
from ..losses import weighted_sum_of_tasks
from ..training.batches import by_task
from ..types import Array, Tensor
from .attention import named_layers

Terms: TypeAlias = Callable[[Mapping[str, Tensor], Mapping[str, Tensor], Any], Mapping[str, Tensor]]
"""Maps labels, logits and row weights to each task's term of the loss, as the method `terms` of an objective."""


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
    layers = {
        name: [] if layer.stop_gradient else layer.trainable_variables for name, layer in named_layers(model).items()
    }
    variables = [variable for group in layers.values() for variable in group]
    primary, *auxiliary = outputs_by_name(model)
    if not variables or not auxiliary:
        return []
    gradients = _gradients_of_tasks(model, batch, terms or weighted_sum_of_tasks().terms, variables)
    ends = accumulate((len(group) for group in layers.values()), initial=0)
    parts = {name: slice(*ends) for name, ends in zip(layers, pairwise(ends), strict=True)}
    return [
        {"layer": name, "task": task, **compare(_flat(gradients[task][part]), _flat(gradients[primary][part]))}
        for name, part in parts.items()
        for task in auxiliary
        if layers[name]
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
    model: keras.Model, batch: tuple[Any, ...], terms: Terms, variables: Sequence[keras.Variable]
) -> dict[str, list[Tensor]]:
    x, y, weight = batch
    values = [variable.value for variable in variables]
    with tf.GradientTape(persistent=True) as tape:
        found = terms(y, by_task(model(x, training=False)), weight)
    return {
        task: tape.gradient(term, values, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        for task, term in found.items()
    }


def _flat(gradients: Sequence[Tensor]) -> Array:
    return np.concatenate([np.ravel(np.asarray(gradient, np.float64)) for gradient in gradients])
