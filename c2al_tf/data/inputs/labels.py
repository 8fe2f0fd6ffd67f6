"""Auxiliary labels, y_cohort = y * 1[x in cohort] or of another design, made from raw columns for every cohort."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, TypeAlias, get_args

import keras
import numpy as np
import tensorflow as tf

from ...cohorts.cohort import Cohort
from ...types import PRIMARY, Tensor

LabelDesign: TypeAlias = Literal["conflict", "membership", "masked"]
"""What a cohort's task learns; see `task_labels` and `task_weights`."""


def task_labels(label: Tensor, member: Tensor, design: LabelDesign = "conflict") -> Tensor:
    """Maps labels y and memberships 1[x in C], (rows,), to a cohort's labels; NumPy arrays and tensors alike.

    conflict     y_C = y 1[x in C]   every row counts: the paper's (METHOD step 4)
    membership   y_C = 1[x in C]     every row counts
    masked       y_C = y             rows of C count: `task_weights` masks the others
    """
    if design == "masked":
        return label
    if tf.is_tensor(label):
        return tf.where(member, label if design == "conflict" else tf.ones_like(label), tf.zeros_like(label))
    return np.where(member, label if design == "conflict" else np.ones_like(label), np.zeros_like(label))


def task_weights(weight: Tensor, member: Tensor, design: LabelDesign = "conflict") -> Tensor:
    """Maps row weights and memberships (rows,) to the weights of the rows in a cohort's task."""
    if design != "masked":
        return weight
    zeros = tf.zeros_like(weight) if tf.is_tensor(weight) else np.zeros_like(weight)
    return tf.where(member, weight, zeros) if tf.is_tensor(weight) else np.where(member, weight, zeros)


def cohort_labels(
    columns: Mapping[str, Any], label: Tensor, cohorts: Iterable[Cohort], design: LabelDesign = "conflict"
) -> dict[str, Tensor]:
    """Maps raw columns and labels (rows,) to one label (rows,) per cohort; NumPy arrays and tensors alike.

        y_cohort = y * 1[x in cohort], or as `task_labels` says of another design

    Raises:
        ValueError: If a cohort is on a column that is not there, the design is unknown, or a label that is no tensor is
            not 0 or 1.
    """
    check_design(design)
    if not tf.is_tensor(label):
        label = np.asarray(label)
        wrong = np.flatnonzero((label != 0) & (label != 1))
        if len(wrong):
            raise ValueError(f"`label` must be 0 or 1. Received: {label[wrong[0]]} in row {wrong[0]}")
    return {cohort.name: task_labels(label, cohort.contains(columns), design) for cohort in cohorts}


def check_design(design: str) -> None:
    """Raises ValueError unless the design of labels is known."""
    if design not in get_args(LabelDesign):
        raise ValueError(f"`design` must be one of {list(get_args(LabelDesign))}. Received: design={design!r}")


