"""An output layer for one binary task."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from ..types import Shape, Tensor


@keras.saving.register_keras_serializable(package="c2al_tf")
class TaskHead(keras.layers.Layer):
    """Logits of one binary task from the shared representation: an MLP with relu, then one unit.

    Each head is a separate layer of the functional model, so that auxiliary heads can be removed for serving.

    Args:
        hidden_units: Units of the hidden layers. Empty: a linear head.
        prior: Share of positives of the task, in (0, 1). The bias starts at its log-odds, so that a rare task is
            calibrated from the start: the first steps, and the shared layers' gradient, need not find the base rate.
        auxiliary: Whether `strip_auxiliary_heads` drops this head for serving.
        original: The form of the model that an auxiliary head was added to: its class, name, structure of outputs and
            `trainable`. It is saved with the head so that `strip_auxiliary_heads` can give that form back.
    """

    def __init__(
        self,
        hidden_units: Sequence[int] = (),
        prior: float | None = None,
        auxiliary: bool = False,
        original: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_head(hidden_units, prior, self.name)
        self.hidden_units = list(hidden_units)
        self.prior = prior
        self.auxiliary = auxiliary
        self.original = original

    def build(self, input_shape: Shape) -> None:
        """Creates the MLP; the last bias is log(prior / (1 - prior))."""
        self.hidden = [
            keras.layers.Dense(units, "relu", name=f"hidden_{i}", dtype=self.dtype_policy)
            for i, units in enumerate(self.hidden_units)
        ]
        # Logits in float32: bfloat16 has fewer than three significant digits.
        self.logit = keras.layers.Dense(
            1, bias_initializer=keras.initializers.Constant(initial_bias(self.prior)), name="logit", dtype="float32"
        )
        shape = input_shape
        for layer in [*self.hidden, self.logit]:
            layer.build(shape)
            shape = layer.compute_output_shape(shape)

    def call(self, h: Tensor) -> Tensor:
        """Maps (batch, units) to logits (batch, 1), float32."""
        for layer in self.hidden:
            h = layer(h)
        return self.logit(h)

    def compute_output_spec(self, h: Tensor) -> keras.KerasTensor:
        """(batch, 1), float32 whatever the dtype policy."""
        return keras.KerasTensor(self.compute_output_shape(h.shape), dtype="float32")

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """(batch, 1)."""
        return (input_shape[0], 1)


def initial_bias(prior: float | None) -> float:
    """The log-odds of a share of positives, log(prior / (1 - prior)); 0 if it is not known."""
    return 0.0 if prior is None else math.log(prior / (1 - prior))


def check_head(hidden_units: Sequence[int], prior: float | None, name: str) -> None:
    """Raises ValueError if a hidden layer has no unit, or the share of positives is not within (0, 1)."""
    if prior is not None and not 0 < prior < 1:
        raise ValueError(
            f"`prior` must lie between 0 and 1, both excluded: a task needs positives and negatives. "
            f"Received: prior={prior} for task head `{name}`"
        )
    if any(units < 1 for units in hidden_units):
        raise ValueError(f"`hidden_units` must be at least 1 each. Received: hidden_units={hidden_units}")
