"""Objectives that are controls for C2AL: parts of the auxiliary gradients alone, and group DRO."""

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import keras
from keras import ops

from .losses import binary_cross_entropy, weight_of_task, weighted_mean, weighted_sum_of_tasks
from .types import PRIMARY, Tensor, member_of

SMALLEST_SHARE = 1e-3
"""Bounds the weight of a row of a rare group: a group of fewer rows than this share counts as one of this share."""


class ProjectedTasks:
    """C2AL with one part of each auxiliary gradient, along the primary's or orthogonal to it, in the shared weights.

        g = g_pri + sum over auxiliary tasks of g_par             part="parallel"
        g = g_pri + sum over auxiliary tasks of g_aux - g_par     part="orthogonal"
        g_par = <g_aux, g_pri> / ||g_pri||^2 g_pri

    The primary task is the model's first output, and every other one is auxiliary. The heads have their own gradients.

    Args:
        lambdas: Weight of each auxiliary task, as for `weighted_sum_of_tasks`.
        part: The part that is kept.

    References:
        C2AL, arXiv 2510.02215, on the regularising part of the auxiliary gradient.
    """

    def __init__(self, lambdas: Mapping[str, Any], part: Literal["parallel", "orthogonal"]) -> None:
        if part not in ("parallel", "orthogonal"):
            raise ValueError(f"`part` must be 'parallel' or 'orthogonal'. Received: part={part!r}")
        self.part = part
        self._sum = weighted_sum_of_tasks(lambdas)

    def __call__(
        self, labels: Mapping[str, Tensor], logits: Mapping[str, Tensor], weights: Tensor | Mapping[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, and the loss of each task."""
        return self._sum(labels, logits, weights)

    def terms(
        self, labels: Mapping[str, Tensor], logits: Mapping[str, Tensor], weights: Tensor | Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """lambda_t L_t of each task t."""
        return self._sum.terms(labels, logits, weights)

    def combine(self, gram: Tensor) -> Tensor:
        """The coefficient of each task's gradient, (tasks,), from their inner products (tasks, tasks)."""
        along = ops.sum(ops.divide_no_nan(gram[1:, 0], gram[0, 0]))
        others = ops.ones_like(gram[1:, 0])
        if self.part == "parallel":
            return ops.concatenate([ops.reshape(1 + along, (1,)), 0 * others])
        return ops.concatenate([ops.reshape(1 - along, (1,)), others])


class GroupDRO:
    """Group distributionally robust optimization: groups with a larger loss get a larger weight.

        loss = sum_g q_g l_g
        q_g <- q_g exp(eta l_g) / sum of these over all groups

    The groups are each cohort and everyone else. In the update of q, l_g is the mean of the primary loss over the
    group's rows in the batch. In the loss, l_g = mean over all rows of 1[row in g] l / p_g, with p_g the group's share
    of the rows seen so far: a mean over all rows adds up over replicas. A step uses q and p as they are after the step
    before; the first step, with q_g = p_g, takes the mean loss.

    Auxiliary tasks have no loss: the model has primary heads alone. Each batch has the membership of every cohort c,
    (batch, 1), among its labels under `member_of(c)`.

    Args:
        cohorts: Names of the cohorts.
        eta: Step size of the groups' weights, positive.
        primary: Name of the primary task.

    References:
        Sagawa et al., arXiv 1911.08731, Algorithm 1, which updates `q` before the step that uses it.
    """

    def __init__(self, cohorts: Iterable[str], eta: float = 0.01, primary: str = PRIMARY) -> None:
        self.cohorts = list(cohorts)
        if not self.cohorts or isinstance(cohorts, str):
            raise ValueError(f"`cohorts` must be names, at least one. Received: {cohorts!r}")
        if not eta > 0:
            raise ValueError(f"`eta` must be positive. Received: eta={eta}")
        self.eta = eta
        self.primary = primary
        num_groups = len(self.cohorts) + 1
        # The logarithm: a group whose weight rounds to 0 could not come back.
        self.log_q = keras.Variable([0.0] * num_groups, trainable=False, dtype="float32", name="log_q")
        # One row, dealt equally to all groups, before the first batch.
        self.row_weights = keras.Variable(
            [1 / num_groups] * num_groups, trainable=False, dtype="float32", name="row_weights"
        )
        self.total_weight = keras.Variable(1.0, trainable=False, dtype="float32", name="total_weight")

    @property
    def variables(self) -> list[keras.Variable]:
        """The state."""
        return [self.log_q, self.row_weights, self.total_weight]

    @property
    def q(self) -> Tensor:
        """The weight of each group, (groups,): the cohorts in their order, then everyone else. Their sum is 1."""
        return ops.softmax(self.log_q)

    def __call__(
        self, labels: Mapping[str, Tensor], logits: Mapping[str, Tensor], weights: Tensor | Mapping[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, and the mean log loss of the primary task."""
        losses = self._losses(labels, logits)
        shares = ops.maximum(self.row_weights / self.total_weight, SMALLEST_SHARE)
        factors = ops.sum(self._members(labels) * (self.q / shares), axis=1, keepdims=True)
        weights = weight_of_task(weights, self.primary)
        return weighted_mean(losses * factors, weights), {self.primary: weighted_mean(losses, weights)}

    def statistics(
        self, labels: Mapping[str, Tensor], logits: Mapping[str, Tensor], weights: Tensor | Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Of each group the sums of w l and of w, (groups,), and the sum of w over all rows, ()."""
        w = ops.cast(ops.reshape(weight_of_task(weights, self.primary), (-1, 1)), "float32")
        members = w * self._members(labels)
        return {
            "loss": ops.sum(members * self._losses(labels, logits), axis=0),
            "weight": ops.sum(members, axis=0),
            "total_weight": ops.sum(w),
        }

    def update(self, statistics: Mapping[str, Tensor]) -> None:
        """Moves weight to the groups with a larger loss. A group that the batch lacks counts as one without loss."""
        losses = ops.divide_no_nan(statistics["loss"], statistics["weight"])
        self.log_q.assign(ops.log_softmax(self.log_q + self.eta * losses))
        self.row_weights.assign(self.row_weights + statistics["weight"])
        self.total_weight.assign(self.total_weight + statistics["total_weight"])

    def _losses(self, labels: Mapping[str, Tensor], logits: Mapping[str, Tensor]) -> Tensor:
        if self.primary not in logits:
            raise ValueError(f"`primary` must be an output, one of {sorted(logits)}. Received: {self.primary!r}")
        return binary_cross_entropy(labels[self.primary], logits[self.primary])

    def _members(self, labels: Mapping[str, Tensor]) -> Tensor:
        """1[row in group], (batch, groups)."""
        names = [member_of(cohort) for cohort in self.cohorts]
        missing = [name for name in names if name not in labels]
        if missing:
            raise ValueError(
                f"A batch must have membership among its labels. Received: {sorted(labels)} without {missing}"
            )
        members = ops.concatenate([ops.cast(labels[name], "float32") for name in names], axis=1)
        rest = ops.prod(1 - members, axis=1, keepdims=True)
        return ops.concatenate([members, rest], axis=1)
