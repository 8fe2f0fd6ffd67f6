"""Conditions on one raw column, written with operators alone: they serve NumPy arrays and tensors."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from ..types import MISSING_INT, MISSING_STRING
from .table import Table, raw_column

_FLOAT32_MAX = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Values:
    """Holds where a column is one of some values; a missing value is never one of them.

    Args:
        column: Name of a column of strings or numbers.
        values: Distinct strings, integers or booleans.
    """

    column: str
    values: tuple[str, ...] | tuple[int, ...]

    def __post_init__(self) -> None:
        values = tuple(v.item() if isinstance(v, np.generic) else v for v in self.values)
        if not values or {type(v) for v in values} not in ({str}, {int}, {bool}):
            raise ValueError(
                f"`values` of column `{self.column}` must be strings, integers or booleans, at least one and all of "
                f"one type. Received: values={self.values!r}"
            )
        if len(set(values)) < len(values) or MISSING_STRING in values or MISSING_INT in values:
            raise ValueError(
                f"`values` of column `{self.column}` must be distinct, without {MISSING_STRING!r} and {MISSING_INT}: "
                f"they stand for a missing value, which is in no cohort. Received: values={values!r}"
            )
        object.__setattr__(self, "values", values)

    def contains(self, columns: Table) -> Any:
        """Maps columns, in a form that `raw_column` reads, to a mask of shape (rows,)."""
        column, kind = raw_column(columns, self.column)
        if {"string": str, "boolean": bool}.get(kind, int) is not type(self.values[0]):
            raise ValueError(
                f"Cohort values must have the type of column `{self.column}`, which holds {kind} values. "
                f"Received: values={self.values!r}"
            )
        mask = column == self.values[0]
        for value in self.values[1:]:
            mask = mask | (column == value)
        return mask

    def __str__(self) -> str:
        if len(self.values) == 1:
            return f"{self.column} is {self.values[0]}"
        return f"{self.column} in {{{', '.join(map(str, self.values))}}}"

    def to_json(self) -> dict[str, Any]:
        """Returns what `from_json` of `Cohort` reads."""
        return {"column": self.column, "values": list(self.values)}


@dataclass(frozen=True)
class Interval:
    """Holds where low <= column < high; a missing value is in no interval, not even in an unbounded one.

    An infinite value is in the interval that is open at its end. On a float32 column the edges are rounded to float32,
    by NumPy and by TensorFlow alike.

    Args:
        column: Name of a numeric column.
        low: Lowest value inside; minus infinity for none.
        high: Lowest value above; infinity for none.
        quantiles: Where the edges came from, as shares in [0, 1]; only read by people: the edges decide,
            and intervals of the same edges are equal.
    """

    column: str
    low: float = -math.inf
    high: float = math.inf
    quantiles: tuple[float, float] | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        # Python floats: a NumPy float64 would lift a float32 column to float64, where TensorFlow rounds the edge.
        object.__setattr__(self, "low", float(self.low))
        object.__setattr__(self, "high", float(self.high))
        edges = [edge for edge in (self.low, self.high) if not math.isinf(edge)]
        if not self.low < self.high or any(abs(edge) > _FLOAT32_MAX for edge in edges):
            raise ValueError(
                f"An interval of column `{self.column}` must have low < high, each infinite or within float32. "
                f"Received: low={self.low}, high={self.high}"
            )
        if self.quantiles is not None:
            low, high = map(float, self.quantiles)
            if not 0 <= low < high <= 1:
                raise ValueError(
                    f"`quantiles` of column `{self.column}` must be two rising shares in [0, 1]. "
                    f"Received: quantiles={self.quantiles}"
                )
            object.__setattr__(self, "quantiles", (low, high))

    def contains(self, columns: Table) -> Any:
        """Maps columns, in a form that `raw_column` reads, to a mask of shape (rows,)."""
        column, kind = raw_column(columns, self.column)
        if kind in ("string", "boolean"):
            raise ValueError(f"`{self}` needs a numeric column. Column `{self.column}` holds {kind} values.")
        if kind == "float":
            # No infinity is below infinity, but it is above every edge.
            return (column >= self.low) & (column < self.high) if self.high < math.inf else column >= self.low
        # TensorFlow compares integers with integers only; for an integer x, x < high is x <= ceil(high) - 1.
        limits = np.iinfo(column.dtype.name)
        first = max(math.ceil(max(self.low, -(2.0**63))), MISSING_INT + 1, int(limits.min))
        last = min(math.ceil(min(self.high, 2.0**63)) - 1, int(limits.max))
        if first > last:
            return column != column
        return (column >= first) & (column <= last)

    def __str__(self) -> str:
        edges = self._describe_edges()
        if self.quantiles is None:
            return f"{self.column} {edges}"
        low, high = self.quantiles
        if high == 1:
            return f"{self.column} in top {100 * (1 - low):.4g} % ({edges})"
        if low == 0:
            return f"{self.column} in bottom {100 * high:.4g} % ({edges})"
        return f"{self.column} between quantiles {100 * low:.4g} % and {100 * high:.4g} % ({edges})"

    def _describe_edges(self) -> str:
        if math.isinf(self.low) and math.isinf(self.high):
            return "present"
        if math.isinf(self.low):
            return f"below {format_edge(self.high)}"
        if math.isinf(self.high):
            return f"from {format_edge(self.low)}"
        return f"in [{format_edge(self.low)}, {format_edge(self.high)})"

    def to_json(self) -> dict[str, Any]:
        """Returns what `from_json` of `Cohort` reads; null is an open end."""
        return {
            "column": self.column,
            "low": None if math.isinf(self.low) else self.low,
            "high": None if math.isinf(self.high) else self.high,
            "quantiles": None if self.quantiles is None else list(self.quantiles),
        }


Condition: TypeAlias = Values | Interval


def check_keys(json: Any, what: str, *, required: Collection[str], optional: Collection[str] = ()) -> None:
    """Raises ValueError unless `json` is an object with the required and no unknown keys."""
    if not isinstance(json, Mapping):
        raise ValueError(f"The JSON of {what} must be an object. Received: {json!r}")
    unknown, missing = set(json) - set(required) - set(optional), set(required) - set(json)
    if unknown or missing:
        raise ValueError(
            f"The JSON of {what} must have the keys {', '.join(required)}"
            + (f" and may have {', '.join(optional)}" if optional else "")
            + f". Unknown: {sorted(unknown)}, missing: {sorted(missing)}. Received: {json!r}"
        )


def format_edge(edge: float) -> str:
    """Returns the shortest text of an edge: integers without a point, others as float32."""
    return str(int(edge)) if edge.is_integer() and abs(edge) < 2**53 else str(np.float32(edge))


def condition_from_json(json: Any) -> Condition:
    """Reads what `to_json` of a condition gave."""
    if isinstance(json, Mapping) and "values" in json:
        check_keys(json, "a condition on values", required=("column", "values"))
        if not isinstance(json["values"], list):
            raise ValueError(f"`values` of a condition must be a list. Received: {json!r}")
        return Values(json["column"], tuple(json["values"]))
    check_keys(json, "a condition on an interval", required=("column", "low", "high"), optional=("quantiles",))
    low, high, quantiles = json["low"], json["high"], json.get("quantiles")
    if not all(edge is None or type(edge) in (int, float) for edge in (low, high)):
        raise ValueError(
            f"`low` and `high` of a condition must be numbers, or null for an open end. Received: {json!r}"
        )
    return Interval(
        json["column"],
        -math.inf if low is None else low,
        math.inf if high is None else high,
        None if quantiles is None else (quantiles[0], quantiles[1]),
    )
