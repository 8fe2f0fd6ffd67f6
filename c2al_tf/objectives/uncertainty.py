"""Losses of tasks weighed by how uncertain each task is, which is learnt."""

from collections.abc import Iterable, Mapping

import keras
from keras import ops

from ..losses import binary_cross_entropy, weight_of_task, weighted_sum_of_tasks
from ..types import Tensor


class UncertaintyWeighting:
    """C2AL with weights that are learnt in place of lambdas, the primary task's as well.

        loss = sum over tasks t of exp(-s_t) L_t + s_t / 2
        s_t <- s_t - eta (1 / 2 - exp(-s_t) L_t)

    s_t is the logarithm of the task's variance; where it rests the weight exp(-s_t) is 1 / (2 L_t), so that rare tasks,
    whose losses are small, weigh most. A step uses s as it is after the step before, and begins with weights of 1.

    Args:
        tasks: Names of the model's outputs.
        eta: Step size of s, positive.

    References:
        Kendall et al., arXiv 1705.07115, for classification; s is moved by gradient descent of its
        own, since the model's optimizer has the model's weights alone.
    """

    def __init__(self, tasks: Iterable[str], eta: float = 0.01) -> None:
        self.tasks = list(tasks)
        if not self.tasks or isinstance(tasks, str):
            raise ValueError(f"`tasks` must be names, at least one. Received: {tasks!r}")
        if not eta > 0:
            raise ValueError(f"`eta` must be positive. Received: eta={eta}")
        self.eta = eta
        self.log_variance = keras.Variable(
            [0.0] * len(self.tasks), trainable=False, dtype="float32", name="log_variance"
        )

    @property
    def variables(self) -> list[keras.Variable]:
        """The state."""
        return [self.log_variance]

    def __call__(
        self, labels: Mapping[str, Tensor], logits: Mapping[str, Tensor], weights: Tensor | Mapping[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, and the loss of each task."""
        if {*self.tasks} != {*logits}:
            raise ValueError(f"`tasks` must be the model's outputs, {sorted(logits)}. Received: {self.tasks}")
        _, losses = weighted_sum_of_tasks()(labels, logits, weights)
        stacked = ops.stack([losses[task] for task in self.tasks])
        return ops.sum(ops.exp(-self.log_variance) * stacked + self.log_variance / 2), losses

    def statistics(
        self, labels: Mapping[str, Tensor], logits: Mapping[str, Tensor], weights: Tensor | Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Of each task the sums of w l and of w, (tasks,)."""
        losses, sums = [], []
        for task in self.tasks:
            w = ops.cast(ops.reshape(weight_of_task(weights, task), (-1, 1)), "float32")
            losses.append(ops.sum(w * binary_cross_entropy(labels[task], logits[task])))
            sums.append(ops.sum(w))
        return {"loss": ops.stack(losses), "weight": ops.stack(sums)}

    def update(self, statistics: Mapping[str, Tensor]) -> None:
        """A step of gradient descent on s. A batch without weight moves nothing."""
        means = ops.divide_no_nan(statistics["loss"], statistics["weight"])
        gradient = ops.where(statistics["weight"] > 0, 0.5 - ops.exp(-self.log_variance) * means, 0.0)
        self.log_variance.assign(self.log_variance - self.eta * gradient)
