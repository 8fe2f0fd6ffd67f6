"""The auxiliary tasks of cohorts as a task in the sense of `tfrs.tasks`."""

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import tensorflow as tf
import tensorflow_recommenders as tfrs
import tf_keras

from ...layers.task_head import check_head, initial_bias
from ...names import cohort_names, cohort_weights
from ...types import Tensor


@tf_keras.utils.register_keras_serializable(package="c2al_tf")
class CohortTask(tf_keras.layers.Layer, tfrs.tasks.Task):
    """One binary head per cohort on the shared representation, and the loss to be added to the model's own.

        sum over cohorts c of weight_c * mean(binary cross entropy of y_c)

    Call it in `compute_loss` where `training` is true; each cohort's loss is a metric, `<cohort>_loss`. The heads draw
    their initial values without changing a random state: the rest of the model is as it would be without them. In a
    model of your own delete the attribute that holds the task before you save the model for serving.

    Heads are stripped together, so the first layers of all of them are one product with h. A step without XLA costs by
    its operations and by how often it reads h.

    Args:
        cohorts: Names of the cohorts (`cohort.name`).
        weight: Weight of the cohorts' losses, lambda, or by cohort.
        hidden_units: Units of each head's hidden layers. Empty: linear heads.
        priors: Share of positives `y * 1[x in cohort]` among all rows, by cohort, from which a head's bias starts.

    Raises:
        ValueError: If names, weights, units or priors do not fit.
    """

    def __init__(
        self,
        cohorts: Iterable[str],
        weight: float | Mapping[str, float] = 0.1,
        hidden_units: Sequence[int] = (),
        priors: Mapping[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.priors = dict(priors or {})
        self.cohorts = cohort_names(cohorts, (), self.priors)
        self.lambdas = cohort_weights(weight, self.cohorts)
        self.hidden_units = list(hidden_units)
        for name in self.cohorts:
            check_head(self.hidden_units, self.priors.get(name), name)
        self.first, *self.others = self._layers()
        self.cohort_losses = {name: tf_keras.metrics.Mean(name=f"{name}_loss") for name in self.cohorts}

    def _layers(self) -> list[tf_keras.layers.Layer]:
        """The first layer, of all heads, and what follows it in each head, if anything does."""
        # `set_random_seed` sets this state; without it Keras draws the seeds of initializers from it. It is only read.
        draws = [random.Random(f"{name} {random.getstate()}") for name in self.cohorts]
        biases = [initial_bias(self.priors.get(name)) for name in self.cohorts]
        if not self.hidden_units:
            return [_dense(1, draws, biases)]
        first, *deeper = self.hidden_units
        hidden: dict[str, Any] = {"activation": "relu", "dtype": self._dtype_policy}

        def rest(draw: random.Random, bias: float) -> tf_keras.Sequential:
            return tf_keras.Sequential([*(_dense(u, [draw], **hidden) for u in deeper), _dense(1, [draw], [bias])])

        return [_dense(first, draws, **hidden), *map(rest, draws, biases)]

    def logits(self, h: Tensor) -> Tensor:
        """Maps (batch, units) to (batch, cohorts), float32."""
        x = self.first(h)
        if not self.others:
            return x
        parts = tf.split(x, len(self.others), axis=1)
        return tf.concat([head(part) for head, part in zip(self.others, parts, strict=True)], axis=1)

    def call(
        self, h: Tensor, labels: Mapping[str, Tensor], sample_weight: Tensor | Mapping[str, Tensor] | None = None
    ) -> Tensor:
        """Maps (batch, units), labels by cohort and row weights, (batch,) or (batch, 1) each, to the loss, ().

        The weights are of all cohorts, or a dict by cohort.
        """
        z, y = self.logits(h), self._columns("labels", labels)
        if sample_weight is None:
            share = 1 / tf.cast(tf.shape(z)[0], tf.float32)
        else:
            by_cohort = isinstance(sample_weight, Mapping)
            given = sample_weight if by_cohort else dict.fromkeys(self.cohorts, sample_weight)
            weights = self._columns("weights", given)
            share = weights / tf.maximum(tf.reduce_sum(weights, axis=0), 1e-12)
        means = _mean_cross_entropies(z, y, share)
        for name, mean in zip(self.cohorts, tf.unstack(means, len(self.cohorts)), strict=True):
            self.cohort_losses[name].update_state(mean)
        return tf.reduce_sum(means * [self.lambdas[name] for name in self.cohorts])

    def _columns(self, what: str, given: Mapping[str, Tensor]) -> Tensor:
        """Values of rows by cohort, (batch,) or (batch, 1) each, as (batch, cohorts)."""
        if missing := sorted({*self.cohorts} - {*given}):
            raise ValueError(
                f"The {what} of training rows must name every cohort: see `add_cohort_labels`. "
                f"Received: {what} without {missing}"
            )
        return tf.concat([tf.cast(tf.reshape(given[name], (-1, 1)), tf.float32) for name in self.cohorts], axis=1)

    def get_config(self) -> dict[str, Any]:
        """The arguments."""
        return super().get_config() | {
            "cohorts": list(self.cohorts),
            "weight": dict(self.lambdas),
            "hidden_units": list(self.hidden_units),
            "priors": dict(self.priors),
        }


@tf.custom_gradient
def _mean_cross_entropies(z: Tensor, y: Tensor, share: Tensor) -> tuple[Tensor, Callable[..., Any]]:
    """Sum over rows of share * cross entropy of logits z and labels y, (batch, cohorts) each: (cohorts,).

    Its gradient is share * (sigmoid(z) - y), in fewer operations than those of each step of the cross entropy.
    """

    def gradient(of_means: Tensor) -> tuple[Tensor, None, None]:
        return of_means * share * (tf.sigmoid(z) - y), None, None

    return tf.reduce_sum(share * (tf.nn.softplus(z) - z * y), axis=0), gradient


def _dense(
    units: int,
    draws: Sequence[random.Random],
    biases: Sequence[float] = (),
    activation: str | None = None,
    dtype: Any = "float32",
) -> tf_keras.layers.Dense:
    """The same layer of several heads, side by side; the biases that units start from are zeros if none are given."""
    seeds = [draw.randrange(2**31) for draw in draws]

    def kernel(shape: Sequence[int], dtype: Any = None) -> Tensor:
        own = (shape[0], units)
        return tf.concat([tf_keras.initializers.GlorotUniform(seed)(own, dtype) for seed in seeds], axis=1)

    return tf_keras.layers.Dense(
        units * len(seeds),
        activation,
        kernel_initializer=kernel,
        bias_initializer=tf_keras.initializers.Constant(biases) if biases else "zeros",
        dtype=dtype,
    )
