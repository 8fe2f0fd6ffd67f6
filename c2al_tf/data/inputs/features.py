"""Raw columns to model inputs: one graph for tf.data and for serving."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from ...schema import CategoricalFeature, Column, NumericFeature, Schema
from ..columns.parsing import TF_TYPES, parse_examples
from ..columns.raw import MISSING, Coded


class FeatureEncoder(tf.Module):
    """Maps raw columns to exactly the inputs of `schema`, as its features' docstrings define them.

    A value that is missing where the feature declares `missing="error"` is id 0 here: rows are checked on the host
    (`checks`), and a served request gets an answer. The same holds for an infinite number.

    Args:
        schema: Its features are encoded.
    """

    def __init__(self, schema: Schema) -> None:
        super().__init__(name="feature_encoder")
        self.schema = schema
        # Lifted out of any graph under construction, as the tables outlive it.
        with tf.init_scope():
            self.tables = {
                feature.name: _vocabulary_table(feature)
                for feature in schema.features
                if isinstance(feature, CategoricalFeature) and feature.vocabulary is not None
            }

    @property
    def columns(self) -> dict[str, Column]:
        """The raw columns that features are made from."""
        return {feature.name: feature.column for feature in self.schema.features}

    @property
    def raw_specs(self) -> dict[str, tf.TensorSpec]:
        """The arguments of `__call__`: (batch,), or (batch, length) for a multi-valued column."""
        return {
            name: tf.TensorSpec(
                (None,) if column.length is None else (None, column.length), TF_TYPES[column.dtype], name
            )
            for name, column in self.columns.items()
        }

    def parse_examples(self, serialized: tf.Tensor) -> dict[str, tf.Tensor]:
        """Maps serialized tf.Examples (batch,) to the arguments of `__call__`."""
        return parse_examples(serialized, self.columns.values())

    def __call__(self, columns: Mapping[str, tf.Tensor | Coded]) -> dict[str, tf.Tensor]:
        """Maps raw columns (batch,) or (batch, length) to ids, int32, and scaled values, float32, of these shapes.

        Columns of strings may be coded: then only their distinct values are looked up.
        """
        inputs = {**self._categories(columns), **self._numbers(columns)}
        return {name: inputs[name] for name in self.schema.inputs}

    # Features of the same kind are computed together: for a few rows, the number of operations decides the time.

    def _categories(self, columns: Mapping[str, tf.Tensor | Coded]) -> dict[str, tf.Tensor]:
        features = [feature for feature in self.schema.features if isinstance(feature, CategoricalFeature)]
        ids: dict[str, tf.Tensor] = {}
        hashed_alike: dict[tuple[Any, ...], list[CategoricalFeature]] = defaultdict(list)
        for feature in features:
            if feature.num_hash_buckets is None or isinstance(columns[feature.name], Coded):
                ids[feature.name] = self._ids(feature, columns[feature.name])
            else:
                hashed_alike[feature.dtype, feature.num_hash_buckets, feature.length].append(feature)
        for alike in hashed_alike.values():
            stacked = self._ids(alike[0], tf.stack([columns[feature.name] for feature in alike]))
            ids |= zip((feature.name for feature in alike), tf.unstack(stacked, len(alike)), strict=True)
        return {feature.name: self._with_default(feature, ids[feature.name]) for feature in features}

    def _numbers(self, columns: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        features = [feature for feature in self.schema.features if isinstance(feature, NumericFeature)]
        if not features:
            return {}
        values = tf.stack([columns[feature.name] for feature in features])
        present = tf.math.is_finite(values)
        values = tf.where(present, values, [[feature.default or 0.0] for feature in features])
        present |= [[feature.default is not None] for feature in features]
        rows = tf.unstack(values, len(features))
        ids = tf.stack([bucket_ids(*row) for row in zip(rows, features, strict=True)])
        inputs = dict(zip((feature.name for feature in features), tf.unstack(tf.where(present, ids, 0)), strict=True))
        for scaling in ("standard", "log"):
            places = [place for place, feature in enumerate(features) if feature.scaling == scaling]
            if places:
                scaled = scale(tf.gather(values, places), [features[place] for place in places])
                scaled = tf.where(tf.gather(present, places), scaled, 0.0)
                names = (f"{features[place].value_input}" for place in places)
                inputs |= zip(names, tf.unstack(scaled), strict=True)
        return inputs

    def _with_default(self, feature: CategoricalFeature, ids: tf.Tensor) -> tf.Tensor:
        if feature.default is None:
            return ids
        absent = ids == 0
        if feature.length is not None:
            # A row without any value has the default as its first, and only, value.
            absent = tf.reduce_all(absent, axis=1, keepdims=True) & (tf.range(feature.length) == 0)
        return tf.where(absent, self._ids(feature, tf.constant(feature.default, TF_TYPES[feature.dtype])), ids)

    def _ids(self, feature: CategoricalFeature, values: tf.Tensor | Coded) -> tf.Tensor:
        if isinstance(values, Coded):
            return tf.gather(self._ids(feature, values.values), values.codes)
        if feature.num_hash_buckets is None:
            return self.tables[feature.name].lookup(values)
        present = values != tf.constant(MISSING[feature.dtype], values.dtype)
        return tf.where(present, 1 + hash_buckets(values, feature.num_hash_buckets), 0)


def _vocabulary_table(feature: CategoricalFeature) -> tf.lookup.StaticHashTable:
    vocabulary = feature.vocabulary or ()
    keys = tf.constant([MISSING[feature.dtype], *vocabulary], TF_TYPES[feature.dtype])
    ids = tf.constant([0, *range(2, 2 + len(vocabulary))], tf.int32)
    return tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(keys, ids), default_value=1)


def hash_buckets(values: tf.Tensor, num_buckets: int) -> tf.Tensor:
    """Maps strings, or integers by their decimal text, to [0, num_buckets), int32."""
    text = values if values.dtype == tf.string else tf.strings.as_string(values)
    return tf.cast(tf.strings.to_hash_bucket_fast(text, num_buckets), tf.int32)


def bucket_ids(values: tf.Tensor, feature: NumericFeature) -> tf.Tensor:
    """Maps numbers to `1 + i`, int32, where `i` boundaries, rounded to float32, are at most as large."""
    return 1 + tf.raw_ops.Bucketize(input=values, boundaries=list(feature.boundaries))


def scale(values: tf.Tensor, features: Sequence[NumericFeature]) -> tf.Tensor:
    """Maps numbers x, (features, batch), to `(t(x) - mean) / std`, float32; the features' t is the same."""
    # Vectorised and scalar logarithms differ in the last bit. Rounding from float64 hides the difference, so a row's
    # value does not depend on its place in the batch.
    values = tf.cast(values, tf.float64)
    if features[0].scaling == "log":
        values = tf.sign(values) * tf.math.log1p(tf.abs(values))
    mean = tf.constant([[feature.mean] for feature in features], tf.float64)
    std = tf.constant([[feature.std] for feature in features], tf.float64)
    return tf.cast((values - mean) / std, tf.float32)
