"""The metrics that a model was compiled with, as `fit` computes and names them."""

from collections.abc import Iterable, Mapping
from typing import Any

import keras
import numpy as np

from ..form import outputs_by_name
from ..types import Tensor
from .batches import Weight


def find_metrics(model: keras.Model) -> keras.metrics.Metric | None:
    """All of `metrics=` and `weighted_metrics=` as one metric; None if there are none.

    Raises:
        ValueError: If there are some and the model is on several devices.
    """
    found = next((metric for metric in model.metrics if metric.name == "compile_metrics"), None)
    replicas = model.distribute_strategy.num_replicas_in_sync
    if found is not None and replicas > 1:
        raise ValueError(
            "Compiled metrics are computed on one device: compile the model without `metrics` and `weighted_metrics`; "
            f"log loss and NE of every task are computed on all. Received: {replicas} devices"
        )
    return found


def build_metrics(model: keras.Model) -> list[keras.Variable]:
    """Creates the variables of the compiled metrics, which Keras does at their first update, and returns them."""
    metrics = find_metrics(model)
    if metrics is None:
        return []
    if not metrics.built:
        zeros = {task: np.zeros((1, 1), "float32") for task in outputs_by_name(model)}
        metrics.update_state(zeros, zeros, np.zeros(1, "float32"))
        metrics.reset_state()
    return list(metrics.variables)


def update_metrics(
    model: keras.Model, labels: Mapping[str, Tensor], logits: Mapping[str, Tensor], weight: Weight
) -> None:
    """Adds a batch. A task without labels gets made-up ones: `read_metrics` leaves it out."""
    metrics = find_metrics(model)
    if metrics is None:
        return
    known = {task: labels.get(task, keras.ops.zeros_like(logits[task])) for task in logits}
    if isinstance(weight, Mapping):
        weight = {task: weight.get(task, keras.ops.zeros_like(logits[task][:, 0])) for task in logits}
    metrics.update_state(known, dict(logits), weight)


def reset_metrics(model: keras.Model) -> None:
    """Begins anew."""
    metrics = find_metrics(model)
    if metrics is not None:
        metrics.reset_state()


def read_metrics(model: keras.Model, labelled: Iterable[str]) -> dict[str, Any]:
    """The values by the names that `fit` gives them, of the tasks that have labels; lists where they are vectors."""
    metrics, tasks, labelled = find_metrics(model), list(outputs_by_name(model)), set(labelled)
    if metrics is None or not metrics.built:
        return {}
    values = {name: np.asarray(value).tolist() for name, value in metrics.result().items()}
    if len(tasks) == 1:
        return values
    return {name: value for name, value in values.items() if _task(name, tasks) in labelled}


def _task(metric: str, tasks: Iterable[str]) -> str:
    """The task that a metric's name begins with: `<task>_<metric>`, or `weighted_` in between."""
    return max((task for task in tasks if metric.startswith(f"{task}_")), key=len)
