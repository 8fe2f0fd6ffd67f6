"""Rows in the form that training takes: `(x, {task: (batch, 1)}, weight)`, from any `tf.data.Dataset` of batches."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, TypeAlias

import keras
import tensorflow as tf

from ..data.inputs.dataset import in_form_already
from ..data.inputs.labels import check_class_weight
from ..form import outputs_by_name
from ..types import PRIMARY, Tensor
from .program_cache import compiled_once

Batches: TypeAlias = Callable[[int, int], tf.data.Dataset]
"""Maps (epoch, number of batches to skip) to the batches of that epoch from there on."""

Weight: TypeAlias = Tensor | Mapping[str, Tensor]
"""Weights of rows, (batch,), or of rows by task."""


def by_task(outputs: Any) -> Mapping[str, Tensor]:
    """A model's outputs, or labels, by task: those of a model with one output are the primary task's.

    Raises:
        ValueError: If there are several without names.
    """
    if isinstance(outputs, Mapping):
        return outputs
    if isinstance(outputs, list | tuple):
        if len(outputs) != 1:
            raise ValueError(
                "A model with several outputs, and its labels, must be dicts by task. "
                f"Received: a {type(outputs).__name__} of {len(outputs)}"
            )
        return {PRIMARY: outputs[0]}
    return {PRIMARY: outputs}


def epochs_of(
    rows: Batches | tf.data.Dataset,
    model: keras.Model,
    steps_per_epoch: int | None,
    class_weight: Mapping[int, float] | None = None,
) -> Callable[[int, int], Iterable[Any]]:
    """Maps (epoch, batches to skip) to the rest of the epoch's batches, in the form that a step takes.

    An epoch of a dataset is a pass over it; if it has more than `steps_per_epoch` batches, the next ones, as in `fit`.
    """
    if not isinstance(rows, tf.data.Dataset):
        limit = -1 if steps_per_epoch is None else steps_per_epoch
        return lambda epoch, skip: in_form(rows(epoch, skip), model, class_weight).take(max(limit - skip, -1))
    whole = in_form(rows, model, class_weight)
    if steps_per_epoch is None or 0 <= whole.cardinality() <= steps_per_epoch:
        return lambda epoch, skip: whole.skip(skip)
    stream: list[Iterator[Any]] = []

    def following(epoch: int, skip: int) -> Iterator[Any]:
        if not stream:
            stream.append(iter(whole.skip(epoch * steps_per_epoch + skip)))
        return islice(stream[0], steps_per_epoch - skip)

    return following


def num_steps(rows: Batches | tf.data.Dataset, steps_per_epoch: int | None) -> int | None:
    """Batches of an epoch; None if only reading them will tell.

    Raises:
        ValueError: If an epoch has no end.
    """
    if steps_per_epoch is not None or not isinstance(rows, tf.data.Dataset):
        return steps_per_epoch
    cardinality = int(rows.cardinality())
    if cardinality == tf.data.INFINITE_CARDINALITY:
        raise ValueError("An endless dataset needs `steps_per_epoch`. Received: steps_per_epoch=None")
    return cardinality if cardinality >= 0 else None


def in_form(
    rows: tf.data.Dataset, model: keras.Model, class_weight: Mapping[int, float] | None = None
) -> tf.data.Dataset:
    """Batches `(x, y)` or `(x, y, weight)` in the form that a step takes.

    Columns that the model does not read are left out: Keras would feed a dict with one more by position.

    Args:
        rows: The batches. A label has shape (batch,) or (batch, 1), or there is a dict of them by task.
        model: The model that reads them.
        class_weight: Weight of label 0 and of label 1 of the model's first task, which multiplies the row's weight.

    Raises:
        ValueError: If the batches have another form, or lack an input of the model or the label that is weighted.
        tf.errors.InvalidArgumentError: From the batches, if a label is not between 0 and 1.
    """
    spec = rows.element_spec
    if not isinstance(spec, tuple) or len(spec) not in (2, 3):
        raise ValueError(f"`batches` must have elements (x, y) or (x, y, weight). Received: {spec}")
    names = _input_names(model, spec[0])
    tasks = by_task(spec[1])
    for task, label in tasks.items():
        if label.shape.rank not in (1, 2) or (label.shape.rank == 2 and label.shape[1] != 1):
            raise ValueError(f"Label `{task}` must have shape (batch,) or (batch, 1). Received: {label}")
    primary = next(iter(outputs_by_name(model)))
    factors = None
    if class_weight is not None:
        check_class_weight(class_weight)
        factors = [float(class_weight[0]), float(class_weight[1])]
    if factors is None and in_form_already(rows) and (names is None or {*names} == {*spec[0]}):
        return rows  # Another map would cost a tenth of a second for each pass.
    if factors is not None and primary not in tasks:
        raise ValueError(f"`class_weight` is of the labels of `{primary}`. Received: labels of {sorted(tasks)}")

    def form(x: Any, y: Any, weight: Any = None) -> tuple[Any, Mapping[str, Tensor], Weight]:
        labels = {task: _label(task, label) for task, label in by_task(y).items()}
        size = tf.shape(next(iter(labels.values())))[:1]
        weight = tf.ones(size) if weight is None else weight
        weight = tf.nest.map_structure(lambda values: tf.reshape(tf.cast(values, tf.float32), (-1,)), weight)
        if factors is not None:
            factor = tf.gather(factors, tf.cast(tf.round(labels[primary][:, 0]), tf.int32))  # as Keras rounds
            weight = tf.nest.map_structure(lambda values: values * factor, weight)
        return _select(x, names), labels, weight

    # Traced once for all epochs: tracing takes a tenth of a second.
    key = ("form", str(spec), tuple(factors or ()))
    traced = compiled_once(model, key, lambda _: tf.function(form, autograph=False))
    return rows.map(lambda *batch: traced(*batch), num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)


def inputs_alone(rows: tf.data.Dataset, model: keras.Model) -> tuple[Any, Iterator[Any]]:
    """What the model reads of batches `(x, ...)`: its specification, and batch by batch."""
    spec = rows.element_spec[0]
    names = _input_names(model, spec)
    return _select(spec, names), (_select(batch[0], names) for batch in rows)


def inputs_of_batch(x: Any, model: keras.Model) -> Any:
    """What the model reads of a batch's features."""
    return _select(x, _input_names(model, x))