def add_cohort_labels(
    dataset: tf.data.Dataset,
    cohorts: Sequence[Cohort],
    *,
    columns: Callable[[Any], Mapping[str, Tensor]] | None = None,
    keep: keras.Model | Iterable[str] | None = None,
    primary: str | None = None,
    class_weight: Mapping[int, float] | None = None,
    design: LabelDesign = "conflict",
) -> tf.data.Dataset:
    """Adds the auxiliary labels to batches of (features, label) or (features, label, weight).

    The label has shape (batch,) or (batch, 1), or there is a dict of such with one item per primary task. Gives the
    labels as {task: (batch, 1)}, float32, with `"primary"` for a single primary task. Features and weights pass
    unchanged but for `keep` and `class_weight`; where weights are a dict by task, cohorts get those of the primary.

    Args:
        dataset: Batches. Features are a dict with the raw columns that the cohorts are on, unless `columns` is given.
        cohorts: One auxiliary task each, under the cohort's name.
        columns: Maps the features to the raw columns, each (batch,), that the cohorts are on.
        keep: The model that is trained, or names: only these features stay. XLA takes no strings, and a functional
            model of Keras that gets a column more reads the wrong ones.
        primary: The primary task whose label, 0 or 1, the auxiliary ones are made from; by default the only one, or
            `"primary"`.
        class_weight: Weights of the primary label's classes 0 and 1. They multiply the row's weight in all tasks, as
            `fit(class_weight=...)` does for a model of one output; Keras refuses it for several.
        design: What the cohorts' labels are made of; see `task_labels`. With `masked` weights are a dict by task.

    Raises:
        ValueError: If the batches do not have this form, a cohort is on a column that is not there, `keep` names a
            feature that is not there, two tasks have one name, or weights do not fit the tasks.
        tf.errors.InvalidArgumentError: From the dataset, if a label that cohorts' are made from is not 0 or 1.
    """
    features, labels, weights = _specs(dataset, columns is None and keep is None)
    primary = _primary_task(labels, primary)
    check_names(cohorts, labels)
    check_design(design)
    check_columns_present(cohorts, features if columns is None else _column_names(dataset, columns))
    _check_weights(weights, labels, class_weight)
    kept = None if keep is None else _kept_names(keep, features)
    names = [cohort.name for cohort in cohorts]

    def add(features: Any, label: Any, *weight: Any) -> tuple[Any, ...]:
        y = {task: tf.reshape(tf.cast(values, tf.float32), [-1]) for task, values in _by_task(label).items()}
        _check_binary(y[primary], primary)
        raw = columns(features) if columns else features
        tasks = list(y)
        members = {cohort.name: cohort.contains(raw) for cohort in cohorts}
        y.update({name: task_labels(y[primary], member, design) for name, member in members.items()})
        x = features if kept is None else {name: features[name] for name in kept}
        weight = tuple(_task_weights(values, primary, names) for values in weight)
        if class_weight is not None:
            of_row = tf.where(y[primary] == 1, float(class_weight[1]), float(class_weight[0]))
            weight = (of_row if weight in ((), (None,)) else _scaled(weight[0], of_row),)
        if design == "masked":
            weight = (_masked(weight, y[primary], tasks, members),)
        return (x, {task: values[:, tf.newaxis] for task, values in y.items()}, *weight)

    return dataset.map(add, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)


def check_names(cohorts: Iterable[Cohort], primary_tasks: Iterable[str]) -> None:
    """Raises ValueError if two tasks, primary or cohorts, have one name."""
    seen = set(primary_tasks)
    for cohort in cohorts:
        if cohort.name in seen:
            raise ValueError(
                f"Every task needs a name of its own; taken are {sorted(seen)}. Received: cohort named {cohort.name!r}"
            )
        seen.add(cohort.name)


def check_columns_present(cohorts: Iterable[Cohort], present: Iterable[str]) -> None:
    """Raises ValueError if a cohort is on a column that is not present."""
    names = sorted(present)
    for cohort in cohorts:
        for name in cohort.columns:
            if name not in names:
                raise ValueError(
                    f"Cohort `{cohort.name}` is on a column that the data lacks. Received: {name!r}; there are {names}"
                )


def check_class_weight(class_weight: Mapping[int, float]) -> None:
    """Raises ValueError unless the classes 0 and 1, and no other, have a finite weight of at least 0 each."""
    if {*class_weight} != {0, 1} or not all(0 <= weight < math.inf for weight in class_weight.values()):
        raise ValueError(
            "`class_weight` must give the classes 0 and 1 a finite weight of at least 0 each. "
            f"Received: class_weight={class_weight}"
        )


def _specs(dataset: tf.data.Dataset, features_are_columns: bool) -> tuple[Any, dict[str, Any], Any]:
    """Specs of features, labels by task and weights, None without weights."""
    spec = dataset.element_spec
    form = isinstance(spec, tuple) and len(spec) in (2, 3)
    if not form or (features_are_columns and not isinstance(spec[0], Mapping)):
        raise ValueError(
            "`dataset` must have elements ({column: values}, label) or ({column: values}, label, weight); features "
            f"that are no dict need `columns`. Received: {spec}"
        )
    labels = _by_task(spec[1])
    for task, label in labels.items():
        _check_label(task, label)
    return spec[0], labels, spec[2] if len(spec) == 3 else None


