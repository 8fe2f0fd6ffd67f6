"""Auxiliary labels, y_cohort = y * 1[x in cohort], made from raw columns for every row and every cohort."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from ...cohorts.cohort import Cohort
from ...types import PRIMARY, Tensor


def cohort_labels(columns: Mapping[str, Any], label: Tensor, cohorts: Iterable[Cohort]) -> dict[str, Tensor]:
    """Maps raw columns and labels (rows,) to one label (rows,) per cohort; NumPy arrays and tensors alike.

        y_cohort = y * 1[x in cohort]

    Raises:
        ValueError: If a cohort is on a column that is not there.
    """
    if isinstance(label, np.ndarray):
        return {cohort.name: np.where(cohort.contains(columns), label, np.zeros_like(label)) for cohort in cohorts}
    return {cohort.name: tf.where(cohort.contains(columns), label, tf.zeros_like(label)) for cohort in cohorts}


def add_cohort_labels(
    dataset: tf.data.Dataset, cohorts: Sequence[Cohort], *, primary: str | None = None
) -> tf.data.Dataset:
    """Adds the auxiliary labels to batches of (features, label) or (features, label, weight).

    Features are a dict with the raw columns that the cohorts are on; they and weights pass unchanged. The label has
    shape (batch,) or (batch, 1), or there is a dict of such with one item per primary task. Gives the labels as
    {task: (batch, 1)}, float32, with `"primary"` for a single primary task.

    Args:
        dataset: Batches.
        cohorts: One auxiliary task each, under the cohort's name.
        primary: The primary task whose label the auxiliary ones are made from; by default the first.

    Raises:
        ValueError: If the batches do not have this form, a cohort is on a column that is not there, or two tasks have
            one name.
    """
    spec = dataset.element_spec
    if not isinstance(spec, tuple) or len(spec) not in (2, 3) or not isinstance(spec[0], Mapping):
        raise ValueError(
            f"`dataset` must have elements ({{column: values}}, label) or ({{column: values}}, label, weight). "
            f"Received: {spec}"
        )
    label_specs = spec[1] if isinstance(spec[1], Mapping) else {PRIMARY: spec[1]}
    primary = next(iter(label_specs)) if primary is None else primary
    if primary not in label_specs:
        raise ValueError(f"`primary` must be one of {sorted(label_specs)}. Received: primary={primary!r}")
    for task, label_spec in label_specs.items():
        _check_label(task, label_spec)
    check_names(cohorts, label_specs)
    check_columns_present(cohorts, spec[0])

    def add(features: Any, label: Any, *weight: Any) -> tuple[Any, ...]:
        labels = label if isinstance(label, Mapping) else {PRIMARY: label}
        labels = {task: tf.reshape(tf.cast(y, tf.float32), [-1]) for task, y in labels.items()}
        labels.update(cohort_labels(features, labels[primary], cohorts))
        return (features, {task: y[:, tf.newaxis] for task, y in labels.items()}, *weight)

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


def _check_label(task: str, spec: Any) -> None:
    shape, dtype = getattr(spec, "shape", None), getattr(spec, "dtype", None)
    number = dtype is not None and (dtype.is_floating or dtype.is_integer or dtype.is_bool)
    if not number or shape is None or shape.rank not in (1, 2) or (shape.rank == 2 and shape[1] != 1):
        raise ValueError(
            f"Label `{task}` must be numbers of shape (batch,) or (batch, 1); batch the dataset first. Received: {spec}"
        )
