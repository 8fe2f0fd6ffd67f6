"""The features of a `schema.pbtxt`, with the values that their domains name."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from ...feature import Feature
from ..tfx.metadata import as_io_feature, read_features as read_features
from .parsing_spec import from_spec
from .unknown import Unknown


def from_metadata(name: str, declared: Any, unknown: Unknown) -> Feature:
    """The feature of a message of tensorflow_metadata: that of its `tf.io` feature, with what it says beyond."""
    spec = as_io_feature(declared)
    if declared.value_count.max:
        unknown = dataclasses.replace(unknown, length=declared.value_count.max)
    values = list(declared.string_domain.value)
    return from_spec(name, spec, unknown, values or _integers(declared, spec.dtype, unknown.num_hash_buckets))


def _integers(declared: Any, dtype: tf.DType, most: int) -> Sequence[int]:
    """The integers of a domain that has bounds, if there are no more of them than there would be buckets."""
    domain = declared.int_domain
    bounded = dtype == tf.int64 and domain.HasField("min") and domain.HasField("max")
    return range(domain.min, domain.max + 1) if bounded and domain.max - domain.min < most else ()
