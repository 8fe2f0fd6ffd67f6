"""Raw columns to model inputs: one graph for tf.data and for serving."""

from collections.abc import Mapping

import tensorflow as tf

from ..schema import CategoricalFeature, Column, NumericFeature, Schema
from .examples import TF_TYPES, parse_examples
from .raw import MISSING, Coded


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
        # Outside any graph that may be under construction: the tables outlive it.
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
        """What `__call__` takes: (batch,), or (batch, length) for a multi-valued column."""
        return {
            name: tf.TensorSpec(
                (None,) if column.length is None else (None, column.length), TF_TYPES[column.dtype], name
            )
            for name, column in self.columns.items()
        }

    def parse_examples(self, serialized: tf.Tensor) -> dict[str, tf.Tensor]:
        """Maps serialized tf.Examples (batch,) to what `__call__` takes."""
        return parse_examples(serialized, self.columns.values())

    def __call__(self, columns: Mapping[str, tf.Tensor | Coded]) -> dict[str, tf.Tensor]:
        """Maps raw columns (batch,) or (batch, length) to ids, int32, and scaled values, float32, of these shapes.

        Columns of strings may be coded: then only their different values are looked up.
        """
        inputs: dict[str, tf.Tensor] = {}
        for feature in self.schema.features:
            values = columns[feature.name]
            if isinstance(feature, CategoricalFeature):
                inputs[feature.name] = self._category_ids(feature, values)
                continue
            present = tf.math.is_finite(values)
            if feature.default is not None:
                values, present = tf.where(present, values, feature.default), tf.ones_like(present)
            inputs[feature.name] = tf.where(present, bucket_ids(values, feature), 0)
            if feature.value_input is not None:
                inputs[feature.value_input] = tf.where(present, scale(values, feature), 0.0)
        return inputs

    def _category_ids(self, feature: CategoricalFeature, values: tf.Tensor | Coded) -> tf.Tensor:
        ids = self._ids(feature, values)
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


def scale(values: tf.Tensor, feature: NumericFeature) -> tf.Tensor:
    """Maps numbers x to `(t(x) - mean) / std`, float32."""
    # Vectorised and scalar logarithms differ in the last bit. In float64 the rounding hides it, so that a row's value
    # does not depend on its place in the batch.
    values = tf.cast(values, tf.float64)
    if feature.scaling == "log":
        values = tf.sign(values) * tf.math.log1p(tf.abs(values))
    return tf.cast((values - feature.mean) / feature.std, tf.float32)
