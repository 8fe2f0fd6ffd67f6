"""The auxiliary tasks of cohorts as a task in the sense of `tfrs.tasks`."""

import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import tensorflow as tf
import tensorflow_recommenders as tfrs
import tf_keras

from ...layers.task_head import check_head, initial_bias
from ...losses import binary_cross_entropy, weighted_mean
from ...names import cohort_names, cohort_weights
from ...types import Tensor


@tf_keras.utils.register_keras_serializable(package="c2al_tf")
class CohortTask(tf_keras.layers.Layer, tfrs.tasks.Task):
    """One binary head per cohort on the shared representation, and the loss to be added to the model's own.

        sum over cohorts c of weight_c * mean(binary cross entropy of y_c)

    Call it in `compute_loss` where `training` is true; each cohort's loss is a metric, `<cohort>_loss`. The heads draw
    their initial values without changing a random state: the rest of the model is as it would be without them. In a
    model of your own delete the attribute that holds the task before you save the model for serving.

    Args:
        cohorts: Names of the cohorts (`cohort.name`).
        weight: Weight of the cohorts' losses, lambda, or by cohort.
        hidden_units: Units of each head's hidden layers.
        priors: Share of positives `y * 1[x in cohort]` among all rows, by cohort, from which a head's bias starts.

    Raises:
        ValueError: If names, weights, units or priors do not fit.
    """

    def __init__(
        self,
        cohorts: Iterable[str],
        weight: float | Mapping[str, float] = 0.1,
        hidden_units: Sequence[int] = (64,),
        priors: Mapping[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.priors = dict(priors or {})
        names = cohort_names(cohorts, (), self.priors)
        self.lambdas = cohort_weights(weight, names)
        self.hidden_units = list(hidden_units)
        self.heads = {name: _head(name, self.hidden_units, self.priors.get(name)) for name in names}
        self.cohort_losses = {name: tf_keras.metrics.Mean(name=f"{name}_loss") for name in names}

    def call(
        self, h: Tensor, labels: Mapping[str, Tensor], sample_weight: Tensor | Mapping[str, Tensor] | None = None
    ) -> Tensor:
        """Maps (batch, units), labels by cohort and row weights, (batch,) or (batch, 1) each, to the loss, ().

        The weights are of all cohorts, or a dict by cohort.
        """
        weights = sample_weight if isinstance(sample_weight, Mapping) else dict.fromkeys(self.heads, sample_weight)
        for what, given in {"labels": labels, "weights": weights}.items():
            if missing := sorted({*self.heads} - {*given}):
                raise ValueError(
                    f"The {what} of training rows must name every cohort: see `add_cohort_labels`. "
                    f"Received: {what} without {missing}"
                )
        loss = tf.zeros(())
        for name, head in self.heads.items():
            values = binary_cross_entropy(tf.reshape(labels[name], (-1, 1)), head(h))
            weight = weights[name]
            mean = tf.reduce_mean(values) if weight is None else weighted_mean(values, weight)
            self.cohort_losses[name].update_state(mean)
            loss += self.lambdas[name] * mean
        return loss

    def get_config(self) -> dict[str, Any]:
        """The arguments."""
        return super().get_config() | {
            "cohorts": list(self.heads),
            "weight": dict(self.lambdas),
            "hidden_units": list(self.hidden_units),
            "priors": dict(self.priors),
        }


def _head(name: str, hidden_units: Sequence[int], prior: float | None) -> tf_keras.Sequential:
    """Logits (batch, 1), float32, from (batch, units)."""
    check_head(hidden_units, prior, name)
    # `set_random_seed` sets this state; without it Keras draws the seeds of initializers from it. It is only read.
    draw = random.Random(f"{name} {random.getstate()}")

    def dense(units: int, **arguments: Any) -> tf_keras.layers.Dense:
        initializer = tf_keras.initializers.GlorotUniform(seed=draw.randrange(2**31))
        return tf_keras.layers.Dense(units, kernel_initializer=initializer, **arguments)

    hidden = [dense(units, activation="relu", name=f"hidden_{i}") for i, units in enumerate(hidden_units)]
    bias = tf_keras.initializers.Constant(initial_bias(prior))
    return tf_keras.Sequential(
        [*hidden, dense(1, bias_initializer=bias, dtype="float32", name="logit")], name=f"task_{name}"
    )
