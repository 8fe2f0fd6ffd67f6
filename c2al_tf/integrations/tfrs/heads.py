"""Cohort heads beside a `tfrs.Model`: they learn with it, and it stays what it is."""

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import tensorflow as tf
import tensorflow_recommenders as tfrs
import tf_keras

from ...layer_calls import Called, layer_of, layers_at, recorded_calls
from ...names import cohort_names
from ...types import PRIMARY, Tensor
from .task import CohortTask


def with_cohort_heads(
    model: tfrs.Model,
    at: str | tf_keras.layers.Layer | None,
    cohorts: Iterable[str],
    *,
    label_key: str | None = None,
    weight: float | Mapping[str, float] = 0.1,
    hidden_units: Sequence[int] = (64,),
    priors: Mapping[str, float] | None = None,
) -> "CohortModel":
    """A `tfrs.Model` that trains `model` with one auxiliary head per cohort, beside the model's own `compute_loss`.

    `compile` and `fit` it as you did `model`, on rows of `add_cohort_labels`. In training it adds the weighted losses
    of the cohorts (`CohortTask`) to what `model.compute_loss` gives for the batch as it was before, and says each as
    `<cohort>_loss`. In `evaluate`, `predict` and a call it is `model`: heads have no part in it. If `model` is compiled
    this one is, in the same way with a new optimizer, where Keras can copy that.

    `model` itself is trained, nothing is copied: afterwards export `.base` as you do today. There is nothing to strip.
    With a weight of 0 it gets the weights, bit for bit, that it gets alone; not so with an optimizer's
    `global_clipnorm`, in which all gradients count.

    Args:
        model: Any `tfrs.Model`, new or trained, on one device, that is trained by the `train_step` of `tfrs.Model`.
        at: What makes the shared representation (batch, units): a layer, or its name. None: what the model's one Dense
            layer of one unit reads.
        cohorts: Names of the cohorts (`cohort.name`).
        label_key: Where batches are one dict, key of the label in it; None: batches are (features, labels[, weights]),
            whose row weights count in the cohorts' losses, too.
        weight: Weight of the cohorts' losses, lambda, or by cohort.
        hidden_units: Units of each head's hidden layers.
        priors: Share of positives `y * 1[x in cohort]` among all rows, by cohort, from which a head's bias starts.

    Raises:
        ValueError: If the model trains by methods of its own or on several devices, the layer is not found or
            ambiguous, or names, weights or priors do not fit. From the first batch: if it has another form, the layer
            is not called once, or what it gives is not (batch, units).
    """
    _check_base(model)
    names = cohort_names(cohorts, () if label_key is None else (label_key,), priors or {})
    layer = layer_of(model, at)
    task = CohortTask(names, weight, hidden_units, priors, name="cohort_task")
    wrapped = CohortModel(model, None if layer is None else layer.name, task, label_key)
    with contextlib.suppress(
        NotImplementedError, TypeError, ValueError
    ):  # what has no config; `fit` asks for `compile`
        if config := model.get_compile_config():
            wrapped.compile_from_config(config)
    return wrapped


