"""The optimizer that a configuration asks for: one for dense weights, and another for embedding tables if wanted."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from ..config import TrainingConfig
from ..optimizers import FlatAdam, LazyAdam, RowWiseAdagrad, SparseAdagrad

TABLES = "(.*/)?(table|embeddings)"
"""Matches the paths of tables: those of `FieldEmbedding` and of `keras.layers.Embedding`."""

_DENSE = {"adam": FlatAdam, "adagrad": keras.optimizers.Adagrad}
_SPARSE = {"lazy_adam": LazyAdam, "adagrad": SparseAdagrad, "row_wise_adagrad": RowWiseAdagrad}


def make_optimizer(config: TrainingConfig, num_steps: int) -> keras.optimizers.Optimizer:
    """The optimizer as `config` says; `num_steps` is the length of the whole run, over which learning rates decay."""

    def schedule(rate: float) -> Any:
        return keras.optimizers.schedules.CosineDecay(rate, num_steps) if config.decay == "cosine" else rate

    dense, rate = _DENSE[config.optimizer], schedule(config.learning_rate)
    if config.table_optimizer is None:
        return dense(rate, global_clipnorm=config.clip_norm)
    tables = _SPARSE[config.table_optimizer](schedule(config.table_learning_rate or config.learning_rate))
    optimizers = keras.optimizers.OptimizerMap(dense(rate), {TABLES: tables})
    return ClippedMultiOptimizer(optimizers, global_clipnorm=config.clip_norm)


@keras.saving.register_keras_serializable(package="c2al_tf")
class ClippedMultiOptimizer(keras.optimizers.MultiOptimizer):
    """Keras's `MultiOptimizer` with a bound on the norm of the gradient of all variables together.

    In the norm every occurrence of a row in the batch counts separately, as in Keras.

    Args:
        optimizer_map: Maps variables to optimizers; see Keras.
        global_clipnorm: The bound. None: no bound.
        arguments: Those of `MultiOptimizer`.
    """

    def __init__(self, optimizer_map: Any, global_clipnorm: float | None = None, **arguments: Any) -> None:
        super().__init__(optimizer_map, **arguments)
        self.global_clipnorm = global_clipnorm

    def apply(self, grads: Sequence[Any], trainable_variables: Sequence[keras.Variable] | None = None) -> None:
        """Clips the gradients, and gives each to the optimizer of its variable."""
        if self.global_clipnorm is not None:
            # The gradients still carry the loss scale: the optimizers divide by it later.
            grads, _ = tf.clip_by_global_norm(grads, self.global_clipnorm * (self.loss_scale_factor or 1.0))
        super().apply(grads, trainable_variables)

    def get_config(self) -> dict[str, Any]:
        """The arguments."""
        return super().get_config() | {"global_clipnorm": self.global_clipnorm}
