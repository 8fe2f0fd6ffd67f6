"""A `schema.pbtxt` of tensorflow_metadata as a parsing spec, read without that package."""

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tensorflow as tf
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

_PACKAGE = "c2al.tfx"

_DTYPES = {1: tf.string, 2: tf.int64, 3: tf.float32}
"""BYTES, INT and FLOAT of the enum FeatureType."""

_IN_USE = frozenset({0, 3, 4})
"""Lifecycle stages whose features are parsed: none given, BETA, PRODUCTION."""


def parsing_spec(schema_path: str | Path) -> dict[str, tf.io.FixedLenFeature | tf.io.VarLenFeature]:
    """The spec for `tf.io.parse_example` that tensorflow-transform's `schema_as_feature_spec` gives.

    A feature with a `shape` becomes a FixedLenFeature of it, any other one a VarLenFeature. Features that are
    deprecated, or of a stage before or after use, are left out.

    Args:
        schema_path: A `schema.pbtxt`: that of SchemaGen, or `transformed_metadata/schema.pbtxt` of Transform.

    Raises:
        ValueError: If the file is no such schema, or it has ragged or sparse tensors or structures.
    """
    return {feature.name: as_io_feature(feature) for feature in read_features(schema_path)}


def read_features(schema_path: str | Path) -> list[Any]:
    """The messages of the features in use, each with the values of its string domain; see `parsing_spec`."""
    schema = _message("Schema")
    try:
        with tf.io.gfile.GFile(str(schema_path)) as file:
            text_format.Parse(file.read(), schema, allow_unknown_field=True, allow_unknown_extension=True)
    except text_format.ParseError as error:
        raise ValueError(f"{schema_path}: not a schema of tensorflow_metadata in text form: {error}") from error
    used = [feature for feature in schema.feature if feature.lifecycle_stage in _IN_USE and not feature.deprecated]
    odd = [feature.name for feature in used if feature.type not in _DTYPES]
    if odd := [*odd, *_composed(schema)]:
        raise ValueError(
            "Features must be of BYTES, INT or FLOAT, dense or of variable length; give `tf.io` features of your own "
            f"for others. Received: {odd} in {schema_path}"
        )
    if not used:
        raise ValueError(f"`schema_path` must name a schema with features. Received: {schema_path} without one")
    named = {domain.name: domain for domain in schema.string_domain}
    for feature in used:
        if feature.domain in named:
            feature.string_domain.CopyFrom(named[feature.domain])
    return used


def as_io_feature(feature: Any) -> tf.io.FixedLenFeature | tf.io.VarLenFeature:
    """The `tf.io` feature of a feature's message."""
    dtype = _DTYPES[feature.type]
    if not feature.HasField("shape"):
        return tf.io.VarLenFeature(dtype)
    return tf.io.FixedLenFeature([dim.size for dim in feature.shape.dim], dtype)


def _composed(schema: Any) -> Iterator[str]:
    """Names of tensors that are made of several features."""
    yield from (feature.name for feature in schema.sparse_feature)
    for group in schema.tensor_representation_group:
        for tensor in group.value.tensor_representation:
            if tensor.value.HasField("sparse_tensor") or tensor.value.HasField("ragged_tensor"):
                yield tensor.key


_MESSAGES: dict[str, tuple[tuple[str, int, str], ...]] = {
    "Schema": (
        ("feature", 1, "Feature*"),
        ("string_domain", 4, "StringDomain*"),
        ("sparse_feature", 6, "Named*"),
        ("tensor_representation_group", 13, "Group*"),
    ),
    "Feature": (
        ("name", 1, "string"),
        ("deprecated", 2, "bool"),
        ("value_count", 5, "ValueCount"),
        ("type", 6, "FeatureType"),
        ("domain", 7, "string"),
        ("int_domain", 9, "IntDomain"),
        ("string_domain", 11, "StringDomain"),
        ("lifecycle_stage", 22, "LifecycleStage"),
        ("shape", 23, "FixedShape"),
    ),
    "ValueCount": (("max", 2, "int64"),),
    "IntDomain": (("min", 3, "int64"), ("max", 4, "int64")),
    "StringDomain": (("name", 1, "string"), ("value", 2, "string*")),
    "FixedShape": (("dim", 2, "Dim*"),),
    "Dim": (("size", 1, "int64"),),
    "Named": (("name", 1, "string"),),
    "Group": (("value", 2, "Tensors"),),
    "Tensors": (("tensor_representation", 1, "NamedTensor*"),),
    "NamedTensor": (("key", 1, "string"), ("value", 2, "Tensor")),
    "Tensor": (("sparse_tensor", 3, "Empty"), ("ragged_tensor", 4, "Empty")),
    "Empty": (),
}
"""The parts of tensorflow_metadata's schema.proto that are used here. A map is a list of entries."""

_ENUMS = {
    "FeatureType": ("TYPE_UNKNOWN", "BYTES", "INT", "FLOAT", "STRUCT"),
    "LifecycleStage": (
        *("UNKNOWN_STAGE", "PLANNED", "ALPHA", "BETA", "PRODUCTION", "DEPRECATED", "DEBUG_ONLY", "DISABLED"),
        *("_UNUSED", "VALIDATION_DERIVED"),
    ),
}


@functools.cache
def _pool() -> descriptor_pool.DescriptorPool:
    """A pool of its own: the default one may hold tensorflow_metadata itself."""
    kinds = descriptor_pb2.FieldDescriptorProto.Type
    file = descriptor_pb2.FileDescriptorProto(name="schema.proto", package=_PACKAGE, syntax="proto2")
    for name, values in _ENUMS.items():
        enum = file.enum_type.add(name=name)
        for number, value in enumerate(values):
            enum.value.add(name=value, number=number)
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, number, kind in fields:
            added = message.field.add(name=field, number=number, label=3 if kind.endswith("*") else 1)
            of = kind.rstrip("*")
            if of in _MESSAGES or of in _ENUMS:
                added.type_name = f".{_PACKAGE}.{of}"
                added.type = kinds.TYPE_MESSAGE if of in _MESSAGES else kinds.TYPE_ENUM
            else:
                added.type = kinds.Value(f"TYPE_{of.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return pool


def _message(name: str) -> Any:
    return message_factory.GetMessageClass(_pool().FindMessageTypeByName(f"{_PACKAGE}.{name}"))()
