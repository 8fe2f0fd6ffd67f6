"""Rows that an export must answer as the model does, whatever else it is asked: null, empty, unseen, longest values."""

from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf

from ..data.columns.wire import to_examples
from ..schema import Column, Feature, NumericFeature, Schema
from ..types import MISSING_INT, MISSING_STRING, Array, Columns

_LONG = 1000
"""Characters of the longest string."""


def probe_rows(schema: Schema, sample: Columns) -> Columns:
    """Rows like the first one of the sample, each with another value of one feature."""
    changes = [(feature.name, value) for feature in schema.features for value in _values(feature, sample[feature.name])]
    rows = {
        feature.name: np.repeat(np.asarray(sample[feature.name])[:1], len(changes), axis=0)
        for feature in schema.features
    }
    for row, (name, value) in enumerate(changes):
        rows[name][row] = value
    return rows


def spellings(schema: Schema, rows: Columns) -> dict[str, Array]:
    """The same rows as tf.Examples, (rows,), as different writers write them."""
    written = [tf.train.Example.FromString(example) for example in to_examples(rows, _columns(schema))]
    forms: dict[str, Callable[[tf.train.Example], tf.train.Example]] = {
        "null features without values": lambda example: example,
        "null features absent": _without_empty,
        "whole numbers of float columns as int64_list": lambda example: _whole_as_integers(example, schema),
        "more values than a column takes": lambda example: _with_more(example, schema),
    }
    return {
        name: np.array([form(_copy(example)).SerializeToString() for example in written], object)
        for name, form in forms.items()
    }


def _columns(schema: Schema) -> dict[str, Column]:
    return {feature.name: feature.column for feature in schema.features}


def _values(feature: Feature, sample: Array) -> Iterator[object]:
    if isinstance(feature, NumericFeature):
        finite = sample[np.isfinite(sample)]
        yield from (np.nan, np.inf, -np.inf, 0.0, -1.0, 3.0)
        yield from (finite.min(), finite.max()) if len(finite) else ()
        return
    missing: str | int
    others: list[str | int]
    if feature.dtype == "string":
        missing, others = MISSING_STRING, [" ", "\u2603 never seen", "x" * _LONG, max(sample.ravel(), key=len)]
    else:
        missing, others = MISSING_INT, [0, -1, 2**63 - 1, 1 - 2**63]
    if feature.length is None:
        yield from (missing, *others)
        return
    yield np.full(feature.length, missing, sample.dtype)
    for value in others:
        yield np.array([value, *[missing] * (feature.length - 1)], sample.dtype)
        yield np.full(feature.length, value, sample.dtype)


def _copy(example: tf.train.Example) -> tf.train.Example:
    copied = tf.train.Example()
    copied.CopyFrom(example)
    return copied


def _without_empty(example: tf.train.Example) -> tf.train.Example:
    features = example.features.feature
    for name in list(features):
        kind = features[name].WhichOneof("kind")
        if kind is None or not getattr(features[name], kind).value:
            del features[name]
    return example


def _whole_as_integers(example: tf.train.Example, schema: Schema) -> tf.train.Example:
    for feature in schema.features:
        stored = example.features.feature[feature.name]
        values = list(stored.float_list.value)
        if values and all(value.is_integer() and abs(value) < 2**24 for value in values):
            stored.int64_list.value.extend(map(int, values))
    return example


def _with_more(example: tf.train.Example, schema: Schema) -> tf.train.Example:
    for feature in schema.features:
        stored = example.features.feature[feature.name]
        kind = stored.WhichOneof("kind")
        values = getattr(stored, kind).value if kind else []
        if feature.column.length is not None and len(values) == feature.column.length:
            values.extend(list(values))
    return example
