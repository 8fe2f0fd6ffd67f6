"""Aliases for the values that pass between modules, and how a raw column spells "no value"."""

import re
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Tensor: TypeAlias = Any
"""A tensor of any Keras backend, symbolic or not."""

Shape: TypeAlias = tuple[Any, ...]
"""Static shape of a tensor; None is an unknown size."""

Array: TypeAlias = NDArray[Any]

Columns: TypeAlias = Mapping[str, Array]
"""Raw columns of some rows: name to `(rows,)`, or `(rows, length)` for a multi-valued column."""

MISSING_STRING = ""
"""A null, and the padding of a multi-valued column, in a column of strings."""

MISSING_INT = int(np.iinfo(np.int64).min)
"""A null, and the padding of a multi-valued column, in a column of integers."""

PRIMARY = "primary"
"""Name of the primary task where a model has one."""

TASK_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
"""What a cohort may be called: its name becomes that of a task, an output and a TensorFlow name scope."""

MEMBER = "member:"
"""Prefix of a label that is the membership 1[x in C], not a task: no task's name holds a colon."""


def member_of(cohort: str) -> str:
    """Key of the membership of a cohort, (batch, 1), among the labels of a batch."""
    return f"{MEMBER}{cohort}"
