"""Labels of cohorts on any `tf.data.Dataset` or `keras.utils.PyDataset`."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, TypeAlias, TypeVar

import keras
import tensorflow as tf

from ...cohorts.cohort import Cohort
from ...cohorts.table import find_column, raw_columns
from ...types import Tensor
from .labelling import Labelling, check_form, features_of
from .labels import LabelDesign, check_columns_present
from .row_values import one_per_row

Dataset = TypeVar("Dataset", tf.data.Dataset, keras.utils.PyDataset)

Columns: TypeAlias = Callable[[Any], Mapping[str, Any]]
"""Maps features to raw columns."""

LabellingOf: TypeAlias = Callable[[Any, Any], Labelling]
"""Maps an element, or its specification, and its columns to how it is labelled."""


def add_cohort_labels(
    dataset: Dataset,
    cohorts: Sequence[Cohort],
    *,
    label_key: str | None = None,
    columns: Callable[[Any], Mapping[str, Tensor]] | None = None,
    parse: Mapping[str, Any] | None = None,
    keep: keras.Model | Iterable[str] | None = None,
    primary: str | None = None,
    class_weight: Mapping[int, float] | None = None,
    design: LabelDesign = "conflict",
) -> Dataset:
    """Adds the auxiliary labels to the batches, or rows, of a dataset.

        element                                                     becomes
        (features, label) or (features, label, weight)              (features, {task: label}, ...)
        {column: values}, with `label_key`                          {column: values, cohort: label}
        serialized tf.Examples, with `parse` and `label_key`        (serialized, {task: label})

    Tasks are those of the label if it is a dict, else `"primary"`, and the cohorts. Primary labels stay as they are,
    shape and dtype; a cohort's is float32 (batch, 1), of a dataset of rows (1,). Features and weights stay but for
    `keep` and `class_weight`; where weights are a dict by task, cohorts get those of the primary.

    A column that cohorts are on has one value per row: (batch,), (batch, 1), or sparse or ragged with at most one value
    in a row, where none is a missing value; it is named by its path, `user/age`, in features that are dicts of dicts.

    Args:
        dataset: Of batches or of rows. Features are a dict with the raw columns that the cohorts are on, unless
            `columns` or `parse` is given. Of a `PyDataset` the first batch is read to see its form.
        cohorts: One auxiliary task each, under the cohort's name.
        label_key: The label's column, where elements are features alone, as in tensorflow-recommenders; where these are
            no dict, it is among what `columns` or `parse` gives.
        columns: Maps the features to the raw columns that the cohorts are on.
        parse: How features that are serialized tf.Examples are parsed, as `tf.io.parse_example` takes it; only the
            columns of the cohorts, and that of `label_key`, are. Where a pipeline parses anyway, add labels after it.
        keep: The model that is trained, or names: only these features stay. XLA takes no strings, and a functional
            model of Keras that gets a column more reads the wrong ones.
        primary: The primary task whose label, 0 or 1, (batch,) or (batch, 1), the auxiliary ones are made from; by
            default the only one, or `"primary"`.
        class_weight: Weights of the primary label's classes 0 and 1. They multiply the row's weight in all tasks, as
            `fit(class_weight=...)` does for a model of one output; Keras refuses it for several.
        design: What the cohorts' labels are made of; see `task_labels`. With `masked` weights are a dict by task.

    Raises:
        ValueError: If the elements do not have one of these forms, a cohort is on a column that is not there or has
            several values per row, `keep` names a feature that is not there, two tasks have one name, or weights do not
            fit the tasks.
        tf.errors.InvalidArgumentError: From the dataset, if a label that cohorts' are made from is not 0 or 1, or a row
            has two values of a column. From a `PyDataset` it is a ValueError.
    """
    if columns is not None and parse is not None:
        raise ValueError("One of `columns` and `parse` must be given at most. Received: both")
    labelling_of = partial(
        Labelling.of,
        cohorts=cohorts,
        label_key=label_key,
        keep=keep,
        primary=primary,
        class_weight=class_weight,
        design=design,
    )
    if isinstance(dataset, keras.utils.PyDataset):
        if parse is not None:
            raise ValueError("`parse` must be of a `tf.data.Dataset`. Received: a PyDataset; `columns` may parse")
        first = dataset[0]
        check_form(first, label_key, columns is None)
        found = features_of(first) if columns is None else columns(features_of(first))
        return LabelledPyDataset(dataset, columns, labelling_of(first, found))
    check_form(dataset.element_spec, label_key, columns is None and parse is None)
    read = None if columns is None else tf.function(columns)
    if parse is not None:
        read = _parser(parse, features_of(dataset.element_spec), cohorts, label_key)
    return _labelled(dataset, read, labelling_of)


def _labelled(dataset: tf.data.Dataset, read: Columns | None, labelling_of: LabellingOf) -> tf.data.Dataset:
    spec = dataset.element_spec

    def columns_of(*parts: Any) -> Any:
        features = parts[0]  # of a tuple, or the only part
        return features if read is None else read(features)

    found = features_of(spec) if read is None else dataset.map(columns_of).element_spec
    if not isinstance(found, Mapping):
        raise ValueError(f"`columns` must return a dict of raw columns by name. Received: {found}")
    labelling = labelling_of(spec, found)
    is_row = _is_row(labelling, labelling.label_of(spec, found), found)

    @tf.autograph.experimental.do_not_convert
    def add(*parts: Any) -> Any:
        columns = columns_of(*parts)
        raw = {name: one_per_row(find_column(columns, name), name, is_row) for name in labelling.columns}
        return labelling(parts if isinstance(spec, tuple) else parts[0], columns, raw, is_row)

    return dataset.map(add, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)


def _is_row(labelling: Labelling, label: Any, columns: Mapping[str, Any]) -> bool:
    """Whether elements are rows, not batches: a specification of the label, or of a column, is a scalar's."""
    dtype = getattr(label, "dtype", None)
    number = dtype is not None and (dtype.is_floating or dtype.is_integer or dtype.is_bool)
    shape = label.shape if isinstance(label, tf.TensorSpec) else tf.TensorShape(None)
    if not number or shape.rank not in (0, 1, 2) or (shape.rank == 2 and shape[1] != 1):
        raise ValueError(
            f"Label `{labelling.label_key or labelling.primary}` must be numbers of shape (batch,) or (batch, 1), "
            f"or of a row (); several labels are a dict by task. Received: {label}"
        )
    ranks = [find_column(columns, name).shape.rank for name in labelling.columns]
    return shape.rank == 0 or (shape == (1,) and 0 in ranks)