class CohortModel(tfrs.Model):
    """What `with_cohort_heads` returns.

    Args:
        base: The model that is trained.
        at: Name of the layer whose output is the shared representation; None: what the one Dense of one unit reads.
        task: The heads and their loss.
        label_key: Key of the label in batches that are one dict.

    Attributes:
        base: The model, as it was given but for its weights' values.
        cohort_task: The heads; an optimizer that is given lists of variables needs its `trainable_variables`, too.
    """

    def __init__(self, base: tfrs.Model, at: str | None, task: CohortTask, label_key: str | None = None) -> None:
        super().__init__()
        self.base = base
        self.at = at
        self.cohort_task = task
        self.label_key = label_key

    def call(self, inputs: Any) -> Any:
        """What the base gives."""
        return self.base(inputs)

    def compute_loss(self, inputs: Any, training: bool = False) -> Tensor:
        """The base's loss, and in training the weighted losses of the cohorts."""
        own, labels, weight = self._parts(inputs)
        if not training:
            return self.base.compute_loss(own, training=False)
        with recorded_calls(layers_at(self.base, self.at, tf_keras.layers.Dense)) as seen:
            loss = self.base.compute_loss(own, training=True)
        return loss + self.cohort_task(self._representation(seen), labels, weight)

    def test_step(self, inputs: Any) -> dict[str, Tensor]:
        """The base's."""
        return self.base.test_step(self._parts(inputs)[0])

    def predict_step(self, data: Any) -> Any:
        """The base's."""
        return self.base.predict_step(data)

    def _parts(self, inputs: Any) -> tuple[Any, Mapping[str, Tensor], Tensor | None]:
        """The batch that the base had before, the cohorts' labels, if any, and the rows' weights."""
        _check_form(inputs, self.label_key)
        holder = inputs[1] if self.label_key is None else inputs
        labels = {
            name: holder[name] for name in self.cohort_task.heads if isinstance(holder, Mapping) and name in holder
        }
        weight = inputs[2] if self.label_key is None and len(inputs) == 3 else None
        if not labels:
            return inputs, {}, weight
        own = {name: values for name, values in holder.items() if name not in labels}
        if self.label_key is not None:
            return own, labels, None
        return (inputs[0], own[PRIMARY] if {*own} == {PRIMARY} else own, *inputs[2:]), labels, weight

    def _representation(self, seen: Sequence[Called]) -> Tensor:
        where = f"layer `{self.at}`"
        if self.at is None:
            dense = [layer.name for layer in self.base._flatten_layers() if isinstance(layer, tf_keras.layers.Dense)]
            where = f"a Dense layer of one unit; the Dense layers are {dense}"
            seen = [called for called in seen if called.outputs.shape[-1] == 1]
        # A Sequential that is called for the first time also calls its layers in a graph of its own.
        here = [called for called in seen if _is_here(called.outputs)]
        if seen and not here:
            raise ValueError(
                "`at` must name a layer that is called outside of a `tf.function`, `tf.cond` or loop within the model. "
                f"Received: {where}"
            )
        if len(here) != 1:
            raise ValueError(
                "`at` must name a layer that the model calls once in a forward pass; None needs one Dense layer of one "
                f"unit. Received: {len(here)} calls of {where}"
            )
        h = here[0].inputs if self.at is None else here[0].outputs
        if not tf.is_tensor(h) or len(h.shape) != 2 or h.shape[1] is None:
            raise ValueError(
                "`at` must name a layer that gives one tensor (batch, units), whose units are known. "
                f"Received: {where}, which gives {getattr(h, 'shape', type(h).__name__)}"
            )
        return h


def _is_here(outputs: Any) -> bool:
    """Whether what a layer gave can be used in the present graph, or eagerly."""
    graph = None if tf.executing_eagerly() else tf.compat.v1.get_default_graph()
    return all(
        getattr(each, "graph", None) is graph for each in tf.nest.flatten(outputs) if isinstance(each, tf.Tensor)
    )


def _check_base(model: tfrs.Model) -> None:
    """Raises ValueError if the model trains in a way of its own: heads would not be on its gradient tape."""
    if not isinstance(model, tfrs.Model):
        raise ValueError(f"`model` must be a `tfrs.Model`. Received: {type(model).__module__}.{type(model).__name__}")
    methods = ("train_step", "fit", "make_train_function")
    if own := [name for name in methods if getattr(type(model), name) is not getattr(tfrs.Model, name)]:
        raise ValueError(
            "The model must be trained by the steps of `tfrs.Model`: heads would not be on its own gradient tape. Call "
            "a `CohortTask` in its `compute_loss` instead. "
            f"Received: {type(model).__name__} with its own {', '.join(own)}"
        )
    if (replicas := model.distribute_strategy.num_replicas_in_sync) > 1:
        raise ValueError(f"The model must be trained on one device. Received: a model of {replicas} devices")


def _check_form(batch: Any, label_key: str | None) -> None:
    """Raises ValueError unless a batch, or its spec, is a dict with the label, or (features, labels[, weights])."""
    if label_key is None and not (isinstance(batch, tuple | list) and len(batch) in (2, 3)):
        raise ValueError(
            "Without `label_key` batches must be (features, labels) or (features, labels, weights); give the key of "
            f"the label where they are one dict. Received: {_form(batch)}"
        )
    if label_key is not None and not (isinstance(batch, Mapping) and label_key in batch):
        raise ValueError(f"Batches must be one dict with the label {label_key!r}. Received: {_form(batch)}")


def _form(batch: Any) -> str:
    return f"a dict of {sorted(batch)}" if isinstance(batch, Mapping) else f"{type(batch).__name__}: {batch}"
