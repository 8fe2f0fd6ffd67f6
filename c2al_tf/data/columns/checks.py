"""The rules that rows must satisfy before a model learns from them."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from ...schema import CategoricalFeature, Feature, Schema
from ...types import MISSING_INT, MISSING_STRING, Array
from .bad_rows import MOST_BAD_ROWS, bad_rows_error
from .raw import Coded, CodedColumns, Mask, is_missing, take_rows


def check_columns(columns: CodedColumns, schema: Schema, source: str, first_row: int = 0) -> None:
    """Raises ValueError that names the first rows that break a rule of `find_bad_rows`.

    Args:
        columns: Raw columns; those of strings may be coded.
        schema: Says which features may have missing values.
        source: File or split of the rows, for the message.
        first_row: Number of the first row in `source`, from 0.
    """
    if found := find_bad_rows(columns, schema, first_row):
        raise bad_rows_error(source, found)


def find_bad_rows(columns: CodedColumns, schema: Schema, first_row: int = 0) -> list[tuple[int, str]]:
    """Returns of each rule the first rows that break it, each with its number and what it breaks.

    A label is 0 or 1; a weight finite and at least 0; a number finite; a feature with `missing="error"` has a value
    (a multi-valued one at least one). Columns of the schema that are not in `columns` are skipped.
    """
    found: list[tuple[int, str]] = []
    for feature in schema.features:
        if feature.name in columns:
            for bad, rule in _feature_rules(columns[feature.name], feature):
                found += _found(bad, f"feature `{feature.name}` {rule}", columns[feature.name], first_row)
    for name in schema.labels:
        if name in columns:
            values = columns[name]
            bad = (values != 0) & (values != 1)
            found += _found(bad, f"label `{name}` must be 0 or 1", values, first_row)
    if schema.weight is not None and schema.weight in columns:
        values = columns[schema.weight]
        bad = ~((values >= 0) & np.isfinite(values))
        found += _found(bad, f"weight `{schema.weight}` must be finite and at least 0", values, first_row)
    return found


def _feature_rules(values: Array | Coded, feature: Feature) -> Iterator[tuple[Mask, str]]:
    declare = "must have a value, as it declares missing='error' (else declare 'slot' or 'default')"
    if isinstance(feature, CategoricalFeature):
        if feature.missing == "error":
            missing = is_missing(values, feature.dtype)
            yield np.all(missing.reshape(len(missing), -1), axis=1), declare
        return
    if feature.missing == "error":
        yield np.isnan(values), declare
    yield np.isinf(values), "must be finite, as float32"


def _found(bad: Mask, rule: str, values: Array | Coded, first_row: int) -> list[tuple[int, str]]:
    if not bad.any():
        return []
    rows = np.flatnonzero(bad)[: MOST_BAD_ROWS + 1]
    values = take_rows({"": values}, rows)[""]
    values = values.decode() if isinstance(values, Coded) else values
    return [
        (first_row + row, f"{rule}. Received: {_said(value)}") for row, value in zip(rows.tolist(), values, strict=True)
    ]


def _said(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return "null" if not len(value) or value[0] in (MISSING_STRING, MISSING_INT) else value.tolist()
    if value in (MISSING_STRING, MISSING_INT):
        return "null"
    return "null or NaN" if value != value else value