def _parser(parse: Mapping[str, Any], features: Any, cohorts: Sequence[Cohort], label_key: str | None) -> Columns:
    """Parses those columns of serialized tf.Examples that cohorts and label are on."""
    if getattr(features, "dtype", None) != tf.string:
        raise ValueError(
            f"`parse` is of serialized tf.Examples: features must be a tensor of strings. Received: {features}"
        )
    check_columns_present(cohorts, parse)
    wanted = {name: parse[name] for cohort in cohorts for name in cohort.columns}
    wanted |= {} if label_key is None else {label_key: find_column(parse, label_key)}

    def read(serialized: tf.Tensor) -> Mapping[str, Any]:
        parsed = tf.io.parse_example if serialized.shape.rank else tf.io.parse_single_example
        return parsed(serialized, wanted)

    return read


class LabelledPyDataset(keras.utils.PyDataset):
    """The batches of a `PyDataset` with the labels of cohorts.

    Args:
        dataset: The batches.
        read: Maps features to raw columns; they are raw columns without.
        labelling: How the batches are labelled.
    """

    def __init__(self, dataset: keras.utils.PyDataset, read: Columns | None, labelling: Labelling) -> None:
        super().__init__(dataset.workers, dataset.use_multiprocessing, dataset.max_queue_size)
        self.dataset, self.read, self.labelling = dataset, read, labelling

    def __getitem__(self, index: int) -> Any:
        """Batch of this number."""
        batch = self.dataset[index]
        features = features_of(batch)
        columns = features if self.read is None else self.read(features)
        return self.labelling(batch, columns, raw_columns(columns, self.labelling.columns))

    def __len__(self) -> int:
        """Number of batches, where the dataset has one."""
        return len(self.dataset)

    @property
    def num_batches(self) -> int | None:
        """Number of batches; None of a dataset without end."""
        return self.dataset.num_batches

    def on_epoch_begin(self) -> None:
        """Tells the dataset."""
        self.dataset.on_epoch_begin()

    def on_epoch_end(self) -> None:
        """Tells the dataset."""
        self.dataset.on_epoch_end()
