"""What any Keras model says of the rows of a dataset, beside their raw columns and labels: the input of discovery."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, TypeAlias

import keras
import numpy as np
import tensorflow as tf
from scipy.special import expit, logit
from tqdm import tqdm

from .cohort_model import CohortModel
from .cohorts.table import find_column, raw_columns
from .data.inputs.row_values import one_per_row
from .form import named_outputs
from .training.batches import inputs_of_batch
from .types import PRIMARY, Array, Tensor

ColumnsOf: TypeAlias = Iterable[str] | Callable[[Any], Mapping[str, Tensor]]
"""Names of features, which are a dict, or a function from the features to raw columns, as for `add_cohort_labels`."""

_SMALLEST = 1e-7
"""Probabilities nearer to 0 or 1 are taken as this far away, as Keras's losses do: their logits are finite."""


class Predictions(NamedTuple):
    """A model's predictions beside the rows that they are of; rows of weight 0, which are padding, are left out.

    Attributes:
        probabilities: Of label 1, float64 (rows,).
        columns: Raw columns by name, (rows,), with the missing values of `c2al_tf.types`.
        labels: 0 or 1, (rows,).
    """

    probabilities: Array
    columns: dict[str, Array]
    labels: Array


class Rows(NamedTuple):
    """The rows of a dataset, without those of weight 0: logits (rows,), raw columns, labels and weights (rows,)."""

    logits: Array
    columns: dict[str, Array]
    labels: Array
    weights: Array


def predict_columns(
    model: keras.Model,
    dataset: tf.data.Dataset,
    columns: ColumnsOf,
    *,
    from_logits: bool | None = None,
    primary: str | None = None,
) -> Predictions:
    """Reads a dataset once: `discover_cohorts` takes what comes out.

        probabilities, columns, labels = predict_columns(model, validation, ["age", "city"])
        found = discover_cohorts(probabilities, columns, ["age", "city"], labels=labels)

    Args:
        model: Any Keras model; its `predict_step` is called.
        dataset: Batches of (features, label[, weight]), those that the model is evaluated on.
        columns: The raw columns that are wanted, one value per row: names of features (`user/age` in dicts of dicts),
            or a function from the features to a dict.
        from_logits: Whether the model gives logits, or else probabilities. None: what its compiled loss says.
        primary: The output and label of a model of several; by default the only one, or `"primary"`.

    Raises:
        ValueError: If the batches have another form, a column, label or output is not there, `from_logits` is needed,
            or an output is not one number a row.
    """
    rows = read_rows(model, dataset, columns, from_logits=from_logits, primary=primary)
    return Predictions(expit(rows.logits), rows.columns, rows.labels)


def read_rows(
    model: keras.Model,
    dataset: tf.data.Dataset,
    columns: ColumnsOf,
    *,
    from_logits: bool | None = None,
    primary: str | None = None,
) -> Rows:
    """Like `predict_columns`, with logits and weights."""
    spec = dataset.element_spec if isinstance(dataset, tf.data.Dataset) else type(dataset)
    if not isinstance(spec, tuple) or len(spec) not in (2, 3):
        raise ValueError(
            f"`dataset` must be a tf.data.Dataset of (features, label) or (features, label, weight). Received: {spec}"
        )
    is_logit = gives_logits(model, primary) if from_logits is None else from_logits
    columns_of = columns_function(columns, spec[0])
    known = {*named_outputs(model, spec[1])}

    @tf.function(autograph=False)
    def predict(x: Any) -> Tensor:
        outputs = named_outputs(model, model.predict_step((inputs_of_batch(x, model),)))
        if primary is not None and primary not in known | {*outputs}:
            raise ValueError(f"`primary` must be one of {sorted(known | {*outputs})}. Received: primary={primary!r}")
        return tf.reshape(tf.cast(_chosen(outputs, primary, "output"), tf.float64), (-1,))

    parts: list[Rows] = []
    with tqdm(desc="predicting", unit=" rows", unit_scale=True, leave=False, delay=1) as bar:
        for x, y, *given in dataset:
            labels = np.ravel(_chosen(named_outputs(model, y), primary, "label"))
            outputs = predict(x).numpy()
            if len(outputs) != len(labels):
                raise ValueError(
                    "The model must give one number for each row. "
                    f"Received: {len(outputs):,} numbers for {len(labels):,} labels"
                )
            named = named_outputs(model, given[0] if given else np.ones(len(labels)))
            weights = np.ravel(_chosen(named, primary, "weight"))
            dense = {name: one_per_row(values, name, is_row=False) for name, values in columns_of(x).items()}
            raw = {name: column.values for name, column in raw_columns(dense, dense).items()}
            parts.append(_counted(Rows(outputs, raw, labels, weights)))
            bar.update(len(labels))
    return _joined(parts, is_logit)


