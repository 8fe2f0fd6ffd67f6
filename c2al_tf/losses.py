"""Binary cross entropies of the tasks and their weighted sum, the objective of C2AL."""

from collections.abc import Callable, Mapping
from typing import TypeAlias

from keras import ops

from .types import Tensor

Objective: TypeAlias = Callable[
    [Mapping[str, Tensor], Mapping[str, Tensor], Tensor], tuple[Tensor, Mapping[str, Tensor]]
]
"""Maps labels and logits by task, each (batch, 1), and row weights (batch,) to the loss and each task's loss."""


def binary_cross_entropy(labels: Tensor, logits: Tensor) -> Tensor:
    """Elementwise binary cross entropy, max(z, 0) - z y + log(1 + exp(-|z|)), in nats, of the shape of `logits`."""
    logits = ops.cast(logits, "float32")
    return ops.maximum(logits, 0) - logits * ops.cast(labels, "float32") + ops.log1p(ops.exp(-ops.abs(logits)))


def weighted_mean(values: Tensor, weights: Tensor) -> Tensor:
    """sum(w v) / sum(w) of `values` (batch, 1) under row weights (batch,): rows of weight 0 do not count."""
    weights = ops.cast(ops.reshape(weights, (-1, 1)), "float32")
    return ops.sum(values * weights) / ops.maximum(ops.sum(weights), 1e-12)


def weighted_sum_of_tasks(lambdas: Mapping[str, float] | None = None) -> Objective:
    """L = L_primary + sum over cohorts c of lambda_c L_c, binary cross entropy each (METHOD step 5).

    Args:
        lambdas: Weight of each auxiliary task. A task that is not named is a primary one and has weight 1.

    Returns:
        The objective: it maps (labels, logits, weights) to (loss, loss of each task), each task's loss being the mean
        over the rows under their weights.
    """
    weight_of = dict(lambdas or {})
    wrong = {task: value for task, value in weight_of.items() if not value >= 0}
    if wrong:
        raise ValueError(f"`lambdas` must be at least 0. Received: {wrong}")

    def objective(
        labels: Mapping[str, Tensor], logits: Mapping[str, Tensor], weights: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        _check_tasks(labels, logits, weight_of)
        losses = {task: weighted_mean(binary_cross_entropy(labels[task], logits[task]), weights) for task in logits}
        total = sum(weight_of.get(task, 1.0) * loss for task, loss in losses.items())
        return total, losses

    return objective


def _check_tasks(labels: Mapping[str, Tensor], logits: Mapping[str, Tensor], lambdas: Mapping[str, float]) -> None:
    for name, tasks in (("the labels", labels), ("`lambdas`", lambdas)):
        missing = set(logits) - set(tasks) if name == "the labels" else set(tasks) - set(logits)
        if missing:
            raise ValueError(
                f"{name} and the model's outputs must name the same tasks. Received: {sorted(tasks)} in {name}, "
                f"{sorted(logits)} in the model"
            )
