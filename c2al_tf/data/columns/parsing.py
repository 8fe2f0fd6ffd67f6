"""tf.Examples to raw columns in a graph: one rule for the files of training and the requests of serving.

A string column is stored in a bytes_list, an int64 column in an int64_list, and a float32 column in a float_list or an
int64_list, which may differ from record to record. A feature that is absent or empty is a missing value.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import tensorflow as tf
from google.protobuf import descriptor_pb2

from ...feature import Column, DType
from .raw import MISSING

KINDS: dict[DType, tuple[str, ...]] = {
    "string": ("bytes_list",),
    "int64": ("int64_list",),
    "float32": ("float_list", "int64_list"),
}
"""The fields of a Feature that a column of each type may be stored in."""

TF_TYPES: dict[DType, tf.DType] = {"string": tf.string, "int64": tf.int64, "float32": tf.float32}


def parse_examples(serialized: tf.Tensor, columns: Iterable[Column]) -> dict[str, tf.Tensor]:
    """Maps serialized tf.Examples (batch,) to raw columns (batch,) or (batch, length), in any graph.

    Values beyond a column's length are cut off.
    """
    columns = list(columns)
    dtypes = {column.name: column.dtype for column in columns}
    floats = [name for name, dtype in dtypes.items() if dtype == "float32"]
    if not floats:
        parsed = parse_as_stored(serialized, dtypes)
    else:
        # Parsing any kind takes several times as long: only batches that need it pay for it.
        parsed = tf.cond(
            tf.reduce_any(may_hold_integers(serialized, floats)),
            lambda: parse_any_kind(serialized, dtypes),
            lambda: parse_as_stored(serialized, dtypes),
        )
    return {column.name: _fit(parsed[column.name], column) for column in columns}


def parse_as_stored(
    serialized: tf.Tensor, dtypes: Mapping[str, DType], integers: Collection[str] = ()
) -> dict[str, tf.Tensor]:
    """Maps serialized tf.Examples (batch,) to (batch, most values of a row), padded with missing values.

    Args:
        serialized: The records. TensorFlow raises InvalidArgumentError if one holds a column in another kind.
        dtypes: The type of each column.
        integers: The float32 columns that are stored in an int64_list; the others are stored in a float_list.
    """
    stored: dict[str, DType] = {name: "int64" if name in integers else dtype for name, dtype in dtypes.items()}
    features = {
        name: tf.io.FixedLenSequenceFeature([], TF_TYPES[dtype], True, MISSING[dtype]) for name, dtype in stored.items()
    }
    parsed = tf.io.parse_example(serialized, features)
    return {name: _to_float(values) if name in integers else values for name, values in parsed.items()}


def parse_any_kind(serialized: tf.Tensor, dtypes: Mapping[str, DType]) -> dict[str, tf.Tensor]:
    """As `parse_as_stored`, for at least one record, each of which may hold a float32 column in either kind."""
    floats = [name for name, dtype in dtypes.items() if dtype == "float32"]
    others = {name: dtype for name, dtype in dtypes.items() if dtype != "float32"}
    parsed = parse_as_stored(serialized, others) if others else {}
    if not floats:
        return parsed
    lists, sizes = _decode("Feature", _features(serialized, floats))
    bytes_lists, float_lists, int64_lists = (each[..., 0] for each in lists)
    with tf.control_dependencies([_assert_numbers(bytes_lists, sizes, floats)]):
        float_lists, int64_lists = tf.identity(float_lists), tf.identity(int64_lists)
    (floating,), float_sizes = _decode("FloatList", float_lists)
    (whole,), int64_sizes = _decode("Int64List", int64_lists)
    width = tf.maximum(tf.shape(floating)[2], tf.shape(whole)[2])
    values = tf.where(
        sizes[..., 2:] > 0, _pad(_to_float(whole), int64_sizes, width), _pad(floating, float_sizes, width)
    )
    widths = tf.unstack(tf.reduce_max(float_sizes + int64_sizes, axis=[0, 2]), len(floats))
    columns = tf.unstack(values, len(floats), axis=1)
    return parsed | {name: column[:, :most] for name, column, most in zip(floats, columns, widths, strict=True)}


def may_hold_integers(serialized: tf.Tensor, names: Sequence[str]) -> tf.Tensor:
    """Maps serialized tf.Examples (batch,) to whether the bytes look like an int64_list of one of `names`, (batch,).

    So does an empty bytes_list, which is a missing value too. True for every record that has one, if written as all
    protobuf libraries do: the name before the values, and these in at most two megabytes. Rarely true for another one,
    whose strings or numbers hold such bytes.
    """
    # A map entry is 0A, size of the name, name, 12, size of the Feature, and its list: tag 1A, size, and a tag again.
    # RE2 takes the bytes as UTF-8: \C is any byte, and no class holds those from 80 on, with which a size above 127
    # begins. The tag after the list's size excludes most other bytes that would match.
    sized = [f"{_escaped_size(name)}{re.escape(name)}" for name in names]
    empty_bytes, sizes_of_one_byte = r"\x02\x0a\x00", r"[\x02-\x7f]\x1a"
    sizes_of_two, sizes_of_three = r"\C[\x01-\x7f]\x1a\C{1,2}[\x08\x0a]", r"\C\C[\x01-\x7f]\x1a\C{2,3}[\x08\x0a]"
    lists = (empty_bytes, sizes_of_one_byte, sizes_of_two, sizes_of_three)
    pattern = rf"\C*\x0a(?:{'|'.join(sized)})\x12(?:{'|'.join(lists)})\C*"
    return tf.strings.regex_full_match(serialized, pattern)


def _escaped_size(name: str) -> str:
    size = len(name.encode())
    return rf"\x{size:02x}" if size < 128 else r"\C\C"


def _features(serialized: tf.Tensor, names: Sequence[str]) -> tf.Tensor:
    """Maps serialized tf.Examples (batch,) to their serialized Features (batch, names), empty where there is none."""
    (messages,), _ = _decode("Example", serialized)
    # An empty message and entry before the others: the operation refuses no messages at all.
    (entries,), _ = _decode("Features", tf.pad(messages, [[0, 0], [1, 0]], constant_values=""))
    batch, num_messages, most = tf.unstack(tf.shape(entries), 3)
    entries = tf.reshape(entries, [batch, num_messages * most])
    (keys, features), _ = _decode("Entry", tf.pad(entries, [[0, 0], [1, 0]], constant_values=""))
    same = keys[:, tf.newaxis, :, 0] == tf.constant(names)[:, tf.newaxis]
    # The last entry of a name counts, as in protobuf; the empty one stands for none.
    place = tf.reduce_max(tf.where(same, tf.range(num_messages * most + 1), 0), axis=2)
    return tf.gather(features[..., 0], place, batch_dims=1)


def _assert_numbers(bytes_lists: tf.Tensor, sizes: tf.Tensor, names: Sequence[str]) -> tf.Operation:
    """Checks that no bytes_list (batch, names) has values, and the numbers of lists by kind, (batch, names, 3)."""
    wrong = tf.reduce_any((bytes_lists != "") | (tf.reduce_sum(sizes, axis=2) > 1), axis=0)
    rule = "A float32 feature must be a float_list or an int64_list. Received: another list as"
    return tf.debugging.Assert(~tf.reduce_any(wrong), [rule, tf.boolean_mask(tf.constant(names), wrong)])


def _to_float(whole: tf.Tensor) -> tf.Tensor:
    return tf.where(whole == MISSING["int64"], float("nan"), tf.cast(whole, tf.float32))


def _pad(values: tf.Tensor, sizes: tf.Tensor, width: tf.Tensor) -> tf.Tensor:
    """Maps (batch, names, most), of which the first `sizes` (batch, names, 1) are values, to (batch, names, width)."""
    values = tf.pad(values, [[0, 0], [0, 0], [0, width - tf.shape(values)[2]]])
    return tf.where(tf.range(width) < sizes, values, float("nan"))


def _fit(values: tf.Tensor, column: Column) -> tf.Tensor:
    # Always padded by the full length: a static size needs no operations to compute it.
    length = column.length or 1
    missing = tf.constant(MISSING[column.dtype], values.dtype)
    values = tf.pad(values, [[0, 0], [0, length]], constant_values=missing)
    return values[:, 0] if column.length is None else tf.ensure_shape(values[:, :length], (None, length))


_Field = descriptor_pb2.FieldDescriptorProto
# The messages within a tf.Example, their fields in the order of their numbers. Nested messages are bytes here: each is
# decoded in a step of its own.
_MESSAGES: dict[str, tuple[tuple[str, Any, bool], ...]] = {
    "Example": (("features", _Field.TYPE_BYTES, True),),
    "Features": (("feature", _Field.TYPE_BYTES, True),),
    "Entry": (("key", _Field.TYPE_BYTES, False), ("value", _Field.TYPE_BYTES, False)),
    "Feature": tuple((kind, _Field.TYPE_BYTES, False) for kind in ("bytes_list", "float_list", "int64_list")),
    "FloatList": (("value", _Field.TYPE_FLOAT, True),),
    "Int64List": (("value", _Field.TYPE_INT64, True),),
}
_DECODED: dict[Any, tf.DType] = {
    _Field.TYPE_BYTES: tf.string,
    _Field.TYPE_FLOAT: tf.float32,
    _Field.TYPE_INT64: tf.int64,
}


def _descriptors() -> bytes:
    file = descriptor_pb2.FileDescriptorProto(name="example.proto", package="c2al")
    for message, fields in _MESSAGES.items():
        described = file.message_type.add(name=message)
        for number, (name, kind, repeated) in enumerate(fields, 1):
            label = _Field.LABEL_REPEATED if repeated else _Field.LABEL_OPTIONAL
            described.field.add(name=name, number=number, type=kind, label=label)
    return b"bytes://" + descriptor_pb2.FileDescriptorSet(file=[file]).SerializeToString(deterministic=True)


_SOURCE = _descriptors()


def _decode(message: str, serialized: tf.Tensor) -> tuple[list[tf.Tensor], tf.Tensor]:
    """Maps serialized messages (...) to the values of each field, (..., most), and their numbers, (..., fields)."""
    fields = _MESSAGES[message]
    names, types = [name for name, _, _ in fields], [_DECODED[kind] for _, kind, _ in fields]
    sizes, values = tf.io.decode_proto(serialized, f"c2al.{message}", names, types, _SOURCE)
    return values, sizes
