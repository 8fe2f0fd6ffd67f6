"""Objectives that read which cohort a row is in and have no auxiliary task: what others do for a neglected cohort.

Each batch has the membership of every cohort c, (batch, 1), among its labels under `member_of(c)`.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import keras
from keras import ops

from ..losses import binary_cross_entropy, weight_of_task, weighted_mean
from ..types import PRIMARY, Tensor, member_of

SMALLEST_SHARE = 1e-3
"""Bounds the weight of a row of a rare group: a group of fewer rows than this share counts as one of this share."""


class Reweighting:
    """The primary loss with a larger weight for the rows of cohorts.

        loss = mean over rows of (1 + sum over cohorts c of lambda_c 1[row in c]) l

    Args:
        lambdas: What each cohort's rows count more, by its name: a number, or a scalar variable.
        primary: Name of the primary task.
    """

    def __init__(self, lambdas: Mapping[str, Any], primary: str = PRIMARY) -> None:
        self.lambdas = dict(lambdas)
        self.primary = primary

    def __call__(
        self, labels: Mapping[str, Tensor], logits: Mapping[str, Tensor], weights: Tensor | Mapping[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, and the mean log loss of the primary task."""
        losses = _losses(labels, logits, self.primary)
        weights = weight_of_task(weights, self.primary)
        more = ops.stack([ops.cast(value, "float32") for value in self.lambdas.values()])
        factors = 1 + ops.sum(_members(labels, [*self.lambdas]) * more, axis=1, keepdims=True)
        return weighted_mean(losses * factors, weights), {self.primary: weighted_mean(losses, weights)}


class MinDiff:
    """The primary loss and a penalty on what tells the logits of two cohorts' negatives apart.

        loss = mean l + lambda MMD^2
        MMD^2 = sum over rows i, j of a_i a_j exp(-(z_i - z_j)^2 / (2 length^2))
        a_i = w_i / sum of w    for a negative of the first cohort, minus that for one of the second

    It wants cohorts treated alike, where C2AL wants their differences learnt. A batch in which one of the two has no
    negative has no penalty. On several devices each has the penalty of its own rows.

    Args:
        cohorts: Names of the two cohorts.
        weight: lambda: a number, or a scalar variable.
        length: Of the kernel, in logits.
        primary: Name of the primary task.

    References:
        Prost et al., arXiv 1910.11779.
    """

    def __init__(self, cohorts: Iterable[str], weight: Any, length: float = 1.0, primary: str = PRIMARY) -> None:
        self.cohorts = list(cohorts)
        if len(self.cohorts) != 2:
            raise ValueError(f"`cohorts` must be two names. Received: {self.cohorts}")
        if not length > 0:
            raise ValueError(f"`length` must be positive. Received: length={length}")
        self.weight = weight
        self.length = length
        self.primary = primary

    def __call__(
        self, labels: Mapping[str, Tensor], logits: Mapping[str, Tensor], weights: Tensor | Mapping[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss, and the mean log loss of the primary task."""
        losses = _losses(labels, logits, self.primary)
        weights = weight_of_task(weights, self.primary)
        loss = weighted_mean(losses, weights)
        w = ops.cast(ops.reshape(weights, (-1, 1)), "float32")
        negatives = w * (1 - ops.cast(labels[self.primary], "float32")) * _members(labels, self.cohorts)
        sums = ops.sum(negatives, axis=0)
        shares = ops.divide_no_nan(negatives, sums)
        a = shares[:, :1] - shares[:, 1:]
        z = ops.cast(logits[self.primary], "float32")
        kernel = ops.exp(-ops.square((z - ops.transpose(z)) / self.length) / 2)
        penalty = ops.where(ops.all(sums > 0), ops.sum(a * ops.matmul(kernel, a)), 0.0)
        return loss + self.weight * penalty, {self.primary: loss}


class GroupDRO:
    """Group distributionally robust optimization: groups with a larger loss get a larger weight.

        loss = sum_g q_g l_g
        q_g <- q_g exp(eta l_g) / sum of these over all groups

    The groups are each cohort and everyone else. In the update of q, l_g is the mean of the primary loss over the
    group's rows in the batch. In the loss, l_g = mean over all rows of 1[row in g] l / p_g, with p_g the group's share
    of the rows seen so far: a mean over all rows adds up over replicas. A step uses q and p as they are after the step
    before; the first step, with q_g = p_g, takes the mean loss.

    Auxiliary tasks have no loss: the model has primary heads alone.

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
        losses = _losses(labels, logits, self.primary)
        shares = ops.maximum(self.row_weights / self.total_weight, SMALLEST_SHARE)
        factors = ops.sum(_groups(labels, self.cohorts) * (self.q / shares), axis=1, keepdims=True)
        weights = weight_of_task(weights, self.primary)
        return weighted_mean(losses * factors, weights), {self.primary: weighted_mean(losses, weights)}

    def statistics(
        self, labels: Mapping[str, Tensor], logits: Mapping[str, Tensor], weights: Tensor | Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Of each group the sums of w l and of w, (groups,), and the sum of w over all rows, ()."""
        w = ops.cast(ops.reshape(weight_of_task(weights, self.primary), (-1, 1)), "float32")
        members = w * _groups(labels, self.cohorts)
        return {
            "loss": ops.sum(members * _losses(labels, logits, self.primary), axis=0),
            "weight": ops.sum(members, axis=0),
            "total_weight": ops.sum(w),
        }

    def update(self, statistics: Mapping[str, Tensor]) -> None:
        """Moves weight to the groups with a larger loss. A group that the batch lacks counts as one without loss."""
        losses = ops.divide_no_nan(statistics["loss"], statistics["weight"])
        self.log_q.assign(ops.log_softmax(self.log_q + self.eta * losses))
        self.row_weights.assign(self.row_weights + statistics["weight"])
        self.total_weight.assign(self.total_weight + statistics["total_weight"])


def _losses(labels: Mapping[str, Tensor], logits: Mapping[str, Tensor], primary: str) -> Tensor:
    """The log loss of each row, (batch, 1)."""
    if primary not in logits:
        raise ValueError(f"`primary` must be an output, one of {sorted(logits)}. Received: {primary!r}")
    return binary_cross_entropy(labels[primary], logits[primary])


def _members(labels: Mapping[str, Tensor], cohorts: Sequence[str]) -> Tensor:
    """1[row in cohort], (batch, cohorts)."""
    names = [member_of(cohort) for cohort in cohorts]
    missing = [name for name in names if name not in labels]
    if missing:
        raise ValueError(f"A batch must have membership among its labels. Received: {sorted(labels)} without {missing}")
    return ops.concatenate([ops.cast(labels[name], "float32") for name in names], axis=1)


def _groups(labels: Mapping[str, Tensor], cohorts: Sequence[str]) -> Tensor:
    """1[row in group], (batch, groups): the cohorts, then everyone else."""
    members = _members(labels, cohorts)
    return ops.concatenate([members, ops.prod(1 - members, axis=1, keepdims=True)], axis=1)