def gives_logits(model: keras.Model, primary: str | None = None) -> bool:
    """Whether the loss that a model is compiled with takes logits.

    Raises:
        ValueError: If it is not compiled with a loss of two classes that says so.
    """
    base = model.base if isinstance(model, CohortModel) else model
    if type(base).predict_step is not keras.Model.predict_step:
        raise ValueError(
            "Say with `from_logits` whether the model gives logits or probabilities: it has its own `predict_step`. "
            f"Received: {type(base).__name__} and from_logits=None"
        )
    loss = getattr(model, "loss", None)
    if isinstance(loss, list | tuple | Mapping):
        names = getattr(model, "output_names", None) or range(len(loss))
        by_name = loss if isinstance(loss, Mapping) else dict(zip(names, loss, strict=False))
        loss = by_name.get(primary or (PRIMARY if len(by_name) > 1 else next(iter(by_name))))
    if loss in ("binary_crossentropy", "bce", keras.losses.binary_crossentropy):
        return False
    says = getattr(loss, "from_logits", None)
    if not isinstance(says, bool):
        raise ValueError(
            "Say with `from_logits` whether the model gives logits or probabilities: its compiled loss does not. "
            f"Received: loss={loss}"
        )
    return says


def columns_function(columns: ColumnsOf, features: Any) -> Callable[[Any], Mapping[str, Tensor]]:
    """The function from features, of this specification, to the raw columns.

    Raises:
        ValueError: If a name is not among the features.
    """
    if callable(columns):
        return columns
    names = [columns] if isinstance(columns, str) else list(columns)
    if not isinstance(features, Mapping):
        raise ValueError(
            f"`columns` must map the features to a dict, as these are none. Received: columns={names}, {features}"
        )
    for name in names:
        find_column(features, name)
    return lambda x: {name: find_column(x, name) for name in names}


def _chosen(named: Mapping[str, Any], primary: str | None, what: str) -> Any:
    name = primary or (next(iter(named)) if len(named) == 1 else PRIMARY)
    if name in named:
        return named[name]
    if {*named} == {PRIMARY}:  # without names
        return named[PRIMARY]
    raise ValueError(f"`primary` must be one of {sorted(named)}, the {what}s. Received: primary={primary!r}")


def _counted(rows: Rows) -> Rows:
    kept = rows.weights > 0
    if kept.all():
        return rows
    columns = {name: values[kept] for name, values in rows.columns.items()}
    return Rows(rows.logits[kept], columns, rows.labels[kept], rows.weights[kept])


def _joined(parts: list[Rows], is_logit: bool) -> Rows:
    if not parts:
        raise ValueError("`dataset` must have rows. Received: no batch")
    whole = {name: np.concatenate([getattr(x, name) for x in parts]) for name in ("logits", "labels", "weights")}
    columns = {name: np.concatenate([x.columns[name] for x in parts]) for name in parts[0].columns}
    if not is_logit:
        given = whole["logits"]
        if wrong := [x for x in (given.min(), given.max()) if not 0 <= x <= 1]:
            raise ValueError(f"Probabilities must lie in [0, 1]; logits need `from_logits=True`. Received: {wrong[0]}")
        whole["logits"] = logit(np.clip(given, _SMALLEST, 1 - _SMALLEST))
    return Rows(columns=columns, **whole)
