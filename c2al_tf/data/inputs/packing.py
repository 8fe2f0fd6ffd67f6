"""Encoded rows packed into one int32 matrix, floats bit-cast: shuffling one tensor is faster than one per column."""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import tensorflow as tf

from ...cohorts.cohort import Cohort
from ...feature import Column
from ...schema import Schema
from ...types import PRIMARY, Array, member_of
from ..columns.checks import check_columns
from ..columns.parsing import TF_TYPES
from ..columns.raw import Coded, Mask, take_rows
from ..columns.readers import Chunk
from .features import FeatureEncoder
from .labels import LabelDesign, task_labels, task_weights
from .stream import Pack, PackedRows

_WEIGHT = Column("weight", "float32")


def primary_tasks(schema: Schema) -> dict[str, str]:
    """Returns {task: label column}: `"primary"` for a single label, else each label under its column's name."""
    if len(schema.labels) == 1:
        return {PRIMARY: schema.labels[0]}
    return {name: name for name in schema.labels}


@dataclass(frozen=True)
class Layout:
    """The columns of a packed row: the model's inputs, the labels of the primary tasks, the weight, memberships.

    Args:
        inputs: The model's inputs.
        tasks: The primary tasks.
        members: Cohorts, each with a membership, 0 or 1.
    """

    inputs: tuple[Column, ...]
    tasks: tuple[str, ...]
    members: tuple[str, ...]

    @classmethod
    def of(cls, schema: Schema, members: Sequence[str] = ()) -> "Layout":
        """The layout of a schema's rows."""
        return cls(tuple(schema.inputs.values()), tuple(primary_tasks(schema)), tuple(members))

    @property
    def columns(self) -> list[Column]:
        """All columns, in their order."""
        labels = [Column(task, "float32") for task in self.tasks]
        return [*self.inputs, *labels, _WEIGHT, *(Column(member_of(name), "int64") for name in self.members)]

    @property
    def weight(self) -> int:
        """Place of the weight in a row."""
        return self.width - len(self.members) - 1

    @property
    def width(self) -> int:
        """Words of a row."""
        return sum(column.length or 1 for column in self.columns)


def pack_files(schema: Schema, encoder: FeatureEncoder, cohorts: Sequence[Cohort]) -> tuple[dict[str, Column], Pack]:
    """The raw columns that rows are made from, and what reads, checks, encodes and packs chunks of files of them."""
    on_axes = {name for cohort in cohorts for name in cohort.columns}
    unused = {column.name for column in schema.axis_columns} - on_axes
    columns = {name: column for name, column in schema.columns.items() if name not in unused}
    encode = _row_encoder(schema, columns, encoder, cohorts)

    def pack(chunk: Chunk) -> Callable[[Array, Mask], PackedRows]:
        values = chunk.load()
        check_columns(values, schema, str(chunk.path), chunk.first_row)

        def pack_rows(rows: Array, is_real: Mask) -> PackedRows:
            with tf.device("CPU:0"):
                return encode(dict(take_rows(values, rows)), is_real).numpy()

        return pack_rows

    return columns, pack


def _row_encoder(
    schema: Schema, columns: Mapping[str, Column], encoder: FeatureEncoder, cohorts: Sequence[Cohort]
) -> Any:
    on_axes = {name for cohort in cohorts for name in cohort.columns}

    def encode(columns: Mapping[str, Any], is_real: tf.Tensor) -> tf.Tensor:
        plain = {
            name: tf.gather(*columns[name]) if isinstance(columns[name], Coded) else columns[name] for name in on_axes
        }
        weight = tf.cast(is_real, tf.float32)
        if schema.weight is not None:
            weight *= columns[schema.weight]
        labels = [columns[name] for name in primary_tasks(schema).values()]
        members = [tf.cast(cohort.contains(plain), tf.int32) for cohort in cohorts]
        values = [*encoder(columns).values(), *labels, weight, *members]
        packed = [tf.bitcast(x, tf.int32) if x.dtype == tf.float32 else x for x in values]
        # Concatenating columns as rows and transposing once takes half the time of stacking along the last axis.
        sides = [tf.transpose(x) if x.shape.rank == 2 else x[tf.newaxis] for x in packed]
        return tf.transpose(tf.concat(sides, axis=0))

    specs = {name: _spec(column) for name, column in columns.items()}
    return tf.function(encode, autograph=False).get_concrete_function(specs, tf.TensorSpec((None,), tf.bool))


def _spec(column: Column) -> tf.TensorSpec | Coded:
    shape = (None,) if column.length is None else (None, column.length)
    if column.dtype == "string":
        return Coded(tf.TensorSpec((None,), tf.string), tf.TensorSpec(shape, tf.int32))
    return tf.TensorSpec(shape, TF_TYPES[column.dtype])


@functools.lru_cache(maxsize=64)
def row_splitter(
    layout: Layout, num_rows: int, cohorts: tuple[str, ...], design: LabelDesign, members: tuple[str, ...]
) -> Callable[[tf.Tensor], Any]:
    """`split_rows` for batches of packed rows (num_rows, width), traced once: every epoch makes a dataset."""

    def split(packed_rows: tf.Tensor) -> Any:
        return split_rows(packed_rows, layout, cohorts, design, members)

    spec = tf.TensorSpec((num_rows, layout.width), tf.int32)
    return tf.function(split, autograph=False).get_concrete_function(spec)


def split_rows(
    packed_rows: tf.Tensor, layout: Layout, cohorts: Sequence[str], design: LabelDesign, members: Sequence[str]
) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor], Any]:
    """A batch of packed rows (batch, width) to model inputs, labels by task and weights.

    Args:
        packed_rows: The rows.
        layout: Their layout.
        cohorts: Those with a task.
        design: What their labels are made of.
        members: Those whose membership is among the labels.
    """
    columns = layout.columns
    pieces = tf.split(packed_rows, [column.length or 1 for column in columns], axis=1)
    values = [tf.bitcast(x, tf.float32) if c.dtype == "float32" else x for x, c in zip(pieces, columns, strict=True)]
    # By place: an input may have the name of a task, or be called `weight`.
    parts = iter(values)
    x = {c.name: value if c.length else value[:, 0] for c, value in zip(layout.inputs, parts, strict=False)}
    y = dict(zip(layout.tasks, islice(parts, len(layout.tasks)), strict=True))
    weight = next(parts)[:, 0]
    inside = {name: value > 0 for name, value in zip(layout.members, parts, strict=True)}
    primary = y[layout.tasks[0]]
    y |= {name: task_labels(primary, inside[name], design) for name in cohorts}
    y |= {member_of(name): tf.cast(inside[name], tf.float32) for name in members}
    if design != "masked" or not cohorts:
        return x, y, weight
    own = {name: task_weights(weight, inside[name][:, 0], design) for name in cohorts}
    return x, y, dict.fromkeys(layout.tasks, weight) | own
