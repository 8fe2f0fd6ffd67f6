"""Files to batches of (model inputs, labels, weight)."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import tensorflow as tf

from ...cohorts.cohort import Cohort
from ...feature import Column
from ...schema import Schema
from ...types import PRIMARY
from ..columns.checks import check_columns
from ..columns.csv_fields import CsvFormat
from ..columns.parsing import TF_TYPES
from ..columns.raw import Coded, CodedColumns, Mask
from ..columns.readers import Paths, as_paths
from .features import FeatureEncoder
from .labels import check_columns_present, check_names, cohort_labels
from .sharding import WHOLE, Shard
from .stream import Encode, Order, PackedRows, read_blocks

_BLOCK_ROWS = 65_536
_READY_BATCHES = 4
_WEIGHT = Column("weight", "float32")


def primary_tasks(schema: Schema) -> dict[str, str]:
    """Returns {task: label column}: `"primary"` for a single label, else each label under its column's name."""
    if len(schema.labels) == 1:
        return {PRIMARY: schema.labels[0]}
    return {name: name for name in schema.labels}


def make_dataset(
    paths: Paths,
    schema: Schema,
    batch_size: int,
    *,
    encoder: FeatureEncoder | None = None,
    cohorts: Sequence[Cohort] = (),
    shuffle: bool = False,
    seed: int = 0,
    epoch: int = 0,
    skip_batches: int = 0,
    drop_remainder: bool = False,
    shard: Shard = WHOLE,
    csv_format: CsvFormat | None = None,
) -> tf.data.Dataset:
    """One pass over files as batches of ({input: (batch, ...)}, {task: (batch, 1)}, weight (batch,)).

    Every batch has `batch_size` rows, so that a compiled step is compiled once: the last one is filled up with
    repetitions of its last row that have weight 0. Auxiliary labels are made from the first label. The order of rows
    follows from the files, `seed` and `epoch` alone (see `stream`); unshuffled it is that of `read_columns`. Threads
    read ahead, a bounded number of rows, and every row is checked (see `checks`); a bad row raises a
    `tf.errors.OpError` whose message ends in the `ValueError`'s, as from any Python function inside tf.data.

    Args:
        paths: Parquet, TFRecord or CSV files.
        schema: What the columns mean.
        batch_size: Rows per batch, of all workers together.
        encoder: The schema's encoder if there is one already: it owns large tables.
        cohorts: One auxiliary task each.
        shuffle: Whether rows come in random order.
        seed: Chooses the order.
        epoch: Chooses the order among those of one seed.
        skip_batches: Batches to leave out at the start, which a resumed run has seen.
        drop_remainder: Whether to leave the last, smaller batch out instead of filling it up.
        shard: The share of one of several workers; its batches have `batch_size / shard.count` rows.
        csv_format: How CSV files are written.

    Raises:
        ValueError: If a file is absent, a cohort is on a column that the schema lacks, or the workers cannot share a
            batch evenly.
    """
    least = {"batch_size": (batch_size, 1), "skip_batches": (skip_batches, 0), "seed": (seed, 0), "epoch": (epoch, 0)}
    for name, (value, minimum) in least.items():
        if value < minimum:
            raise ValueError(f"`{name}` must be at least {minimum}. Received: {name}={value}")
    tasks = primary_tasks(schema)
    check_names(cohorts, tasks)
    check_columns_present(cohorts, schema.columns)
    files = as_paths(paths)
    rows = shard.batch_rows(batch_size)
    order = Order(batch_size, (seed, epoch) if shuffle else None, skip_batches, drop_remainder, shard)
    columns = _needed_columns(schema, cohorts)
    encode = _row_encoder(schema, columns, encoder or FeatureEncoder(schema), cohorts)
    layout = _layout(schema, [*tasks, *(cohort.name for cohort in cohorts)])
    width = sum(column.length or 1 for group in layout for column in group)

    def blocks() -> Iterator[PackedRows]:
        return read_blocks(
            files,
            columns,
            lambda values, source, first_row: check_columns(values, schema, source, first_row),
            encode,
            width,
            order,
            batches_per_block=max(1, _BLOCK_ROWS // rows),
            csv_format=csv_format,
        )

    specs = tf.TensorSpec((None, rows, width), tf.int32)
    dataset = tf.data.Dataset.from_generator(blocks, output_signature=specs).unbatch()
    dataset = dataset.map(lambda packed_rows: _split(packed_rows, *layout), num_parallel_calls=2, deterministic=True)
    options = tf.data.Options()
    # Autotuning is off: its thread sleeps for up to a minute, and closing an iterator waits for it.
    options.autotune.enabled = False
    return dataset.prefetch(_READY_BATCHES).with_options(options)


def _needed_columns(schema: Schema, cohorts: Sequence[Cohort]) -> dict[str, Column]:
    on_axes = {name for cohort in cohorts for name in cohort.columns}
    unused = {column.name for column in schema.axis_columns} - on_axes
    return {name: column for name, column in schema.columns.items() if name not in unused}


# Encoded rows are packed into one int32 matrix (floats bit-cast): shuffling one tensor is faster than shuffling one per
# column.

_Layout = tuple[list[Column], list[Column]]


def _layout(schema: Schema, tasks: Sequence[str]) -> _Layout:
    """The columns of a packed row: the model's inputs; the labels and the weight."""
    return list(schema.inputs.values()), [*(Column(task, "float32") for task in tasks), _WEIGHT]


def _row_encoder(
    schema: Schema, columns: Mapping[str, Column], encoder: FeatureEncoder, cohorts: Sequence[Cohort]
) -> Encode:
    on_axes = {name for cohort in cohorts for name in cohort.columns}

    def pack(columns: Mapping[str, Any], is_real: tf.Tensor) -> tf.Tensor:
        plain = {
            name: tf.gather(*columns[name]) if isinstance(columns[name], Coded) else columns[name] for name in on_axes
        }
        labels = {task: columns[name] for task, name in primary_tasks(schema).items()}
        labels.update(cohort_labels(plain, next(iter(labels.values())), cohorts))
        weight = tf.cast(is_real, tf.float32)
        if schema.weight is not None:
            weight *= columns[schema.weight]
        values = [*encoder(columns).values(), *labels.values(), weight]
        packed = [tf.bitcast(x, tf.int32) if x.dtype == tf.float32 else x for x in values]
        # Concatenating columns as rows and transposing once takes half the time of stacking along the last axis.
        sides = [tf.transpose(x) if x.shape.rank == 2 else x[tf.newaxis] for x in packed]
        return tf.transpose(tf.concat(sides, axis=0))

    specs = {name: _spec(column) for name, column in columns.items()}
    graph = tf.function(pack, autograph=False).get_concrete_function(specs, tf.TensorSpec((None,), tf.bool))

    def encode(columns: CodedColumns, is_real: Mask) -> PackedRows:
        with tf.device("CPU:0"):
            return graph(dict(columns), is_real).numpy()

    return encode


def _spec(column: Column) -> tf.TensorSpec | Coded:
    shape = (None,) if column.length is None else (None, column.length)
    if column.dtype == "string":
        return Coded(tf.TensorSpec((None,), tf.string), tf.TensorSpec(shape, tf.int32))
    return tf.TensorSpec(shape, TF_TYPES[column.dtype])


def _split(packed_rows: tf.Tensor, inputs: list[Column], others: list[Column]) -> tuple[Any, ...]:
    columns = [*inputs, *others]
    pieces = tf.split(packed_rows, [column.length or 1 for column in columns], axis=1)
    values = [tf.bitcast(x, tf.float32) if c.dtype == "float32" else x for x, c in zip(pieces, columns, strict=True)]
    x = {c.name: v if c.length else v[:, 0] for c, v in zip(inputs, values, strict=False)}
    *labels, weight = values[len(inputs) :]
    return x, {c.name: label for c, label in zip(others[:-1], labels, strict=True)}, weight[:, 0]
