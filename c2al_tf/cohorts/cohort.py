"""A cohort: a named predicate on raw columns, one definition for NumPy arrays and for tensors."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..types import PRIMARY, TASK_NAME
from .conditions import Condition, check_keys, condition_from_json
from .table import Table, raw_columns


@dataclass(frozen=True)
class Cohort:
    """The rows on which all conditions hold.

    Examples:
        >>> import numpy as np
        >>> from c2al_tf.cohorts import Interval, Values
        >>> cohort = Cohort("young_women", (Interval("age", 18, 25), Values("sex", ("Female",))))
        >>> str(cohort)
        'age in [18, 25) and sex is Female'
        >>> cohort.contains({"age": np.array([17, 20, 20]), "sex": np.array(["Female", "Female", "Male"])})
        array([False,  True, False])

    Args:
        name: Name of the cohort's task: letters, digits, `_` and `-`.
        conditions: One or more, each on a column of its own.
    """

    name: str
    conditions: tuple[Condition, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not TASK_NAME.fullmatch(self.name) or self.name == PRIMARY:
            raise ValueError(
                f"A cohort's `name` must consist of letters, digits, `_` and `-`, begin with a letter or digit, and "
                f"not be {PRIMARY!r}, the primary task's. Received: name={self.name!r}"
            )
        object.__setattr__(self, "conditions", tuple(self.conditions))
        if not self.conditions or len(set(self.columns)) < len(self.conditions):
            raise ValueError(
                f"Cohort `{self.name}` must have one or more conditions, each on a column of its own. "
                f"Received: conditions={self.conditions}"
            )

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the raw columns that decide membership."""
        return tuple(condition.column for condition in self.conditions)

    def contains(self, columns: Table) -> Any:
        """Maps raw columns to a boolean mask of shape (rows,), a NumPy array, or a tensor if they are tensors.

        Each is a NumPy array, a tensor, a list or of pandas; `raw_column` says more. Many cohorts on the same columns:
        give each what `raw_columns` makes of them, so that strings are looked through once.

        Raises:
            ValueError: If a column is absent, multi-valued, or of a type that the condition does not fit.
        """
        mask = self.conditions[0].contains(columns)
        for condition in self.conditions[1:]:
            mask = mask & condition.contains(columns)
        return mask

    def __str__(self) -> str:
        return " and ".join(map(str, self.conditions))

    def to_json(self) -> dict[str, Any]:
        """Returns what `from_json` reads."""
        return {"name": self.name, "conditions": [condition.to_json() for condition in self.conditions]}

    @classmethod
    def from_json(cls, json: Any) -> "Cohort":
        """Reads what `to_json` gave.

        Raises:
            ValueError: If a key is unknown or missing, or a value breaks a rule; the message names both.
        """
        check_keys(json, "a cohort", required=("name", "conditions"))
        return cls(json["name"], tuple(condition_from_json(condition) for condition in json["conditions"]))


def read_once(columns: Mapping[str, Any], cohorts: Iterable[Any]) -> dict[str, Any]:
    """Columns in which those that `Cohort`s are on are read, once for all of these; others stay as they are given.

    What else has `contains`, such as a random draw of rows, may be on columns with several values per row.
    """
    names = (name for cohort in cohorts if isinstance(cohort, Cohort) for name in cohort.columns)
    return {**columns, **raw_columns(columns, names)}
