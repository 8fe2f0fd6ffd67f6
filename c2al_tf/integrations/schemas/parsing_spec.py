"""A `tf.io` parsing spec to features, and a schema to the spec that parses its rows."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from ...data.columns.parsing import TF_TYPES
from ...data.columns.raw import MISSING
from ...feature import DType, Feature, Missing
from ...schema import Schema
from .unknown import Unknown

_DTYPES: dict[tf.DType, DType] = {dtype: name for name, dtype in TF_TYPES.items()}
_OF_ANY_LENGTH = (tf.io.VarLenFeature, tf.io.RaggedFeature, tf.io.FixedLenSequenceFeature)


def make_parsing_spec(schema: Schema) -> dict[str, tf.io.FixedLenFeature | tf.io.FixedLenSequenceFeature]:
    """The spec by which `tf.io.parse_example` parses tf.Examples as the library writes them, labels and weight too.

    A column becomes (batch,), a multi-valued one (batch, most values of a row). A value that is absent becomes the
    feature's default, else, as padding does, `""`, NaN or the lowest int64. It is an error of TensorFlow's if the
    feature declares `missing="error"`, and for labels and the weight. Labels, the weight and numbers are parsed from a
    float_list: give files with an int64_list there a feature of your own.

    Args:
        schema: What the columns mean.
    """
    features = {feature.name: feature for feature in schema.features}
    parsed = {}
    for name, column in schema.columns.items():
        dtype, missing = TF_TYPES[column.dtype], MISSING[column.dtype]
        if column.length is not None:
            parsed[name] = tf.io.FixedLenSequenceFeature([], dtype, allow_missing=True, default_value=missing)
        elif name in (*schema.labels, schema.weight) or (name in features and features[name].missing == "error"):
            parsed[name] = tf.io.FixedLenFeature([], dtype)
        else:
            default = features[name].default if name in features else None
            parsed[name] = tf.io.FixedLenFeature([], dtype, missing if default is None else default)
    return parsed


def from_spec(name: str, declared: Any, unknown: Unknown, vocabulary: Sequence[Any] = ()) -> Feature:
    """The feature that a `tf.io` feature declares.

    Raises:
        ValueError: If it is made of several columns, or of a dtype, shape or default that no feature has.
    """
    dtype = _DTYPES.get(getattr(declared, "dtype", None))
    ragged = isinstance(declared, tf.io.RaggedFeature) and (
        declared.partitions or declared.value_key not in (None, name)
    )
    if dtype is None or ragged or not isinstance(declared, (tf.io.FixedLenFeature, *_OF_ANY_LENGTH)):
        raise ValueError(
            f"Feature `{name}` must be a FixedLenFeature, VarLenFeature, RaggedFeature or FixedLenSequenceFeature of "
            f"one column of {', '.join(_DTYPES.values())}; declare the columns of another one by themselves. "
            f"Received: {declared}"
        )
    size = _size(name, declared, dtype)
    if isinstance(declared, tf.io.FixedLenFeature):
        missing, default = _missing(name, declared.default_value, dtype)
    else:
        size = 1 if dtype == "float32" else unknown.length_of(name, declared)
        missing, default = "slot", None
    return unknown.feature(name, dtype, None if size == 1 else size, missing, default, vocabulary)


def _size(name: str, declared: Any, dtype: DType) -> int:
    """Number of the values, or sequences, of a row."""
    sizes = tf.TensorShape(getattr(declared, "shape", ())).as_list()
    size = (*sizes, 1)[0]
    if len(sizes) > 1 or size is None or (dtype == "float32" and size != 1):
        raise ValueError(
            f"Feature `{name}` must have shape (), (1,) or, of ids, (n,): numbers in a row need columns of their own. "
            f"Received: {declared}"
        )
    return size


def _missing(name: str, default: Any, dtype: DType) -> tuple[Missing, Any]:
    """What a null means, where `tf.io.parse_example` fills in `default`."""
    if default is None:
        return "error", None
    value, *others = np.ravel(np.asarray(default)).tolist()
    if any(other != value for other in others):
        raise ValueError(f"Feature `{name}` must have one default for all its values. Received: {default}")
    value = value.decode() if isinstance(value, bytes) else float(value) if dtype == "float32" else value
    return ("slot", None) if value == MISSING[dtype] or value != value else ("default", value)
