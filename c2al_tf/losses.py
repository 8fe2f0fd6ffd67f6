"""Binary cross entropies of the tasks and their weighted sum, the objective of C2AL."""

import math
from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from typing import Any, TypeAlias

from keras import ops

from .types import Tensor

Objective: TypeAlias = Callable[
    [Mapping[str, Tensor], Mapping[str, Tensor], Tensor | Mapping[str, Tensor]], tuple[Tensor, Mapping[str, Tensor]]
]
"""Maps labels and logits by task, each (batch, 1), and row weights, (batch,) or by task, to the loss and each task's.

The loss is a mean over rows under their weights. A function will do. An object may have more, for training steps alone:

- State: `variables`, Keras variables that checkpoints hold; `statistics(labels, logits, weights)`, sums over rows by
  name, which a step computes of its forward pass and sums over replicas; `update(statistics)`, which assigns to
  `variables` after the step. On several devices the variables are created under the strategy's scope, as the model is.
- A way to combine gradients: `terms(labels, logits, weights)`, each task's term of the loss, which is their sum;
  `combine(gram)`, which maps the inner products (tasks, tasks) of the terms' gradients, over the dense weights that
  several tasks reach, to coefficients (tasks,). There the gradient is the sum of the tasks' gradients times these; also
  in tables that several tasks reach. Tasks are in the order of the model's outputs. What layers add to the loss goes
  with the first.
"""


def state_of(objective: Any) -> Sequence[Any]:
    """The variables of an objective; none of a function."""
    return getattr(objective, "variables", ())


def binary_cross_entropy(labels: Tensor, logits: Tensor) -> Tensor:
    """Elementwise binary cross entropy, max(z, 0) - z y + log(1 + exp(-|z|)), in nats, of the shape of `logits`."""
    z = ops.cast(logits, "float32")
    # Not `maximum` and `abs`: at z = 0, where training often starts, their gradients add up to 1 instead of 1/2.
    is_positive = z >= 0
    loss = ops.where(is_positive, z, 0.0) - z * ops.cast(labels, "float32")
    return loss + ops.log1p(ops.exp(ops.where(is_positive, -z, z)))


def weighted_mean(values: Tensor, weights: Tensor) -> Tensor:
    """sum(w v) / sum(w) of `values` (batch, 1) under row weights (batch,): rows of weight 0 do not count."""
    weights = ops.cast(ops.reshape(weights, (-1, 1)), "float32")
    return ops.sum(values * weights) / ops.maximum(ops.sum(weights), 1e-12)


def weight_of_task(weights: Tensor | Mapping[str, Tensor], task: str) -> Tensor:
    """The row weights (batch,) of a task, of weights for all tasks or by task.

    Raises:
        ValueError: If they are by task, and the task is not among them.
    """
    if not isinstance(weights, Mapping):
        return weights
    if task not in weights:
        raise ValueError(
            f"Row weights by task must name every task: give `{task}` the weights of the primary task, or give one "
            f"tensor for all. Received: weights of {sorted(weights)}"
        )
    return weights[task]


def weighted_sum_of_tasks(lambdas: Mapping[str, Any] | None = None) -> "WeightedSum":
    """L = L_primary + sum over cohorts c of lambda_c L_c, binary cross entropy each (METHOD step 5).

    Args:
        lambdas: Weight of each auxiliary task. A task that is not named is a primary one and has weight 1. A weight is
            a number, or a scalar variable, which can be assigned to without compiling a step anew.

    Returns:
        The objective: it maps (labels, logits, weights) to (loss, loss of each task), each task's loss being the mean
        over the rows under their weights.
    """
    return WeightedSum(lambdas or {})


class WeightedSum:
    """The objective of `weighted_sum_of_tasks`.

    Args:
        lambdas: As there.

    Raises:
        ValueError: If a number among the weights is negative or not finite.
    """

    def __init__(self, lambdas: Mapping[str, Any]) -> None:
        wrong = {task: v for task, v in lambdas.items() if isinstance(v, Real) and not 0 <= float(v) < math.inf}
        if wrong:
            raise ValueError(f"`lambdas` must be finite and at least 0. Received: {wrong}")
        self.lambdas = dict(lambdas)

    def __call__(
        self, labels: Mapping[str, Tensor], logits: Mapping[str, Tensor], weights: Tensor | Mapping[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, and the loss of each task."""
        losses = self._losses(labels, logits, weights)
        return sum(self._weighted(losses).values()), losses

    def terms(
        self, labels: Mapping[str, Tensor], logits: Mapping[str, Tensor], weights: Tensor | Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """lambda_t L_t of each task t."""
        return self._weighted(self._losses(labels, logits, weights))

    def _weighted(self, losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {task: self.lambdas.get(task, 1.0) * loss for task, loss in losses.items()}

    def _losses(
        self, labels: Mapping[str, Tensor], logits: Mapping[str, Tensor], weights: Tensor | Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        _check_tasks(labels, logits, self.lambdas)
        return {
            task: weighted_mean(binary_cross_entropy(labels[task], logits[task]), weight_of_task(weights, task))
            for task in logits
        }


def _check_tasks(labels: Mapping[str, Tensor], logits: Mapping[str, Tensor], lambdas: Mapping[str, Any]) -> None:
    for name, tasks in (("the labels", labels), ("`lambdas`", lambdas)):
        missing = set(logits) - set(tasks) if name == "the labels" else set(tasks) - set(logits)
        if missing:
            raise ValueError(
                f"{name} and the model's outputs must name the same tasks. Received: {sorted(tasks)} in {name}, "
                f"{sorted(logits)} in the model"
            )
