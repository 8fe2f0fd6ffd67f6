"""Adam for the rows of a table."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import keras
import tensorflow as tf

from ..types import Tensor
from .sparse_optimizer import SparseOptimizer


@keras.saving.register_keras_serializable(package="c2al_tf")
class LazyAdam(SparseOptimizer):
    """Adam that updates the rows of a table that a batch touched, and no other.

        g = sum over the occurrences i of the row of g_i
        s = g^2                                   duplicates="sum"
        s = sum over i of g_i^2                   duplicates="each"
        m = m + (1 - beta_1) (g - m)
        v = v + (1 - beta_2) (s - v)
        w = w - learning_rate * sqrt(1 - beta_2^t) / (1 - beta_1^t) * m / (sqrt(v) + epsilon)

    `keras.optimizers.Adam` applies this to every row at every step, with g = 0 for those that the batch lacks: their
    moments decay and they go on moving along m. Here they stay as they are: their moments are those of the last step
    that touched them. t counts all steps, as in TensorFlow Addons' LazyAdam and PyTorch's SparseAdam, so the first
    steps of a row that is seen late are not corrected for their zero moments. A dense gradient gives the numbers of
    `keras.optimizers.Adam`.

    Args:
        learning_rate: A float, a schedule or a callable.
        beta_1: Decay of m, from 0 to less than 1.
        beta_2: Decay of v, from 0 to less than 1.
        epsilon: Added to the root of v.
        duplicates: What is squared where a row occurs more than once in a batch: the sum, or, as Keras does, each
            occurrence; n equal ones then take steps sqrt(n) times as long.
        arguments: The other arguments of Keras optimizers: `clipnorm`, `name`, ... Not `weight_decay`, `use_ema` or
            `gradient_accumulation_steps`, which would touch every row at every step.

    References:
        Kingma and Ba, arXiv 1412.6980, the end of section 2.
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        duplicates: Literal["sum", "each"] = "sum",
        **arguments: Any,
    ) -> None:
        super().__init__(learning_rate, duplicates, **arguments)
        for name, value in (("beta_1", beta_1), ("beta_2", beta_2)):
            if not 0 <= value < 1:
                raise ValueError(f"`{name}` must be at least 0 and less than 1. Received: {name}={value}")
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon

    def initial_states(self) -> Mapping[str, float]:
        """The moments v and m."""
        return {"velocity": 0.0, "momentum": 0.0}

    def rule(
        self, weight: Tensor, states: Sequence[Tensor], gradient: Tensor, squares: Tensor, learning_rate: Tensor
    ) -> tuple[Tensor, list[Tensor]]:
        """The new w, v and m."""
        v, m = states
        t = tf.cast(self.iterations + 1, weight.dtype)
        alpha = learning_rate * tf.sqrt(1 - self.beta_2**t) / (1 - self.beta_1**t)
        m += (gradient - m) * (1 - self.beta_1)
        v += (squares - v) * (1 - self.beta_2)
        return weight - m * alpha / (tf.sqrt(v) + self.epsilon), [v, m]

    def get_config(self) -> dict[str, Any]:
        """The arguments."""
        return super().get_config() | {"beta_1": self.beta_1, "beta_2": self.beta_2, "epsilon": self.epsilon}