def _by_task(label: Any) -> dict[str, Any]:
    return dict(label) if isinstance(label, Mapping) else {PRIMARY: label}


def _check_label(task: str, spec: Any) -> None:
    shape, dtype = getattr(spec, "shape", None), getattr(spec, "dtype", None)
    number = dtype is not None and (dtype.is_floating or dtype.is_integer or dtype.is_bool)
    if not number or shape is None or shape.rank not in (1, 2) or (shape.rank == 2 and shape[1] != 1):
        raise ValueError(
            f"Label `{task}` must be numbers of shape (batch,) or (batch, 1); batch the dataset first. Received: {spec}"
        )


def _primary_task(labels: Mapping[str, Any], primary: str | None) -> str:
    if primary is None:
        primary = next(iter(labels)) if len(labels) == 1 else PRIMARY
    if primary not in labels:
        raise ValueError(f"`primary` must be one of {sorted(labels)}. Received: primary={primary!r}")
    return primary


def _column_names(dataset: tf.data.Dataset, columns: Callable[[Any], Mapping[str, Tensor]]) -> list[str]:
    spec = dataset.map(lambda features, *_: columns(features)).element_spec
    if not isinstance(spec, Mapping):
        raise ValueError(f"`columns` must return a dict of raw columns by name. Received: {spec}")
    return list(spec)


def _kept_names(keep: keras.Model | Iterable[str], features: Any) -> list[str]:
    if isinstance(keep, keras.Model):
        # An input of a dict is found by its key, any other by its name.
        inputs = getattr(keep, "input", None) if isinstance(keep, keras.Function) else None
        names = list(inputs) if isinstance(inputs, Mapping) else [x.name for x in getattr(keep, "inputs", None) or ()]
    else:
        names = [keep] if isinstance(keep, str) else list(keep)
    present = sorted(features) if isinstance(features, Mapping) else []
    missing = sorted({*names} - {*present})
    if missing or not names:
        raise ValueError(
            "`keep` must be a functional model, or names, whose inputs are among the features, which are a dict. "
            f"Received: {missing or keep!r}; there are {present or features}"
        )
    return names


def _check_weights(weights: Any, labels: Mapping[str, Any], class_weight: Mapping[int, float] | None) -> None:
    if isinstance(weights, Mapping) and {*weights} != {*labels}:
        raise ValueError(f"Weights by task must be of {sorted(labels)}. Received: weights of {sorted(weights)}")
    if class_weight is not None:
        check_class_weight(class_weight)


def _check_binary(label: tf.Tensor, task: str) -> None:
    """The graph fails at a value other than 0 and 1: y * 1[x in cohort] would be no label of two classes."""
    wrong = (label != 0) & (label != 1)
    rule = f"Label `{task}`, which the cohorts' labels are made from, must be 0 or 1. Received:"
    tf.debugging.Assert(~tf.reduce_any(wrong), [rule, tf.boolean_mask(label, wrong)])


def _task_weights(weights: Any, primary: str, cohorts: Iterable[str]) -> Any:
    if not isinstance(weights, Mapping):
        return weights
    return {**weights, **dict.fromkeys(cohorts, weights[primary])}


def _masked(
    weight: tuple[Any, ...], label: tf.Tensor, tasks: Iterable[str], members: Mapping[str, tf.Tensor]
) -> dict[str, tf.Tensor]:
    """Weights by task, each cohort's on its members alone."""
    given = tf.ones_like(label) if weight in ((), (None,)) else weight[0]
    by_task = given if isinstance(given, Mapping) else dict.fromkeys([*tasks, *members], given)
    flat = {task: tf.reshape(tf.cast(values, tf.float32), (-1,)) for task, values in by_task.items()}
    return flat | {name: task_weights(flat[name], member, "masked") for name, member in members.items()}


def _scaled(weights: Any, of_row: tf.Tensor) -> Any:
    if isinstance(weights, Mapping):
        return {task: _scaled(values, of_row) for task, values in weights.items()}
    return tf.cast(weights, tf.float32) * tf.reshape(of_row, tf.shape(weights))
