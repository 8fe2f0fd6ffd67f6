"""The base class of this package's optimizers: it applies a rule to the rows that a batch touched."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import keras
import tensorflow as tf

from ..types import Shape, Tensor
from .rows import Gradient, summed, update


class SparseOptimizer(keras.optimizers.Optimizer):
    """A Keras optimizer that updates the rows of a table that a batch touched, and no other.

    A subclass names its states and defines the rule for one row. The first state must never be negative. Gradients are
    summed over the occurrences of a row and over replicas, then clipped.

    Args:
        learning_rate: As in Keras: a float, a schedule or a callable.
        duplicates: What the rule squares where a row occurs more than once: `"sum"`, the sum of the occurrences'
            gradients, or `"each"` of them.
        arguments: The other arguments of Keras optimizers, without `weight_decay`, `use_ema` and
            `gradient_accumulation_steps`: each of these would read or write every row at every step.

    Raises:
        ValueError: If one of those three is given, or `clipvalue` with `duplicates="each"`, or Keras runs on another
            backend than TensorFlow.
    """

    loss_scale_factor: float | None

    def __init__(self, learning_rate: Any, duplicates: Literal["sum", "each"], **arguments: Any) -> None:
        check_backend(type(self).__name__)
        super().__init__(learning_rate=learning_rate, **arguments)
        self.duplicates = duplicates
        self._check()

    def _check(self) -> None:
        if self.duplicates not in ("sum", "each"):
            raise ValueError(f"`duplicates` must be 'sum' or 'each'. Received: duplicates={self.duplicates!r}")
        if self.weight_decay is not None:
            raise ValueError(
                "`weight_decay` must be None: it would change rows that no batch touched. "
                f"Received: weight_decay={self.weight_decay}"
            )
        if self.use_ema:
            raise ValueError(
                "`use_ema` must be False: the average would be updated for every row of a table at every step. "
                "Received: use_ema=True"
            )
        if self.gradient_accumulation_steps is not None:
            raise ValueError(
                "`gradient_accumulation_steps` must be None: it would keep a gradient of the size of each table. "
                "Multiply the batch size by it instead. "
                f"Received: gradient_accumulation_steps={self.gradient_accumulation_steps}"
            )
        if self.clipvalue is not None and self.duplicates == "each":
            raise ValueError(
                "`clipvalue` must be None with duplicates='each': it bounds the sums, not the occurrences. "
                f"Received: clipvalue={self.clipvalue}"
            )

    @abstractmethod
    def initial_states(self) -> Mapping[str, float]:
        """Name and initial value of each state."""

    def state_shape(self, variable: keras.Variable) -> Shape:
        """Shape of each state of a variable."""
        return tuple(variable.shape)

    @abstractmethod
    def rule(
        self, weight: Tensor, states: Sequence[Tensor], gradient: Tensor, squares: Tensor, learning_rate: Tensor
    ) -> tuple[Tensor, list[Tensor]]:
        """The new weight and states of each row."""

    def build(self, variables: Sequence[keras.Variable]) -> None:
        """Creates the states."""
        if self.built:
            return
        super().build(variables)
        self._states = [
            [self._add_state(variable, *state) for state in self.initial_states().items()] for variable in variables
        ]

    def _add_state(self, variable: keras.Variable, name: str, initial: float) -> keras.Variable:
        value = variable.value if isinstance(variable, keras.Variable) else variable
        with self._distribution_strategy.extended.colocate_vars_with(value):
            return self.add_variable(
                self.state_shape(variable),
                initializer=keras.initializers.Constant(initial),
                dtype="float64" if value.dtype == tf.float64 else "float32",
                name=f"{path_of(variable).replace('/', '_').replace(':', '_')}_{name}",
            )

    @tf.autograph.experimental.do_not_convert
    def apply(self, grads: Sequence[Tensor], trainable_variables: Sequence[keras.Variable] | None = None) -> None:
        """Updates the variables from their gradients, dense or sparse."""
        factor = self.loss_scale_factor
        if factor is not None:
            grads = [None if gradient is None else keras.ops.divide(gradient, factor) for gradient in grads]
        # Keras would divide with `/`, which `tf.IndexedSlices` lacks.
        self.loss_scale_factor = None
        try:
            super().apply(grads, trainable_variables)
        finally:
            self.loss_scale_factor = factor

    def _clip_gradients(self, grads: list[Tensor]) -> list[Tensor]:
        return grads  # `_update` clips the sums.

    def _distributed_tf_update_step(
        self, distribution: Any, grads_and_vars: Sequence[tuple[Tensor, tf.Variable]], learning_rate: Tensor
    ) -> None:
        gradients, variables = zip(*grads_and_vars, strict=True)
        states = [[state.value for state in self._states[self._get_variable_index(v)]] for v in variables]
        arguments = (gradients, variables, states, learning_rate)
        distribution.extended.update(variables[0], self._update, args=arguments, group=False)

    def _update(
        self,
        _: tf.Variable,
        gradients: Sequence[Tensor],
        variables: Sequence[tf.Variable],
        states: Sequence[Sequence[tf.Variable]],
        learning_rate: Tensor,
    ) -> None:
        """Updates the variables of one device."""
        sums = [self._sum(gradient, state[0]) for gradient, state in zip(gradients, states, strict=True)]
        for gradient, variable, state in zip(self._clip(sums), variables, states, strict=True):
            update(gradient, variable, state, self.rule, learning_rate)

    def _sum(self, gradient: Tensor, scratch: tf.Variable) -> Gradient:
        return summed(gradient, scratch, keep_squares=self.duplicates == "each")

    def _clip(self, gradients: list[Gradient]) -> list[Gradient]:
        if self.global_clipnorm:
            norm = tf.sqrt(tf.add_n([tf.cast(gradient.squared_norm, tf.float32) for gradient in gradients]))
            # norm - norm is 0, or NaN where the norm is not finite.
            factor = self.global_clipnorm * tf.minimum(1 / norm, 1 / self.global_clipnorm) + (norm - norm)
            return [gradient.scaled(tf.cast(factor, gradient.total.dtype)) for gradient in gradients]
        if self.clipnorm:
            return [g.scaled(self.clipnorm / tf.maximum(tf.sqrt(g.squared_norm), self.clipnorm)) for g in gradients]
        if self.clipvalue:
            bound = self.clipvalue
            return [g._replace(total=tf.clip_by_value(g.total, -bound, bound)) for g in gradients]
        return gradients

    def get_config(self) -> dict[str, Any]:
        """The arguments."""
        return super().get_config() | {"duplicates": self.duplicates}


def check_backend(optimizer: str) -> None:
    """Raises ValueError unless Keras runs on TensorFlow."""
    if (backend := keras.backend.backend()) != "tensorflow":
        raise ValueError(
            f"`{optimizer}` must run on TensorFlow: it takes `tf.IndexedSlices` and updates `tf.Variable`s by row. "
            "Set KERAS_BACKEND=tensorflow before Keras is imported, or take an optimizer of Keras. "
            f"Received: backend {backend!r}"
        )


def path_of(variable: Any) -> str:
    """The path of a Keras variable, or the name of TensorFlow's."""
    return variable.path if isinstance(variable, keras.Variable) else variable.name
