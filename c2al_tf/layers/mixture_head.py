"""Multi-gate mixture of experts: shared experts, and for each task a head that weighs them by a gate of its own."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from ..types import Shape, Tensor
from .task_head import TaskHead


@keras.saving.register_keras_serializable(package="c2al_tf")
class Experts(keras.layers.Layer):
    """The experts' outputs beside what they read, for `MixtureHead`: [h, relu(W_1 h + b_1), ..., relu(W_n h + b_n)].

    Args:
        num_experts: n, at least 1.
        units: Units of each expert.

    References:
        J. Ma et al., "Modeling Task Relationships in Multi-task Learning with Multi-gate Mixture-of-Experts", KDD 2018,
        section 4.2.
    """

    def __init__(self, num_experts: int, units: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for name, value in (("num_experts", num_experts), ("units", units)):
            if value < 1:
                raise ValueError(f"`{name}` must be at least 1. Received: {name}={value}")
        self.num_experts = num_experts
        self.units = units

    def build(self, input_shape: Shape) -> None:
        """All experts are one product with h."""
        self.experts = keras.layers.Dense(
            self.num_experts * self.units, "relu", name="experts", dtype=self.dtype_policy
        )
        self.experts.build(input_shape)

    def call(self, h: Tensor) -> Tensor:
        """Maps (batch, dim) to (batch, dim + num_experts * units)."""
        return ops.concatenate([h, self.experts(h)], axis=-1)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """(batch, dim + num_experts * units)."""
        return (input_shape[0], input_shape[-1] + self.num_experts * self.units)


@keras.saving.register_keras_serializable(package="c2al_tf")
class MixtureHead(TaskHead):
    """A task head on a mixture of experts: sum_i g_i(h) E_i(h) with the gate g(h) = softmax(W_g h), then as `TaskHead`.

    Args:
        num_experts: Number of experts in what `Experts` gives.
        units: Units of each.
        hidden_units: As of `TaskHead`.
    """

    def __init__(self, num_experts: int, units: int, hidden_units: Sequence[int] = (), **kwargs: Any) -> None:
        super().__init__(hidden_units, **kwargs)
        self.num_experts = num_experts
        self.units = units

    def build(self, input_shape: Shape) -> None:
        """Creates the gate, then the MLP on the mixture."""
        dim = input_shape[-1] - self.num_experts * self.units
        if dim < 1:
            raise ValueError(
                f"A MixtureHead reads what `Experts({self.num_experts}, {self.units})` gives, more than "
                f"{self.num_experts * self.units} units. Received: shape {tuple(input_shape)}"
            )
        self.gate = keras.layers.Dense(
            self.num_experts, "softmax", use_bias=False, name="gate", dtype=self.dtype_policy
        )
        self.gate.build((input_shape[0], dim))
        super().build((input_shape[0], self.units))

    def call(self, h: Tensor) -> Tensor:
        """Maps (batch, dim + num_experts * units) to logits (batch, 1), float32."""
        dim = h.shape[-1] - self.num_experts * self.units
        experts = ops.reshape(h[:, dim:], (-1, self.num_experts, self.units))
        return super().call(ops.einsum("be,beu->bu", self.gate(h[:, :dim]), experts))
