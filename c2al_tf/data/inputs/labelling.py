"""How the labels of cohorts come into one element of a dataset, a batch or a row, in the forms that elements have."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from ...cohorts.cohort import Cohort
from ...cohorts.table import Table, column_names, find_column, row_values
from ...types import PRIMARY, Tensor
from .label_weights import check_weights, float32, weights_with_cohorts
from .labels import LabelDesign, check_binary, check_columns_present, check_design, check_names, module_of, task_labels


@dataclass(frozen=True)
class Labelling:
    """Adds labels of cohorts to elements of one form; `add_cohort_labels` says of which.

    Args:
        cohorts: One auxiliary task each.
        label_key: Column of the primary label, where elements have no label of their own.
        primary: The primary task whose label the cohorts' are made from.
        kept: Names of the features that stay; all of them without.
        class_weight: Weights of the classes 0 and 1.
        design: What the cohorts' labels are made of.
    """

    cohorts: Sequence[Cohort]
    label_key: str | None
    primary: str
    kept: Sequence[str] | None
    class_weight: Mapping[int, float] | None
    design: LabelDesign

    @classmethod
    def of(
        cls,
        element: Any,
        columns: Table,
        *,
        cohorts: Sequence[Cohort],
        label_key: str | None,
        keep: keras.Model | Iterable[str] | None,
        primary: str | None,
        class_weight: Mapping[int, float] | None,
        design: LabelDesign,
    ) -> "Labelling":
        """The labelling of elements like this one, or of this specification.

        Raises:
            ValueError: If the arguments do not fit the element, or each other.
        """
        labels = _labels_of(element, columns, label_key)
        primary = _primary_task(labels, primary)
        check_names(cohorts, element if isinstance(element, Mapping) else labels)
        check_design(design)
        check_columns_present(cohorts, column_names(columns))
        for weights in _weights_of(element) or (None,):
            check_weights(weights, labels, class_weight)
        if isinstance(element, Mapping) and (class_weight is not None or design == "masked"):
            raise ValueError(
                "`class_weight`, and the design 'masked', change weights: elements must be (features, label) or "
                f"(features, label, weight). Received: a dict with label_key={label_key!r}"
            )
        kept = None if keep is None else _kept_names(keep, features_of(element))
        if kept is not None and label_key is not None and isinstance(element, Mapping):
            kept += [label_key if label_key in element else label_key.split("/")[0]]
        return cls(tuple(cohorts), label_key, primary, kept, class_weight, design)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns that the cohorts are on."""
        return tuple(dict.fromkeys(name for cohort in self.cohorts for name in cohort.columns))

    def __call__(self, element: Any, columns: Table, raw: Table, is_row: bool = False) -> Any:
        """The element with the labels of cohorts.

        Args:
            element: (features, label), (features, label, weight), or features alone with `label_key`.
            columns: The columns by name, among them that of `label_key`.
            raw: The columns that cohorts are on, (rows,).
            is_row: Whether the element is one row, and what is added loses the axis of rows.
        """
        labels = _labels_of(element, columns, self.label_key)
        y = _flat(labels[self.primary])
        check_binary(y, f"Label `{self.primary}`, which the cohorts' labels are made from,")
        members = {cohort.name: cohort.contains(raw) for cohort in self.cohorts}
        added = {name: task_labels(y, member, self.design)[:, np.newaxis] for name, member in members.items()}
        added = {name: values[0] for name, values in added.items()} if is_row else added
        features = features_of(element)
        x = features if self.kept is None else {name: features[name] for name in self.kept}
        if isinstance(element, Mapping):
            return {**x, **added}
        given = _weights_of(element)
        weights = weights_with_cohorts(
            given[0] if given else None, y, labels, self.primary, members, self.class_weight, self.design
        )
        if is_row and (self.class_weight is not None or self.design == "masked"):
            weights = _scalars(weights)
        return (x, {**labels, **added}, *([weights] if given or weights is not None else []))

    def label_of(self, element: Any, columns: Table) -> Any:
        """The label that the cohorts' are made from, of an element or a specification."""
        return _labels_of(element, columns, self.label_key)[self.primary]


def features_of(element: Any) -> Any:
    """The features of an element with or without a label."""
    return element[0] if isinstance(element, tuple) else element


def _labels_of(element: Any, columns: Table, label_key: str | None) -> dict[str, Any]:
    """The labels of an element by primary task."""
    if label_key is not None:
        return {PRIMARY: find_column(element if isinstance(element, Mapping) else columns, label_key)}
    label = element[1]
    return dict(label) if isinstance(label, Mapping) else {PRIMARY: label}


def _weights_of(element: Any) -> tuple[Any, ...]:
    return element[2:] if isinstance(element, tuple) else ()


def check_form(element: Any, label_key: str | None, features_are_columns: bool) -> None:
    """Raises ValueError unless an element, or its specification, is in a form that labels can be added to."""
    if label_key is None:
        is_form = isinstance(element, tuple) and len(element) in (2, 3)
    else:
        is_form = not isinstance(element, tuple)
    if not is_form or (features_are_columns and not isinstance(features_of(element), Mapping)):
        raise ValueError(
            "`dataset` must have elements ({column: values}, label) or ({column: values}, label, weight), or a dict "
            "alone with `label_key`; features that are no dict need `columns`, serialized ones `parse`. "
            f"Received: label_key={label_key!r}, elements {element}"
        )


def _flat(label: Any) -> Tensor:
    """A label of any form as float32 (rows,)."""
    ops = module_of(label)
    return float32(row_values(label, "label")) if ops is np else ops.reshape(float32(label), [-1])


def _scalars(weights: Any) -> Any:
    if isinstance(weights, Mapping):
        return {task: _scalars(values) for task, values in weights.items()}
    return module_of(weights).reshape(weights, ())


def _primary_task(labels: Mapping[str, Any], primary: str | None) -> str:
    if primary is None:
        primary = next(iter(labels)) if len(labels) == 1 else PRIMARY
    if primary not in labels:
        raise ValueError(f"`primary` must be one of {sorted(labels)}. Received: primary={primary!r}")
    return primary


def _kept_names(keep: keras.Model | Iterable[str], features: Any) -> list[str]:
    if isinstance(keep, keras.Model):
        # An input of a dict is found by its key, any other by its name.
        inputs = getattr(keep, "input", None)
        names = list(inputs) if isinstance(inputs, Mapping) else [x.name for x in getattr(keep, "inputs", None) or ()]
    else:
        names = [keep] if isinstance(keep, str) else list(keep)
    present = sorted(features) if isinstance(features, Mapping) else []
    missing = sorted({*names} - {*present})
    if missing or not names:
        raise ValueError(
            "`keep` must be a functional model, or names, whose inputs are among the features, which are a dict. "
            f"Received: {missing or keep!r}; there are {present or features}"
        )
    return names
