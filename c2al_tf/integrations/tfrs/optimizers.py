"""The row-wise optimizer of this package for Keras 2."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf
import tf_keras

from ...optimizers.row_wise_adagrad import accumulator_shape, row_wise_adagrad
from ...optimizers.rows import summed, update
from ...types import Tensor


@tf_keras.utils.register_keras_serializable(package="c2al_tf")
class RowWiseAdagrad(tf_keras.optimizers.Optimizer):
    """`c2al_tf.RowWiseAdagrad` for models of Keras 2: one accumulator per row, and only touched rows are updated.

    The occurrences of a row in a batch are summed, exactly, without a sort and without `tf.unique`, also under XLA.
    Clipping is that of Keras 2, which clips what the tape gives: occurrences, before they are summed.

    Args:
        learning_rate: A float or a schedule.
        initial_accumulator_value: Initial value of the accumulator, at least 0.
        epsilon: Added to the accumulator.
        name: Of the optimizer.
        arguments: `clipnorm`, `clipvalue`, `global_clipnorm` and `jit_compile` of Keras optimizers.

    Raises:
        ValueError: If the initial value is below 0, or an argument would change rows that no batch touched
            (`weight_decay`, `use_ema`).
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        initial_accumulator_value: float = 0.1,
        epsilon: float = 1e-7,
        name: str = "RowWiseAdagrad",
        **arguments: Any,
    ) -> None:
        if wrong := {key: arguments[key] for key in ("weight_decay", "use_ema") if arguments.get(key)}:
            raise ValueError(f"No argument may change rows that no batch touched. Received: {wrong}")
        if not initial_accumulator_value >= 0:
            raise ValueError(
                "`initial_accumulator_value` must be at least 0. "
                f"Received: initial_accumulator_value={initial_accumulator_value}"
            )
        super().__init__(name=name, **(arguments | {"weight_decay": None}))  # 0 would read and write each row
        self._learning_rate = self._build_learning_rate(learning_rate)
        self.initial_accumulator_value = initial_accumulator_value
        self.epsilon = epsilon

    def build(self, var_list: Sequence[tf.Variable]) -> None:
        """Creates the accumulators."""
        super().build(var_list)
        if getattr(self, "_built", False):
            return
        self._built = True
        self._accumulators = [
            self.add_variable_from_reference(
                variable,
                "accumulator",
                initial_value=tf.fill(
                    accumulator_shape(variable.shape), tf.cast(self.initial_accumulator_value, variable.dtype)
                ),
            )
            for variable in var_list
        ]

    def _deduplicate_sparse_grad(self, grads: Sequence[Tensor]) -> Sequence[Tensor]:
        return grads  # `summed` does it

    def update_step(self, gradient: Tensor, variable: tf.Variable) -> None:
        """Updates a variable from its gradient, dense or sparse."""
        accumulator = self._accumulators[self._index_dict[self._var_key(variable)]]

        def rule(
            weight: Tensor, states: Sequence[Tensor], gradient: Tensor, squares: Tensor, learning_rate: Tensor
        ) -> tuple[Tensor, list[Tensor]]:
            return row_wise_adagrad(weight, states[0], gradient, squares, learning_rate, self.epsilon)

        update(summed(gradient, accumulator, False), variable, [accumulator], rule, self.learning_rate)

    def get_config(self) -> dict[str, Any]:
        """The arguments."""
        return super().get_config() | {
            "learning_rate": self._serialize_hyperparameter(self._learning_rate),
            "initial_accumulator_value": self.initial_accumulator_value,
            "epsilon": self.epsilon,
        }
