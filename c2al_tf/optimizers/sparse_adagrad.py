"""Adagrad for the rows of a table."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import keras
import tensorflow as tf

from ..types import Tensor
from .sparse_optimizer import SparseOptimizer


def adagrad(
    weight: Tensor, accumulator: Tensor, gradient: Tensor, squares: Tensor, learning_rate: Tensor, epsilon: float
) -> tuple[Tensor, list[Tensor]]:
    """The new w and a of `SparseAdagrad`."""
    accumulator = accumulator + squares
    return weight - learning_rate * gradient / tf.sqrt(accumulator + epsilon), [accumulator]


@keras.saving.register_keras_serializable(package="c2al_tf")
class SparseAdagrad(SparseOptimizer):
    """Adagrad that updates the rows of a table that a batch touched, and no other.

        g = sum over the occurrences i of the row of g_i
        s = g^2                                   duplicates="sum"
        s = sum over i of g_i^2                   duplicates="each"
        a = a + s
        w = w - learning_rate * g / sqrt(a + epsilon)

    A dense gradient gives the numbers of `keras.optimizers.Adagrad`, and so does `duplicates="sum"` if Keras is given
    the gradient of the whole table. Given rows Keras squares each occurrence, as `"each"` does: n equal ones add
    n g_i^2 instead of n^2 g_i^2, so rows that occur often in a batch take longer steps.

    Args:
        learning_rate: A float, a schedule or a callable.
        initial_accumulator_value: Initial value of a, at least 0.
        epsilon: Added to a.
        duplicates: What is squared where a row occurs more than once in a batch.
        arguments: The other arguments of Keras optimizers: `clipnorm`, `name`, ... Not `weight_decay`, `use_ema` or
            `gradient_accumulation_steps`, which would touch every row at every step.

    References:
        Duchi et al., Adaptive Subgradient Methods, JMLR 12 (2011), figure 1.
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        initial_accumulator_value: float = 0.1,
        epsilon: float = 1e-7,
        duplicates: Literal["sum", "each"] = "sum",
        **arguments: Any,
    ) -> None:
        super().__init__(learning_rate, duplicates, **arguments)
        if not initial_accumulator_value >= 0:
            raise ValueError(
                "`initial_accumulator_value` must be at least 0. "
                f"Received: initial_accumulator_value={initial_accumulator_value}"
            )
        self.initial_accumulator_value = initial_accumulator_value
        self.epsilon = epsilon

    def initial_states(self) -> Mapping[str, float]:
        """The accumulator a."""
        return {"accumulator": self.initial_accumulator_value}

    def rule(
        self, weight: Tensor, states: Sequence[Tensor], gradient: Tensor, squares: Tensor, learning_rate: Tensor
    ) -> tuple[Tensor, list[Tensor]]:
        """The new w and a."""
        return adagrad(weight, states[0], gradient, squares, learning_rate, self.epsilon)

    def get_config(self) -> dict[str, Any]:
        """The arguments."""
        return super().get_config() | {
            "initial_accumulator_value": self.initial_accumulator_value,
            "epsilon": self.epsilon,
        }
