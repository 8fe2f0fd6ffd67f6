"""How the gradients of tasks are put together in the weights that several of them reach."""

from collections.abc import Mapping
from typing import Any, Literal

from keras import ops

from ..losses import WeightedSum
from ..types import Tensor


class ProjectedTasks(WeightedSum):
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
        super().__init__(lambdas)
        self.part = part

    def combine(self, gram: Tensor) -> Tensor:
        """The coefficient of each task's gradient, (tasks,), from their inner products (tasks, tasks)."""
        along = ops.sum(ops.divide_no_nan(gram[1:, 0], gram[0, 0]))
        others = ops.ones_like(gram[1:, 0])
        if self.part == "parallel":
            return ops.concatenate([ops.reshape(1 + along, (1,)), 0 * others])
        return ops.concatenate([ops.reshape(1 - along, (1,)), others])


class PCGrad(WeightedSum):
    """C2AL with projected conflicting gradients: a task's gradient loses what points against another task's.

        g_t <- g_t - <g_t, g_u> / ||g_u||^2 g_u    for each other task u with <g_t, g_u> < 0, one after the other
        g = sum over tasks t of g_t

    The paper draws the order of the other tasks in each step. Here the result is the mean over the tasks' order and its
    reverse, which draws nothing: of up to three tasks it is the mean over all orders. The heads have their own
    gradients.

    Args:
        lambdas: Weight of each auxiliary task, as for `weighted_sum_of_tasks`.

    References:
        Yu et al., arXiv 2001.06782, Algorithm 1.
    """

    def combine(self, gram: Tensor) -> Tensor:
        """The coefficient of each task's gradient, (tasks,), from their inner products (tasks, tasks)."""
        one_hot = ops.eye(gram.shape[0])
        total = ops.zeros_like(gram[0])
        for task in range(gram.shape[0]):
            others = [other for other in range(gram.shape[0]) if other != task]
            for order in (others, others[::-1]):
                coefficients = one_hot[task]
                for other in order:
                    inner = ops.sum(coefficients * gram[:, other])
                    against = ops.divide_no_nan(ops.minimum(inner, 0.0), gram[other, other])
                    coefficients = coefficients - against * one_hot[other]
                total = total + coefficients / 2
        return total