def grouped(batches: Iterable[Any], size: int) -> Iterable[Any]:
    """Batches of `size` batches, or fewer where their shape changes or they end; the batches themselves for size 1."""
    if size == 1:
        return batches
    if isinstance(batches, tf.data.Dataset) and all(x.shape[0] for x in tf.nest.flatten(batches.element_spec)):
        return batches.batch(size)
    return _stacked(iter(batches), size)


def _stacked(batches: Iterator[Any], size: int) -> Iterator[Any]:
    held: list[Any] = []
    for batch in batches:
        if held and (len(held) == size or _num_rows(held[0]) != _num_rows(batch)):
            yield tf.nest.map_structure(lambda *values: tf.stack(values), *held)
            held = []
        held.append(batch)
    if held:
        yield tf.nest.map_structure(lambda *values: tf.stack(values), *held)


def _num_rows(batch: Any) -> int:
    return int(tf.nest.flatten(batch)[0].shape[0])


def _select(x: Any, names: list[str] | None) -> Any:
    return x if names is None else {name: x[name] for name in names}


def _input_names(model: keras.Model, x: Any) -> list[str] | None:
    """The columns that a model with dict inputs reads; None for a model without."""
    inputs = getattr(model, "input", None)
    if not isinstance(inputs, Mapping) or not isinstance(x, Mapping):
        return None
    missing = sorted(set(inputs) - set(x))
    if missing:
        raise ValueError(f"`batches` must have every input of the model. Received: {sorted(x)}, without {missing}")
    return list(inputs)


def _label(task: str, label: Tensor) -> Tensor:
    values = tf.reshape(tf.cast(label, tf.float32), (-1, 1))
    wrong = ~((values >= 0) & (values <= 1))
    rule = f"Label `{task}` must be 0 or 1, or a probability between them. Received:"
    with tf.control_dependencies([tf.debugging.Assert(~tf.reduce_any(wrong), [rule, tf.boolean_mask(values, wrong)])]):
        return tf.identity(values)
