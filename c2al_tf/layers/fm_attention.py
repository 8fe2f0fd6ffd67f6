"""Factorization-machine interaction with attention (C2AL, Figure 1)."""

import math
from typing import Any, Literal

import keras
from keras import ops

from ..types import Shape, Tensor
from .products import product_transposed, transposed_product

_TINY = 1e-30
"""Least sum of squares: nothing is divided by 0, and the scale of numbers above 1e-15 still does not matter."""


def fm_attention(X: Tensor, Y: Tensor) -> Tensor:
    """G = X (X^T Y), mapping (batch, num_fields, dim) and (batch, num_fields, num_outputs) to the shape of `Y`.

    Equal to `(X X^T) Y`, the pairwise inner products of all fields weighted by the attention, without ever building the
    num_fields x num_fields matrix. A static `Y`, the same for every row, has shape (num_fields, num_outputs).
    """
    P_T = transposed_product(Y, X)
    return product_transposed(X, P_T)


def attention_sparsity(Y: Tensor) -> Tensor:
    """1 - (sum |y|)^2 / (n sum y^2), over the n = num_fields x num_outputs numbers y of a row, in float32.

    It is 0 where all |y| are equal, and 1 - 1/n where all but one are 0, whatever the scale of Y. It is 1, without a
    gradient, where Y is 0. Maps (batch, num_fields, num_outputs) to (batch,), and (num_fields, num_outputs) to ().

    References:
        The ratio of two norms in Hoyer's sparseness, arXiv cs/0408058, squared.
    """
    Y = ops.cast(Y, "float32")
    n = math.prod(Y.shape[-2:])
    squares = ops.sum(ops.square(Y), axis=(-2, -1))
    return 1 - ops.square(ops.sum(ops.abs(Y), axis=(-2, -1))) / (n * ops.maximum(squares, _TINY))


