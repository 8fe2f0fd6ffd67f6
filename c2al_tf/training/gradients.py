"""The gradients of a step: of the loss, or of each task's term, which the objective then combines."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from ..form import outputs_by_name
from ..losses import Objective
from ..types import Tensor
from .batches import Weight, by_task


class Gradients(NamedTuple):
    """The gradients of the trainable variables, in their order; None where the other list has the gradient."""

    own: list[Any]
    """Of variables that the loss as a whole, or a single task, reaches."""
    shared: list[Any]
    """By task, of variables that several tasks reach: (tasks, ...), or slices of values (occurrences, tasks, ...)."""


def compute_gradients(
    model: keras.Model, objective: Objective, x: Any, y: Mapping[str, Tensor], weight: Weight, scale: Tensor = 1.0
) -> tuple[Gradients, Tensor, Mapping[str, Tensor]]:
    """The gradients of `scale` times the loss, that loss, and the logits of the forward pass."""
    if hasattr(objective, "combine"):
        return _gradients_of_tasks(model, objective, x, y, weight, scale)
    with tf.GradientTape() as tape:
        logits = by_task(model(x, training=True))
        loss, _ = objective(y, logits, weight)
        loss = scale * (loss + added_losses(model))
        scaled = model.optimizer.scale_loss(loss)
    return Gradients(tape.gradient(scaled, model.trainable_variables), []), loss, logits


def combine_gradients(model: keras.Model, objective: Any, gradients: Gradients) -> list[Any]:
    """The gradient of each trainable variable: g = sum over tasks t of c_t g_t where several tasks reach it.

    The coefficients c are the objective's, of the inner products of g_t over all such variables but tables.
    """
    if not gradients.shared:
        return gradients.own
    dense = [g for g in gradients.shared if g is not None and not isinstance(g, tf.IndexedSlices)]
    coefficients = objective.combine(_gram_matrix(model, dense))
    return [
        own if by_task is None else _combined(by_task, coefficients, variable)
        for own, by_task, variable in zip(gradients.own, gradients.shared, model.trainable_variables, strict=True)
    ]


def added_losses(model: keras.Model) -> Tensor:
    """What layers add to the loss, of the forward pass just done: regularizers of weights and outputs, `add_loss`."""
    return sum(tf.reduce_sum(tf.cast(added, tf.float32)) for added in model.losses)


def _gradients_of_tasks(
    model: keras.Model, objective: Any, x: Any, y: Mapping[str, Tensor], weight: Weight, scale: Tensor
) -> tuple[Gradients, Tensor, Mapping[str, Tensor]]:
    """What layers add to the loss goes with the first task, but makes no variable a shared one."""
    with tf.GradientTape(persistent=True) as tape:
        logits = by_task(model(x, training=True))
        terms = objective.terms(y, logits, weight)
        added = [added_losses(model)] if model.losses else []
        scaled = [model.optimizer.scale_loss(scale * value) for value in (*_in_order(model, terms), *added)]
    variables = model.trainable_variables
    found = [tape.gradient(value, variables) for value in scaled]
    of_added = found.pop() if added else [None] * len(variables)
    arranged = [_arrange(list(by_task), extra) for *by_task, extra in zip(*found, of_added, strict=True)]
    own, shared = (list(each) for each in zip(*arranged, strict=True))
    return Gradients(own, shared), scale * (sum(terms.values()) + sum(added)), logits


def _in_order(model: keras.Model, terms: Mapping[str, Tensor]) -> list[Tensor]:
    return [terms[task] for task in outputs_by_name(model)]


def _arrange(by_task: list[Any], extra: Any) -> tuple[Any, Any]:
    """A variable's gradient if one task or none reaches it, and those of all tasks if several do."""
    reached = [gradient for gradient in by_task if gradient is not None]
    if len(reached) < 2:
        return _add(reached[0] if reached else None, extra), None
    by_task[0] = _add(by_task[0], extra)
    if all(gradient is None or isinstance(gradient, tf.IndexedSlices) for gradient in by_task):
        return None, _stack_slices(by_task)
    zeros = tf.zeros_like(tf.convert_to_tensor(reached[0]))
    return None, tf.stack([zeros if gradient is None else tf.convert_to_tensor(gradient) for gradient in by_task])


def _add(a: Any, b: Any) -> Any:
    if a is None or b is None:
        return b if a is None else a
    if isinstance(a, tf.IndexedSlices) and isinstance(b, tf.IndexedSlices):
        values, indices = (tf.concat(parts, axis=0) for parts in ((a.values, b.values), (a.indices, b.indices)))
        return tf.IndexedSlices(values, indices, a.dense_shape)
    return tf.convert_to_tensor(a) + tf.convert_to_tensor(b)


def _stack_slices(by_task: Sequence[Any]) -> tf.IndexedSlices:
    """One slice an occurrence, with the values of all tasks, as rules that square occurrences need it.

    Tasks that look the same rows up have equal indices. Otherwise each task's occurrences stand apart.
    """
    present = [slices for slices in by_task if slices is not None]
    first = present[0]
    if all(_is_same(slices.indices, first.indices) for slices in present):
        values = [tf.zeros_like(first.values) if slices is None else slices.values for slices in by_task]
        return tf.IndexedSlices(tf.stack(values, axis=1), first.indices)
    blocks = [
        tf.stack([tf.zeros_like(slices.values) if other is not slices else slices.values for other in by_task], axis=1)
        for slices in present
    ]
    return tf.IndexedSlices(tf.concat(blocks, axis=0), tf.concat([slices.indices for slices in present], axis=0))


def _is_same(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors of a graph are one computation: each backward pass computes the indices of a lookup anew."""
    if a is b:
        return True
    if tf.executing_eagerly():
        return a.shape == b.shape and bool(tf.reduce_all(a == b))
    one, other = a.op, b.op
    if one.type == "Placeholder" or one.type != other.type or a.value_index != b.value_index:
        return False
    attributes = [
        {name: value.SerializeToString() for name, value in op.node_def.attr.items() if name != "_class"}
        for op in (one, other)
    ]
    pairs = zip(one.inputs, other.inputs, strict=True)
    return attributes[0] == attributes[1] and all(_is_same(*pair) for pair in pairs)


def _gram_matrix(model: keras.Model, dense: Sequence[Tensor]) -> Tensor:
    """Inner products <g_t, g_u> over all variables of gradients (tasks, ...), without the scale of the loss."""
    if not dense:
        number = len(outputs_by_name(model))
        return tf.zeros((number, number))
    flat = [tf.reshape(tf.cast(stack, tf.float32), (stack.shape[0], -1)) for stack in dense]
    g = tf.concat(flat, axis=1) / model.optimizer.scale_loss(tf.ones(()))
    # Not a matrix product: a GPU may round its factors to 10 bits.
    return tf.stack([tf.reduce_sum(row * g, axis=1) for row in tf.unstack(g)])


def _combined(by_task: Any, coefficients: Tensor, variable: keras.Variable) -> Any:
    if isinstance(by_task, tf.IndexedSlices):
        values = _weighted_sum(by_task.values, coefficients, axis=1)
        return tf.IndexedSlices(values, by_task.indices, tf.constant(list(variable.shape)))
    return _weighted_sum(by_task, coefficients, axis=0)


def _weighted_sum(values: Tensor, coefficients: Tensor, axis: int) -> Tensor:
    shape = [-1 if index == axis else 1 for index in range(len(values.shape))]
    return tf.reduce_sum(values * tf.reshape(tf.cast(coefficients, values.dtype), shape), axis=axis)
