"""Adam for the many small weights of a model, as one vector."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from ..types import Tensor
from .sparse_optimizer import check_backend, path_of

MOST_ELEMENTS = 2**20
"""Elements of the largest weight that shares vectors: copying the gradient of a larger one costs more than it saves."""


@keras.saving.register_keras_serializable(package="c2al_tf")
class FlatAdam(keras.optimizers.Adam):
    """`keras.optimizers.Adam`, whose moments of all small weights stand in two vectors.

        m = m + (1 - beta_1) (g - m)
        v = v + (1 - beta_2) (s - v)              s = g^2, summed over the occurrences of a row of a table
        w = w - learning_rate * sqrt(1 - beta_2^t) / (1 - beta_1^t) * m / (sqrt(v) + epsilon)

    The numbers are those of Keras, which takes a dozen operations for each weight. A model of 40 weights has half the
    operations with this, and its step compiles in about 0.8 of the time.

    Args:
        learning_rate: A float, a schedule or a callable.
        arguments: The other arguments of `keras.optimizers.Adam`, by name, without `amsgrad`.

    Raises:
        ValueError: If `amsgrad` is given, or Keras runs on another backend than TensorFlow.

    References:
        Kingma and Ba, arXiv 1412.6980, the end of section 2.
    """

    def __init__(self, learning_rate: Any = 0.001, **arguments: Any) -> None:
        check_backend(type(self).__name__)
        super().__init__(learning_rate, **arguments)
        if self.amsgrad:
            raise ValueError("`amsgrad` must be False. Received: amsgrad=True; use `keras.optimizers.Adam`")

    def build(self, variables: Sequence[keras.Variable]) -> None:
        """Creates the moments."""
        if self.built:
            return
        super(keras.optimizers.Adam, self).build(variables)
        self._groups = _groups(variables)
        self._moments = [
            [self._add_moment(variables, group, name) for name in ("momentum", "velocity")] for group in self._groups
        ]

    def _add_moment(self, variables: Sequence[keras.Variable], group: Sequence[int], name: str) -> keras.Variable:
        first = variables[group[0]]
        size = sum(_size(variables[index]) for index in group)
        prefix = f"{path_of(first).replace('/', '_').replace(':', '_')}_" if len(group) == 1 else ""
        value = _value(first)
        with self._distribution_strategy.extended.colocate_vars_with(value):
            return self.add_variable((size,), initializer="zeros", dtype=value.dtype.name, name=prefix + name)

    def _distributed_tf_update_step(
        self, distribution: Any, grads_and_vars: Sequence[tuple[Any, tf.Variable]], learning_rate: Tensor
    ) -> None:
        present = {self._get_variable_index(variable): (gradient, variable) for gradient, variable in grads_and_vars}
        for group, moments in zip(self._groups, self._moments, strict=True):
            pairs = [present.get(index, (None, _value(self._trainable_variables[index]))) for index in group]
            gradients, variables = zip(*pairs, strict=True)
            arguments = (gradients, variables, [moment.value for moment in moments], learning_rate)
            distribution.extended.update(variables[0], self._update, args=arguments, group=False)

    def _update(
        self,
        _: tf.Variable,
        gradients: Sequence[Any],
        variables: Sequence[tf.Variable],
        moments: Sequence[tf.Variable],
        learning_rate: Tensor,
    ) -> None:
        """Updates the weights of a group on one device. A weight without gradient keeps its moments."""
        sizes = [_size(variable) for variable in variables]
        m, v = (tf.convert_to_tensor(moment) for moment in moments)
        flat = [_flat(gradient, variable) for gradient, variable in zip(gradients, variables, strict=True)]
        if None in gradients:
            old = zip(tf.split(m, sizes), tf.split(v, sizes), strict=True)
            flat = [kept if new is None else new for new, kept in zip(flat, old, strict=True)]
        g, s = (tf.concat(parts, axis=0) for parts in zip(*flat, strict=True))
        t = tf.cast(self.iterations + 1, m.dtype)
        beta_1, beta_2 = (tf.pow(tf.cast(beta, m.dtype), t) for beta in (self.beta_1, self.beta_2))
        alpha = tf.cast(learning_rate, m.dtype) * tf.sqrt(1 - beta_2) / (1 - beta_1)
        m += (g - m) * (1 - self.beta_1)
        v += (s - v) * (1 - self.beta_2)
        for moment, value in zip(moments, (m, v), strict=True):
            moment.assign(value)
        steps = tf.split(m * alpha / (tf.sqrt(v) + self.epsilon), sizes)
        for gradient, variable, step in zip(gradients, variables, steps, strict=True):
            if gradient is not None:
                variable.assign_sub(tf.reshape(step, variable.shape))


def _groups(variables: Sequence[keras.Variable]) -> list[list[int]]:
    """The indices of the variables that share vectors: those of one dtype, and each large one alone."""
    together: dict[str, list[int]] = {}
    alone = []
    for index, variable in enumerate(variables):
        if _size(variable) > MOST_ELEMENTS:
            alone.append([index])
        else:
            together.setdefault(str(variable.dtype), []).append(index)
    return [*together.values(), *alone]


def _value(variable: Any) -> tf.Variable:
    return variable.value if isinstance(variable, keras.Variable) else variable


def _size(variable: Any) -> int:
    return int(tf.TensorShape(variable.shape).num_elements())


def _flat(gradient: Any, variable: tf.Variable) -> tuple[Tensor, Tensor] | None:
    """The gradient and its square as vectors. As in Keras the square of a row is the sum over its occurrences."""
    if gradient is None:
        return None
    if isinstance(gradient, tf.IndexedSlices):
        rows = tf.reshape(gradient.indices, (-1,))
        values = tf.cast(tf.reshape(gradient.values, (tf.size(rows), -1)), variable.dtype)
        # One sum for both: a scatter costs as much per row whatever its length.
        sums = tf.math.unsorted_segment_sum(tf.concat([values, tf.square(values)], axis=1), rows, variable.shape[0])
        totals, squares = tf.split(sums, 2, axis=1)
        return tf.reshape(totals, (-1,)), tf.reshape(squares, (-1,))
    g = tf.reshape(tf.cast(gradient, variable.dtype), (-1,))
    return g, tf.square(g)