@keras.saving.register_keras_serializable(package="c2al_tf")
class FMAttention(keras.layers.Layer):
    """Factorization-machine interaction whose pairs are weighted by attention.

        Y = AttentionMLP(X)      attentive: from the row itself; static: a weight
        P = X^T Y
        G = X P = (X X^T) Y

    Args:
        num_outputs: k, the number of attention columns. At least 1.
        mode: `"attentive"` (the paper's) or `"static"` (Wukong's optimized FM).
        hidden_units: Units of the attention MLP's hidden layer.
        density_penalty: Adds `density_penalty * (mean over the rows of attention_sparsity(Y))` to the loss in training:
            dense attention costs less. Rows count alike, whatever their weights. At least 0; 0 adds nothing.
        stop_gradient: In training no gradient passes through Y: neither to the MLP or the static weight, nor by way of
            the MLP to X. See `freeze_attention`.

    References:
        C2AL, arXiv 2510.02215, Figure 1; Wukong, arXiv 2403.02545, section 3.4.
    """

    def __init__(
        self,
        num_outputs: int,
        mode: Literal["attentive", "static"] = "attentive",
        hidden_units: int = 32,
        density_penalty: float = 0.0,
        stop_gradient: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if num_outputs < 1:
            raise ValueError(f"`num_outputs` must be at least 1. Received: num_outputs={num_outputs}")
        if mode not in ("attentive", "static"):
            raise ValueError(f"`mode` must be 'attentive' or 'static'. Received: mode={mode!r}")
        if hidden_units < 1:
            raise ValueError(f"`hidden_units` must be at least 1. Received: hidden_units={hidden_units}")
        if not 0 <= density_penalty < math.inf:
            raise ValueError(
                f"`density_penalty` must be finite and at least 0. Received: density_penalty={density_penalty}"
            )
        self.num_outputs = num_outputs
        self.mode = mode
        self.hidden_units = hidden_units
        self.density_penalty = density_penalty
        self.stop_gradient = stop_gradient

    def build(self, input_shape: Shape) -> None:
        """Creates the attention MLP, or the static weights."""
        num_fields, dim = fields_and_dim(input_shape)
        if self.mode == "static":
            self.static_attention = self.add_weight(
                shape=(num_fields, self.num_outputs), initializer="glorot_uniform", name="attention"
            )
            return
        # Keras tells `trainable` to the layers that are there when it is set.
        common = {"dtype": self.dtype_policy, "trainable": self.trainable}
        self.hidden = keras.layers.Dense(self.hidden_units, "relu", name="attention_hidden", **common)
        self.hidden.build((None, num_fields * dim))
        self.weights_out = keras.layers.Dense(num_fields * self.num_outputs, name="attention_weights", **common)
        self.weights_out.build((None, self.hidden_units))

    def attention(self, X: Tensor) -> Tensor:
        """Y: maps (batch, num_fields, dim) to (batch, num_fields, num_outputs); static: (num_fields, num_outputs)."""
        if self.mode == "static":
            return ops.convert_to_tensor(self.static_attention)
        num_fields, dim = X.shape[1:]
        Y = self.weights_out(self.hidden(ops.reshape(X, (-1, num_fields * dim))))
        return ops.reshape(Y, (-1, num_fields, self.num_outputs))

    def call(self, X: Tensor, training: bool | None = None) -> Tensor:
        """Maps (batch, num_fields, dim) to (batch, num_fields, num_outputs)."""
        Y = self.attention(X)
        # In training only: the served graph has no operation more.
        if training and self.stop_gradient:
            Y = ops.stop_gradient(Y)
        if training and self.density_penalty:
            self.add_loss(self.density_penalty * ops.mean(attention_sparsity(Y)))
        return fm_attention(X, Y)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """(batch, num_fields, num_outputs)."""
        return (*input_shape[:2], self.num_outputs)

    def get_config(self) -> dict[str, Any]:
        """The arguments; `freeze_attention` may have changed `stop_gradient`."""
        return super().get_config() | {
            "num_outputs": self.num_outputs,
            "mode": self.mode,
            "hidden_units": self.hidden_units,
            "density_penalty": self.density_penalty,
            "stop_gradient": self.stop_gradient,
        }


def freeze_attention(model: keras.Model, what: Literal["weights", "activations"] = "weights") -> None:
    """Freezes the attention of every `FMAttention` in a model, wherever it is nested, in place.

    Either way the attention's parameters (the MLP's weights, or the static weight) become non-trainable, so that no
    optimizer has a state for them or changes them. What differs is the gradient that reaches X by way of Y:

        weights          dL/dX = dL/dX at fixed Y + (dY/dX)^T dL/dY     the MLP is fixed, X may still change its output
        activations      dL/dX = dL/dX at fixed Y                       nor is X trained for the sake of Y

    With `activations` a `density_penalty` has no effect. A saved model stays frozen when it is loaded. The served graph
    is that of a model that was never frozen.

    Args:
        model: The model. Compile it afterwards, again if it was compiled: Keras reads what is trainable when it builds
            the optimizer and when it traces a step.
        what: `"weights"` or `"activations"`.

    Raises:
        ValueError: If `what` is another word, or the model has no `FMAttention`.
    """
    if what not in ("weights", "activations"):
        raise ValueError(f"`what` must be 'weights' or 'activations'. Received: what={what!r}")
    attentions = attention_layers(model)
    if not attentions:
        kinds = sorted({type(layer).__name__ for layer in model._flatten_layers()[1:]})
        raise ValueError(f"`model` must have an FMAttention. Received: a model of {kinds}")
    for layer in attentions:
        layer.trainable = False
        layer.stop_gradient = what == "activations"


def attention_layers(model: keras.Model) -> list[FMAttention]:
    """Every `FMAttention` of a model, wherever it is nested."""
    return [layer for layer in model._flatten_layers() if isinstance(layer, FMAttention)]


def fields_and_dim(input_shape: Shape) -> tuple[int, int]:
    """num_fields and dim of (batch, num_fields, dim); raises ValueError if they are not known."""
    if len(input_shape) != 3 or None in input_shape[1:]:
        raise ValueError(
            f"The input must have shape (batch, num_fields, dim) with both sizes known. Received: shape={input_shape}"
        )
    return input_shape[1], input_shape[2]
