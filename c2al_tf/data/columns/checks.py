"""The rules that rows must satisfy before a model learns from them."""

from collections.abc import Iterator

import numpy as np

from ...schema import CategoricalFeature, Feature, Schema
from ...types import MISSING_INT, MISSING_STRING, Array
from .raw import Coded, CodedColumns, Mask, is_missing


def check_columns(columns: CodedColumns, schema: Schema, source: str, first_row: int = 0) -> None:
    """Raises ValueError for the first row, column by column, that breaks a rule.

    A label is 0 or 1; a weight finite and at least 0; a number finite; a feature with `missing="error"` has a value
    (a multi-valued one at least one). Columns of the schema that are not in `columns` are skipped.

    Args:
        columns: Raw columns; those of strings may be coded.
        schema: Says which features may have missing values.
        source: File or split of the rows, for the message.
        first_row: Number of the first row in `source`, from 0.
    """
    for feature in schema.features:
        if feature.name in columns:
            for bad, rule in _feature_rules(columns[feature.name], feature):
                _raise_first(bad, rule, columns[feature.name], f"feature `{feature.name}`", source, first_row)
    for name in schema.labels:
        if name in columns:
            values = columns[name]
            bad = (values != 0) & (values != 1)
            _raise_first(bad, "must be 0 or 1", values, f"label `{name}`", source, first_row)
    if schema.weight is not None and schema.weight in columns:
        values = columns[schema.weight]
        bad = ~((values >= 0) & np.isfinite(values))
        _raise_first(bad, "must be finite and at least 0", values, f"weight `{schema.weight}`", source, first_row)


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


def _raise_first(bad: Mask, rule: str, values: Array | Coded, field: str, source: str, first_row: int) -> None:
    if not bad.any():
        return
    values = values.decode() if isinstance(values, Coded) else values
    row = int(bad.argmax())
    value = values[row].tolist() if isinstance(values[row], np.ndarray) else values[row]
    if np.ndim(value) == 0 and value in (MISSING_STRING, MISSING_INT):
        value = "null"
    elif np.ndim(value) == 0 and value != value:
        value = "null or NaN"
    raise ValueError(f"{source}: row {first_row + row}: {field} {rule}. Received: {value}")
