"""Cohort heads beside a `tfrs.Model`: they learn with it, and it stays what it is."""

import contextlib
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any

import tensorflow as tf
import tensorflow_recommenders as tfrs
import tf_keras

from ...layer_calls import Called, calls_at, layer_of, layers_at, recorded_calls, representation
from ...names import cohort_names
from ...types import PRIMARY, Tensor
from .task import CohortTask


def with_cohort_heads(
    model: tfrs.Model,
    at: str | tf_keras.layers.Layer | None,
    cohorts: Iterable[str],
    *,
    label_key: str | None = None,
    without: Iterable[str] = (),
    weight: float | Mapping[str, float] = 0.1,
    hidden_units: Sequence[int] = (),
    priors: Mapping[str, float] | None = None,
) -> "CohortModel":
    """A `tfrs.Model` that trains `model` with one auxiliary head per cohort, beside the model's own `compute_loss`.

    `compile` and `fit` it as you did `model`, on rows of `add_cohort_labels`. In training it adds the weighted losses
    of the cohorts (`CohortTask`) to what `model.compute_loss` gives for the batch as it was before, and says each as
    `<cohort>_loss`. In `evaluate`, `predict` and a call it is `model`: heads have no part in it. If `model` is compiled
    this one is, in the same way with a new optimizer, where Keras can copy that.

    `compute_loss` gets a label or weights that became a dict of `"primary"` and the cohorts as one tensor, and other
    dicts without the cohorts. What `class_weight` or the design `masked` made of the weights stays.

    `model` itself is trained, nothing is copied: afterwards export `.base` as you do today. There is nothing to strip.
    With a weight of 0 it gets the weights, bit for bit, that it gets alone; not so with an optimizer's
    `global_clipnorm`, in which all gradients count.

    Args:
        model: Any `tfrs.Model`, new or trained, on one device, that is trained by the `train_step` of `tfrs.Model`.
        at: What makes the shared representation (batch, units): a layer, or its name. None: what the model's one Dense
            layer of one unit reads.
        cohorts: Names of the cohorts (`cohort.name`).
        label_key: Where batches are one dict, key of the label in it; None: batches are (features, labels[, weights]),
            whose row weights count in the cohorts' losses, too, or of a dict by task those of the cohorts.
        without: What came into the batches for the cohorts alone: the label made for them, columns that they are on.
            The model does not see these items of its dict; it would make them inputs of its export.
        weight: Weight of the cohorts' losses, lambda, or by cohort.
        hidden_units: Units of each head's hidden layers. Empty: linear heads.
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
    wrapped = CohortModel(model, None if layer is None else layer.name, task, label_key, without)
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
        without: Items of a dict that the base does not see.

    Attributes:
        base: The model, as it was given but for its weights' values.
        cohort_task: The heads; an optimizer that is given lists of variables needs its `trainable_variables`, too.
    """

    def __init__(
        self,
        base: tfrs.Model,
        at: str | None,
        task: CohortTask,
        label_key: str | None = None,
        without: Iterable[str] = (),
    ) -> None:
        super().__init__()
        self.base = base
        self.at = at
        self.cohort_task = task
        self.label_key = label_key
        self.without = frozenset(without)

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

    def _parts(self, inputs: Any) -> tuple[Any, Mapping[str, Tensor], Any]:
        """The batch that the base had before, the cohorts' labels, if any, and their weights, of rows or by cohort."""
        _check_form(inputs, self.label_key)
        names = {*self.cohort_task.cohorts}
        if self.label_key is not None:
            own, labels = _split(inputs, names)
            return _split(own, self.without)[0], labels, None
        features = _split(inputs[0], self.without)[0]
        label, labels = _split(inputs[1], names)
        if not labels:
            return (features, *inputs[1:]), {}, None
        weights = [_split(given, names) for given in inputs[2:]]
        own = (features, _alone(label), *(_alone(given) if by_cohort else given for given, by_cohort in weights))
        return own, labels, next((by_cohort or given for given, by_cohort in weights), None)

    def _representation(self, seen: Sequence[Called]) -> Tensor:
        found = calls_at(self.at, seen, tf.TensorSpec((None, 1)))  # the form of scores
        # A Sequential that is called for the first time also calls its layers in a graph of its own.
        here = [called for called in found if _is_here(called.outputs)]
        if found and not here:
            raise ValueError(
                "`at` must name a layer that is called outside of a `tf.function`, `tf.cond` or loop within the model. "
                f"Received: {'a Dense layer of one unit' if self.at is None else f'layer `{self.at}`'}"
            )
        return representation(self.at, here)


def _split(values: Any, names: Container[str]) -> tuple[Any, dict[str, Tensor]]:
    """A dict without the cohorts, and with them alone; anything else, and an empty dict."""
    if not isinstance(values, Mapping):
        return values, {}
    cohorts = {name: value for name, value in values.items() if name in names}
    return {name: value for name, value in values.items() if name not in cohorts}, cohorts


def _alone(values: Any) -> Any:
    """The label or the weights that were no dict before `add_cohort_labels`, which refuses a dict of only PRIMARY."""
    return values[PRIMARY] if isinstance(values, Mapping) and {*values} == {PRIMARY} else values


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
    if label_key is not None and not isinstance(batch, Mapping):
        raise ValueError(f"Batches must be one dict with the label {label_key!r}. Received: {_form(batch)}")


def _form(batch: Any) -> str:
    return f"a dict of {sorted(batch)}" if isinstance(batch, Mapping) else f"{type(batch).__name__}: {batch}"
