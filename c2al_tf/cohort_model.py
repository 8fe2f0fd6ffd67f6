"""Cohort heads around any Keras model: they learn beside it, and it stays what it is."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import keras

from .layer_calls import calls_at, layer_of, layers_at, recorded_calls, representation
from .layers import TaskHead
from .names import cohort_names, cohort_weights
from .types import PRIMARY, Tensor

_OUTPUTS, _LOGITS = "outputs", "cohort_logits"


def with_cohort_heads(
    model: keras.Model,
    at: str | keras.Layer | Tensor | None,
    cohorts: Iterable[str],
    *,
    weight: float | Mapping[str, float] = 0.1,
    hidden_units: Sequence[int] = (),
    priors: Mapping[str, float] | None = None,
) -> "CohortModel":
    """A model that trains `model` with one auxiliary head per cohort: functional, Sequential or subclassed.

    `compile` and `fit` it as you did `model`, on rows of `add_cohort_labels`. Losses and metrics are those of `model`'s
    own outputs. In training it adds

        sum over cohorts c of weight_c * mean(binary cross entropy of y_c)

    to the loss (METHOD step 5), and says each as `<cohort>_loss`. In `evaluate`, `predict` and a call without
    `training=True` it is `model`: heads have no part in it. If `model` is compiled this one is, in the same way with a
    new optimizer of the same config.

    `model` itself is trained, nothing is copied: afterwards `.base` is to be saved over the old file or exported. There
    is nothing to strip. The moments in its own optimizer, if it has one, stay those from before.

    Args:
        model: Any Keras 3 model, new or trained, on one device. Its own `compute_loss`, `compute_metrics` and
            `predict_step` are called; compile it as well, where these use what it was compiled with.
        at: What makes the shared representation (batch, units): a layer, its name, or a tensor of a functional model.
            None: what the Dense layer reads that gives the model's one output.
        cohorts: Names of the cohorts (`cohort.name`).
        weight: Weight of the cohorts' losses, lambda, or by cohort.
        hidden_units: Units of each head's hidden layers. Empty: linear heads.
        priors: Share of positives `y * 1[x in cohort]` among all rows, by cohort, from which a head's bias starts.

    Raises:
        ValueError: If the model trains by methods of its own or on several devices, the layer is not found or
            ambiguous, or names, weights or priors do not fit. From the first batch of training: if the layer is not
            called once, what it gives is not (batch, units), or Keras computes it anew for gradients.
    """
    names = cohort_names(cohorts, (), priors or {})
    weights = cohort_weights(weight, names)
    layer = layer_of(model, at)
    wrapped = CohortModel(
        model, None if layer is None else layer.name, weights, hidden_units=hidden_units, priors=priors
    )
    if model.compiled:
        # The objects themselves: functions and classes that Keras has not registered are among them.
        given = model._compile_config.config
        wrapped.compile(**given | {"jit_compile": model.jit_compile, "optimizer": _like(given["optimizer"])})
    return wrapped


def _like(optimizer: keras.optimizers.Optimizer | None) -> keras.optimizers.Optimizer | None:
    """A new optimizer of the same config."""
    if optimizer is None:
        return None
    config, rate = optimizer.get_config(), getattr(optimizer, "_learning_rate", None)
    if isinstance(rate, keras.optimizers.schedules.LearningRateSchedule):
        config["learning_rate"] = rate  # its class need not be registered
    return type(optimizer).from_config(config)


@keras.saving.register_keras_serializable(package="c2al_tf")
class CohortModel(keras.Model):
    """What `with_cohort_heads` returns.

    Args:
        base: The model that is trained.
        at: Name of the layer whose output is the shared representation; None: what the Dense reads that
            gives the one output.
        weights: Weight of each cohort's loss, by the cohort's name.
        hidden_units: Units of each head's hidden layers. Empty: linear heads.
        priors: Share of positives by cohort.

    Attributes:
        base: The model, as it was given but for its weights' values.
        heads: The `TaskHead` of each cohort.
    """

    def __init__(
        self,
        base: keras.Model,
        at: str | None,
        weights: Mapping[str, float],
        *,
        hidden_units: Sequence[int] = (),
        priors: Mapping[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        _check_base(base)
        super().__init__(dtype=base.dtype_policy, **kwargs)
        # The base alone casts its inputs, or does not, as a functional model of float64 or of ids.
        self._convert_input_args, self._allow_non_tensor_positional_args = False, True
        self.base = base
        if base._parent_path is None:
            base._parent_path = ""  # Keras would begin the paths of weights that it makes now with this model's name
        if hasattr(base, "output_names"):
            self.output_names = base.output_names  # by which Keras finds labels and losses of a list of outputs
        self.at = at
        self.weights_of_cohorts = dict(weights)
        self.hidden_units = list(hidden_units)
        self.priors = dict(priors or {})
        self.heads = {
            name: TaskHead(self.hidden_units, self.priors.get(name), auxiliary=True, name=f"task_{name}")
            for name in weights
        }
        self.cohort_losses = {name: keras.metrics.Mean(name=f"{name}_loss") for name in weights}

    def build(self, inputs_shape: Any = None) -> None:
        """Nothing: heads are built when the first batch says what they read."""

    @property
    def input(self) -> Any:
        """The base's, where it is functional: the columns that it reads."""
        return self.base.input

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """The base's outputs; in training a dict of them and of the cohorts' logits (batch, 1)."""
        _check_columns(self.base, inputs)
        told = self.base._call_has_training_arg  # else `fit` would not tell its layers: not even dropout trains
        mode = {} if told and training is None else {"training": training if told else None}
        if not training and all(head.built for head in self.heads.values()):
            return self.base(inputs, **mode)
        if not self.base.built:
            self.base(inputs, **mode)  # Keras builds it by a call of its own.
        with recorded_calls(layers_at(self.base, self.at)) as seen:
            outputs = self.base(inputs, **mode)
        found = calls_at(self.at, seen, outputs)
        if not training and len(found) != 1:
            return outputs  # inference may take another way
        h = representation(self.at, found)
        for head in self.heads.values():
            if not head.built:
                head.build(tuple(h.shape))
        if not training:
            return outputs
        return {_OUTPUTS: outputs, _LOGITS: {name: head(h) for name, head in self.heads.items()}}

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Tensor:
        """The base's loss, and in training the weighted losses of the cohorts."""
        outputs, logits = _parts(y_pred)
        labels, of_cohorts = self._labels(y, outputs)
        weight, cohort_weight = self._row_weights(sample_weight, outputs)
        given = {"x": x, "y": labels, "y_pred": outputs, "sample_weight": weight}
        if _overrides(self.base, "compute_loss"):
            loss = self.base._compute_loss(**given, training=training)
        else:
            loss = super().compute_loss(**given, training=training)
        if logits is None:
            return loss
        if missing := sorted({*logits} - {*of_cohorts}):
            raise ValueError(
                "The labels of training rows must name every cohort: see `add_cohort_labels`. "
                f"Received: labels without {missing}"
            )
        loss_of = keras.losses.BinaryCrossentropy(from_logits=True, reduction="mean_with_sample_weight")
        for name, values in logits.items():
            cohort_loss = loss_of(keras.ops.reshape(of_cohorts[name], (-1, 1)), values, cohort_weight(name))
            self.cohort_losses[name].update_state(cohort_loss)
            loss = loss + self.weights_of_cohorts[name] * cohort_loss
        return loss

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> dict[str, Any]:
        """The metrics of the base's outputs, and in training the losses of the cohorts."""
        outputs, logits = _parts(y_pred)
        labels, _ = self._labels(y, outputs)
        weight, _ = self._row_weights(sample_weight, outputs)
        if self._base_counts:
            found = dict(self.base.compute_metrics(x, labels, outputs, weight))
            found |= {metric.name: metric.result() for metric in self._own_metrics()}
        else:
            found = dict(super().compute_metrics(x, labels, outputs, weight))
        dropped = {metric.name for metric in self.cohort_losses.values()} if logits is None else set()
        return {name: value for name, value in found.items() if name not in dropped}

    def predict_step(self, *arguments: Any) -> Any:
        """The base's, where it has one of its own."""
        step = self.base.predict_step if _overrides(self.base, "predict_step") else super().predict_step
        return step(*arguments)

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """Those of `compile`, the losses, and those that the base updates itself."""
        own = self._own_metrics() if self._base_counts else list(super().metrics)
        others = [self.base._loss_tracker]
        if not self._base_counts and self.base.compiled:
            others += [self.base._compile_metrics, *getattr(self.base._compile_loss, "metrics", ())]
        known = {id(metric) for metric in (*own, *others)}
        return own + [metric for metric in self.base.metrics if id(metric) not in known]

    def _own_metrics(self) -> list[keras.metrics.Metric]:
        return [metric for metric in (self._loss_tracker, *self.cohort_losses.values()) if metric is not None]

    @property
    def _base_counts(self) -> bool:
        return _overrides(self.base, "compute_metrics")

    def get_config(self) -> dict[str, Any]:
        """What makes the same model again, the base included."""
        return {
            "name": self.name,
            "base": keras.saving.serialize_keras_object(self.base),
            "at": self.at,
            "weights": dict(self.weights_of_cohorts),
            "hidden_units": list(self.hidden_units),
            "priors": dict(self.priors),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> "CohortModel":
        """The model of a `get_config`."""
        base = keras.saving.deserialize_keras_object(config["base"], custom_objects=custom_objects)
        return cls(**(config | {"base": base}))

    def get_build_config(self) -> dict[str, Any]:
        """What the heads read; the base says itself how it is built."""
        head = next(iter(self.heads.values()))
        return {"units": [*head.hidden, head.logit][0].kernel.shape[0] if head.built else None}

    def build_from_config(self, config: Mapping[str, Any]) -> None:
        """Builds the heads."""
        if config["units"] is not None:
            for head in self.heads.values():
                head.build((None, config["units"]))
            self.built = self.base.built

    def _labels(self, y: Any, outputs: Any) -> tuple[Any, Mapping[str, Tensor]]:
        """The labels that the base had before, and those of the cohorts."""
        if not isinstance(y, Mapping):
            return y, {}
        return self._own(y, outputs), {name: y[name] for name in self.heads if name in y}

    def _row_weights(self, weight: Any, outputs: Any) -> tuple[Any, Any]:
        """The row weights that the base had before, and a function of a cohort's name to those of its task."""
        if not isinstance(weight, Mapping):
            return weight, lambda name: weight
        own = self._own(weight, None)
        if isinstance(own, Mapping) and not isinstance(outputs, Mapping):  # Keras finds these by their place alone
            names = getattr(self, "output_names", own)
            own = keras.tree.pack_sequence_as(outputs, [own.get(name) for name in names])
        return own, weight.__getitem__

    def _own(self, values: Mapping[str, Any], outputs: Any) -> Any:
        """Those of the base: what add_cohort_labels named `primary`, it had without a name."""
        own = {name: value for name, value in values.items() if name not in self.heads}
        named = isinstance(outputs, Mapping) and PRIMARY in outputs
        return own[PRIMARY] if {*own} == {PRIMARY} and not named else own


def _check_columns(base: keras.Model, inputs: Any) -> None:
    """Raises ValueError where Keras would read a dict by the order of its names, and so a wrong column."""
    reads = base.input if isinstance(base, keras.Function) else None
    if isinstance(reads, Mapping) and isinstance(inputs, Mapping) and ({*inputs} - {*reads}):
        raise ValueError(
            "A functional model must be given the columns that it reads and no other: `add_cohort_labels(keep=model)` "
            f"leaves the others out; so must validation rows. Received: {sorted({*inputs} - {*reads})} beside them"
        )


def _parts(y_pred: Any) -> tuple[Any, Mapping[str, Tensor] | None]:
    """The base's outputs, and the cohorts' logits; None where they were not computed."""
    if isinstance(y_pred, Mapping) and {*y_pred} == {_OUTPUTS, _LOGITS}:
        return y_pred[_OUTPUTS], y_pred[_LOGITS]
    return y_pred, None


def _overrides(model: keras.Model, method: str) -> bool:
    return getattr(type(model), method) is not getattr(keras.Model, method)


_OWN = ("train_step", "test_step", "fit", "make_train_function", "make_test_function")
"""Methods of a subclass that would not be called, or would not see the heads."""


def _check_base(model: keras.Model) -> None:
    """Raises ValueError if the model trains in a way of its own: heads would not be on its gradient tape."""
    if not isinstance(model, keras.Model):
        raise ValueError(
            f"`model` must be a model of Keras 3. Received: {type(model).__module__}.{type(model).__name__}"
        )
    if own := [name for name in _OWN if _overrides(model, name)]:
        raise ValueError(
            "The model must be trained by the steps of Keras: heads would not be on its own gradient tape. Rename a "
            "`train_step` to `compute_loss(self, x, y, y_pred, sample_weight, training)`, let that return the loss "
            "from the outputs `y_pred`, and leave the gradients to Keras. "
            f"Received: {type(model).__name__} with its own {', '.join(own)}"
        )
    replicas = getattr(getattr(model, "distribute_strategy", None), "num_replicas_in_sync", 1)
    if replicas > 1:
        raise ValueError(
            "The model must be trained on one device; for several there are `add_cohort_heads` and `train`. "
            f"Received: a model of {replicas} devices"
        )
