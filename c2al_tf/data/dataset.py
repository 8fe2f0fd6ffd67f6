"""Files to batches of (model inputs, labels, weight)."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf

from ..cohorts.cohort import Cohort
from ..feature import Column, DType
from ..schema import Schema
from ..types import PRIMARY, Columns
from .checks import check_columns
from .examples import TF_TYPES
from .features import FeatureEncoder
from .labels import check_columns_present, check_names, cohort_labels
from .raw import num_rows
from .readers import CsvFormat, Paths, as_paths
from .stream import pad, read_blocks

_BLOCK_ROWS = 65_536
_IS_ROW = "is_row"


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
    csv_format: CsvFormat | None = None,
) -> tf.data.Dataset:
    """One pass over files as batches of ({input: (batch, ...)}, {task: (batch, 1)}, weight (batch,)).

    Every batch has `batch_size` rows, so that a compiled step is compiled once: the last one is filled up with
    repetitions of its last row that have weight 0. Auxiliary labels are made from the first label. The order of rows
    follows from the files, `seed` and `epoch` alone (see `stream`); unshuffled it is that of `read_columns`. The files
    are read as they are needed, and every row is checked (see `checks`); as from any Python function inside tf.data, a
    bad one surfaces as a `tf.errors.OpError` whose message ends in the `ValueError`'s.

    Args:
        paths: Parquet, TFRecord or CSV files.
        schema: What the columns mean.
        batch_size: Rows per batch.
        encoder: The schema's encoder, where one exists: it owns large tables.
        cohorts: One auxiliary task each.
        shuffle: Whether rows come in random order.
        seed: Chooses the order.
        epoch: Chooses the order among those of one seed.
        skip_batches: Batches to leave out at the start: those that a resumed run has seen.
        drop_remainder: Leaves the last, smaller batch out instead of filling it up.
        csv_format: How CSV files are written.

    Raises:
        ValueError: If a file is absent, or a cohort is on a column that the schema lacks.
    """
    least = {"batch_size": (batch_size, 1), "skip_batches": (skip_batches, 0), "seed": (seed, 0), "epoch": (epoch, 0)}
    for name, (value, minimum) in least.items():
        if value < minimum:
            raise ValueError(f"`{name}` must be at least {minimum}. Received: {name}={value}")
    tasks = primary_tasks(schema)
    check_names(cohorts, tasks)
    check_columns_present(cohorts, schema.columns)
    columns = _needed_columns(schema, cohorts)
    encoder = encoder or FeatureEncoder(schema)
    read = partial(
        read_blocks,
        as_paths(paths),
        columns,
        max(1, _BLOCK_ROWS // batch_size) * batch_size,
        shuffle=(seed, epoch) if shuffle else None,
        skip_rows=skip_batches * batch_size,
        csv_format=csv_format,
        check=lambda rows, source, first_row: check_columns(rows, schema, source, first_row),
    )

    def encode(stacked: Mapping[str, tf.Tensor]) -> tuple[Any, ...]:
        rows = _unstack(stacked, columns)
        labels = {task: rows[name] for task, name in tasks.items()}
        labels.update(cohort_labels(rows, next(iter(labels.values())), cohorts))
        weight = stacked[_IS_ROW] if schema.weight is None else stacked[_IS_ROW] * rows[schema.weight]
        element = (encoder(rows), {task: label[:, tf.newaxis] for task, label in labels.items()}, weight)
        return tf.nest.map_structure(lambda x: tf.reshape(x, [-1, batch_size, *x.shape[1:]]), element)

    def blocks() -> Iterator[Columns]:
        for block in read():
            if drop_remainder:
                whole = num_rows(block) // batch_size * batch_size
                block = {name: values[:whole] for name, values in block.items()}
            padded, rows = pad(block, batch_size) if num_rows(block) else (block, 0)
            if rows:
                yield _stack(padded, columns, rows)

    dataset = tf.data.Dataset.from_generator(blocks, output_signature=_stacked_specs(columns))
    dataset = dataset.map(encode, num_parallel_calls=2, deterministic=True)
    return dataset.unbatch().prefetch(tf.data.AUTOTUNE)


def _needed_columns(schema: Schema, cohorts: Sequence[Cohort]) -> dict[str, Column]:
    on_axes = {name for cohort in cohorts for name in cohort.columns}
    unused = {column.name for column in schema.axis_columns} - on_axes
    return {name: column for name, column in schema.columns.items() if name not in unused}


# A tensor per column would cost more to hand over than the columns are worth: they travel side by side, by type.


def _stacked_specs(columns: Mapping[str, Column]) -> dict[str, tf.TensorSpec]:
    widths: dict[DType, int] = {}
    for column in columns.values():
        widths[column.dtype] = widths.get(column.dtype, 0) + (column.length or 1)
    specs: dict[str, tf.TensorSpec] = {_IS_ROW: tf.TensorSpec((None,), tf.float32)}
    return specs | {dtype: tf.TensorSpec((None, width), TF_TYPES[dtype]) for dtype, width in widths.items()}


def _stack(block: Columns, columns: Mapping[str, Column], rows: int) -> Columns:
    by_type: dict[str, list[Any]] = {}
    for name, column in columns.items():
        by_type.setdefault(column.dtype, []).append(block[name].reshape(num_rows(block), -1))
    stacked = {dtype: np.concatenate(values, axis=1) for dtype, values in by_type.items()}
    stacked[_IS_ROW] = (np.arange(num_rows(block)) < rows).astype(np.float32)
    return stacked


def _unstack(stacked: Mapping[str, tf.Tensor], columns: Mapping[str, Column]) -> dict[str, tf.Tensor]:
    start = dict.fromkeys(stacked, 0)
    unstacked = {}
    for name, column in columns.items():
        first, width = start[column.dtype], column.length or 1
        start[column.dtype] += width
        values = stacked[column.dtype][:, first : first + width]
        unstacked[name] = values[:, 0] if column.length is None else values
    return unstacked
