"""Layer normalization in the passes over memory that it takes, forward and backward."""

from collections.abc import Callable

import keras
from keras import ops

from ..types import Tensor


def mean_of_rows(x: Tensor) -> Tensor:
    """Maps (rows, size) to (rows, 1)."""
    # A product with a constant column: XLA cuts a sum of more than 32 terms into windows that it fuses with nothing.
    size = x.shape[1]
    return ops.matmul(x, ops.full((size, 1), 1 / size, dtype=x.dtype))


def normalize(x: Tensor, epsilon: float) -> Tensor:
    """(x - mean) / sqrt(variance + epsilon) of each row of (rows, size), in float32.

    With z what it returns and s what it divides by:

        dx = (dz - mean(dz) - z mean(z dz)) / s
    """

    @ops.custom_gradient
    def rows(x: Tensor) -> tuple[Tensor, Callable[..., Tensor]]:
        centered = x - mean_of_rows(x)
        s = ops.sqrt(mean_of_rows(ops.square(centered)) + epsilon)
        # Dividing last: XLA computes a quotient once, where it repeats a sum or a product in every reader.
        z = centered / s

        def gradient(*args: Tensor, upstream: Tensor | None = None) -> Tensor:
            dz = args[0] if upstream is None else upstream
            return (dz - mean_of_rows(dz) - z * mean_of_rows(z * dz)) / s

        return z, gradient

    return rows(ops.cast(x, "float32"))


@keras.saving.register_keras_serializable(package="c2al_tf")
class LayerNorm(keras.layers.LayerNormalization):
    """`keras.layers.LayerNormalization` over the last axis: the same arguments, weights and values, fewer passes."""

    def call(self, inputs: Tensor) -> Tensor:
        """Maps (batch, ..., size) to the same shape."""
        x = ops.convert_to_tensor(inputs)
        z = normalize(ops.reshape(x, (-1, x.shape[-1])), self.epsilon)
        outputs = ops.reshape(z, (-1, *x.shape[1:])) * self.gamma + self.beta
        return ops.cast(outputs, self.compute_dtype)
