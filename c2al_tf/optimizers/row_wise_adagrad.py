"""Adagrad with one accumulator per row of a table."""

from collections.abc import Sequence

import keras
import tensorflow as tf

from ..types import Shape, Tensor
from .sparse_adagrad import SparseAdagrad, adagrad


def row_wise_adagrad(
    weight: Tensor, accumulator: Tensor, gradient: Tensor, squares: Tensor, learning_rate: Tensor, epsilon: float
) -> tuple[Tensor, list[Tensor]]:
    """The new w and a of `RowWiseAdagrad`, (rows, dim) and (rows, 1); of other ranks those of `SparseAdagrad`."""
    if len(weight.shape) != 2:
        return adagrad(weight, accumulator, gradient, squares, learning_rate, epsilon)
    accumulator = accumulator + tf.reduce_mean(squares, axis=1, keepdims=True)
    return weight - learning_rate / tf.sqrt(accumulator + epsilon) * gradient, [accumulator]


def accumulator_shape(shape: Shape) -> Shape:
    """(rows, 1) for a table (rows, dim); any other shape stays."""
    return (shape[0], 1) if len(shape) == 2 else tuple(shape)


@keras.saving.register_keras_serializable(package="c2al_tf")
class RowWiseAdagrad(SparseAdagrad):
    """Adagrad with one accumulator per row, which updates the rows of a table that a batch touched, and no other.

        g = sum over the occurrences i of the row of g_i
        s = mean over dim of g^2                          duplicates="sum"
        s = sum over i of (mean over dim of g_i^2)        duplicates="each"
        a = a + s                                         one float per row
        w = w - learning_rate / sqrt(a + epsilon) * g

    That is the rule of every variable of rank 2, (rows, dim), whether its gradient is sparse or dense: the kernel of a
    dense layer has one accumulator per input. Variables of other ranks have plain Adagrad. See `SparseAdagrad` for the
    arguments and the effect of `duplicates`.

    References:
        Mudigere et al., arXiv 2104.05158 (row-wise AdaGrad of exact, summed gradients); FBGEMM's
        `EXACT_ROWWISE_ADAGRAD`, which adds epsilon to the root instead.
    """

    def state_shape(self, variable: keras.Variable) -> Shape:
        """(rows, 1) for a table."""
        return accumulator_shape(variable.shape)

    def rule(
        self, weight: Tensor, states: Sequence[Tensor], gradient: Tensor, squares: Tensor, learning_rate: Tensor
    ) -> tuple[Tensor, list[Tensor]]:
        """The new w and a."""
        return row_wise_adagrad(weight, states[0], gradient, squares, learning_rate, self.epsilon)
