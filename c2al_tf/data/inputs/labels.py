"""Auxiliary labels, y_cohort = y * 1[x in cohort] or of another design, on NumPy arrays and on tensors alike."""

import math
import sys
from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeAlias, get_args

import numpy as np

from ...cohorts.cohort import Cohort
from ...cohorts.table import Table, raw_column, raw_columns, row_values
from ...types import Tensor

LabelDesign: TypeAlias = Literal["conflict", "membership", "masked"]
"""What a cohort's task learns; see `task_labels` and `task_weights`."""


def module_of(values: Any) -> Any:
    """The module with the operations on these values: `tensorflow` of its tensors, `numpy` of all else.

    Nothing is imported: where there is a tensor of TensorFlow, TensorFlow is there.
    """
    tensorflow = sys.modules.get("tensorflow")
    return tensorflow if tensorflow is not None and tensorflow.is_tensor(values) else np


def task_labels(label: Tensor, member: Tensor, design: LabelDesign = "conflict") -> Tensor:
    """Maps labels y and memberships 1[x in C], (rows,), to a cohort's labels; NumPy arrays and tensors alike.

    conflict     y_C = y 1[x in C]   every row counts: the paper's (METHOD step 4)
    membership   y_C = 1[x in C]     every row counts
    masked       y_C = y             rows of C count: `task_weights` masks the others
    """
    if design == "masked":
        return label
    ops = module_of(label)
    return ops.where(member, label if design == "conflict" else ops.ones_like(label), ops.zeros_like(label))


def task_weights(weight: Tensor, member: Tensor, design: LabelDesign = "conflict") -> Tensor:
    """Maps row weights and memberships (rows,) to the weights of the rows in a cohort's task."""
    if design != "masked":
        return weight
    ops = module_of(weight)
    return ops.where(member, weight, ops.zeros_like(weight))


def cohort_labels(
    columns: Table, label: Any, cohorts: Iterable[Cohort], design: LabelDesign = "conflict"
) -> dict[str, Tensor]:
    """Maps raw columns and labels to one label (rows,) per cohort; of NumPy arrays, or in TensorFlow of its tensors.

        y_cohort = y * 1[x in cohort], or as `task_labels` says of another design

    Args:
        columns: One value per row; `raw_column` says in which forms.
        label: 0 or 1, (rows,) or (rows, 1): an array, a list, of pandas, or a tensor.
        cohorts: One task each.
        design: What their labels are made of.

    Raises:
        ValueError: If a cohort is on a column that is not there, the design is unknown, or a label that is no tensor of
            TensorFlow is not 0 or 1.
    """
    check_design(design)
    cohorts = list(cohorts)
    names = {name for cohort in cohorts for name in cohort.columns}
    if module_of(label) is np:
        label = row_values(label, "label")
        check_binary(label, "`label`")
        raw = raw_columns(columns, names)
    else:
        label = label[:, 0] if label.shape.rank == 2 else label
        raw = {name: raw_column(columns, name) for name in names}
    return {cohort.name: task_labels(label, cohort.contains(raw), design) for cohort in cohorts}


def check_binary(label: Tensor, what: str) -> None:
    """Raises ValueError, or lets the graph fail, at a value other than 0 and 1, of which y * 1[x in C] is no label."""
    ops = module_of(label)
    if ops is not np:

        def refuse() -> Tensor:
            wrong = ops.boolean_mask(label, (label != 0) & (label != 1))
            ops.raw_ops.Assert(condition=False, data=[f"{what} must be 0 or 1. Received:", wrong])
            return ops.constant(False)

        # A few operations on right labels, which every batch goes through; wrong ones are looked for if there are any.
        ops.cond(ops.reduce_all((label - 1) * label == 0), lambda: ops.constant(True), refuse)
        return
    wrong = (label != 0) & (label != 1)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ValueError(f"{what} must be 0 or 1. Received: {label[row]} in row {row}")


def check_design(design: str) -> None:
    """Raises ValueError unless the design of labels is known."""
    if design not in get_args(LabelDesign):
        raise ValueError(f"`design` must be one of {list(get_args(LabelDesign))}. Received: design={design!r}")


def check_names(cohorts: Iterable[Cohort], primary_tasks: Iterable[str]) -> None:
    """Raises ValueError if two tasks, primary or cohorts, have one name."""
    seen = set(primary_tasks)
    for cohort in cohorts:
        if cohort.name in seen:
            raise ValueError(
                f"Every task needs a name of its own; taken are {sorted(seen)}. Received: cohort named {cohort.name!r}"
            )
        seen.add(cohort.name)


def check_columns_present(cohorts: Iterable[Cohort], present: Iterable[str]) -> None:
    """Raises ValueError if a cohort is on a column that is not present."""
    names = sorted(present)
    for cohort in cohorts:
        for name in cohort.columns:
            if name not in names:
                raise ValueError(
                    f"Cohort `{cohort.name}` is on a column that the data lacks. Received: {name!r}; there are {names}"
                )


def check_class_weight(class_weight: Mapping[int, float]) -> None:
    """Raises ValueError unless the classes 0 and 1, and no other, have a finite weight of at least 0 each."""
    if {*class_weight} != {0, 1} or not all(0 <= weight < math.inf for weight in class_weight.values()):
        raise ValueError(
            "`class_weight` must give the classes 0 and 1 a finite weight of at least 0 each. "
            f"Received: class_weight={class_weight}"
        )
