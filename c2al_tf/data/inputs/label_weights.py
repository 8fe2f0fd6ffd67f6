"""Weights of rows, for all tasks or by task, where tasks of cohorts come in; on NumPy arrays and on tensors alike."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ...types import Tensor
from .labels import LabelDesign, check_class_weight, module_of, task_weights


def float32(values: Any) -> Tensor:
    """Values as float32: a tensor of TensorFlow, or a NumPy array of all else."""
    ops = module_of(values)
    return np.asarray(values, np.float32) if ops is np else ops.cast(values, ops.float32)


def weights_with_cohorts(
    weights: Any,
    label: Tensor,
    tasks: Iterable[str],
    primary: str,
    members: Mapping[str, Tensor],
    class_weight: Mapping[int, float] | None,
    design: LabelDesign,
) -> Any:
    """Maps row weights, or None, to those with the classes' and the cohorts' weights, which may still be None.

    Args:
        weights: Of rows, any shape of one value per row, or by primary task.
        label: The primary task's label, (rows,).
        tasks: Names of the primary tasks.
        primary: The one whose weights the cohorts' tasks get.
        members: Membership by cohort, (rows,).
        class_weight: Weights of the classes 0 and 1 of the label.
        design: With `masked` the weights are by task, a cohort's on its members alone.
    """
    if isinstance(weights, Mapping):
        weights = {**weights, **dict.fromkeys(members, weights[primary])}
    if class_weight is not None:
        of_row = float32(module_of(label).where(label == 1, float(class_weight[1]), float(class_weight[0])))
        weights = of_row if weights is None else _scaled(weights, of_row)
    if design != "masked":
        return weights
    given = module_of(label).ones_like(label) if weights is None else weights
    by_task = given if isinstance(given, Mapping) else dict.fromkeys([*tasks, *members], given)
    flat = {task: module_of(values).reshape(float32(values), (-1,)) for task, values in by_task.items()}
    return flat | {name: task_weights(flat[name], member, design) for name, member in members.items()}


def _scaled(weights: Any, of_row: Tensor) -> Any:
    if isinstance(weights, Mapping):
        return {task: _scaled(values, of_row) for task, values in weights.items()}
    ops = module_of(weights)
    return float32(weights) * ops.reshape(of_row, ops.shape(weights))


def check_weights(weights: Any, labels: Iterable[str], class_weight: Mapping[int, float] | None) -> None:
    """Raises ValueError if weights by task, or weights of classes, are not of all of them."""
    if isinstance(weights, Mapping) and {*weights} != {*labels}:
        raise ValueError(f"Weights by task must be of {sorted(labels)}. Received: weights of {sorted(weights)}")
    if class_weight is not None:
        check_class_weight(class_weight)
