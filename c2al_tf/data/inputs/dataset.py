"""Files, or rows that were encoded once, to batches of (model inputs, labels, weight)."""

import weakref
from collections.abc import Iterator, Sequence

import tensorflow as tf

from ...cohorts.cohort import Cohort
from ...schema import Column, Schema
from ..columns.csv_fields import CsvFormat
from ..columns.formats import Paths, as_paths
from .encoded import EncodedRows
from .features import FeatureEncoder
from .labels import LabelDesign, check_columns_present, check_design, check_names
from .packing import Layout, pack_files, primary_tasks, row_splitter
from .sharding import WHOLE, Shard
from .stream import Order, PackedRows, read_blocks

_BLOCK_ROWS = 65_536
_READY_BATCHES = 4


def make_dataset(
    rows: Paths | EncodedRows,
    schema: Schema,
    batch_size: int,
    *,
    encoder: FeatureEncoder | None = None,
    cohorts: Sequence[Cohort] = (),
    design: LabelDesign = "conflict",
    members: Sequence[Cohort] = (),
    shuffle: bool = False,
    seed: int = 0,
    epoch: int = 0,
    skip_batches: int = 0,
    drop_remainder: bool = False,
    shard: Shard = WHOLE,
    csv_format: CsvFormat | None = None,
) -> tf.data.Dataset:
    """One pass over rows as batches of ({input: (batch, ...)}, {task: (batch, 1)}, weight (batch,)).

    Every batch has `batch_size` rows, so that a compiled step is compiled once: the last one is filled up with
    repetitions of its last row that have weight 0. Auxiliary labels are made from the first label. The order of rows
    follows from the files, `seed` and `epoch` alone (see `stream`); unshuffled it is that of `read_columns`. Threads
    read ahead, a bounded number of rows, and every row is checked (see `checks`); a bad row raises a
    `tf.errors.OpError` whose message ends in the `ValueError`'s, as from any Python function inside tf.data.

    Args:
        rows: Parquet, TFRecord or CSV files, or what `encode_rows` made of them: the same batches, for less work.
        schema: What the columns mean.
        batch_size: Rows per batch, of all workers together.
        encoder: The schema's encoder if there is one already: it owns large tables.
        cohorts: One auxiliary task each.
        design: What the cohorts' labels are made of; see `task_labels`. With `masked` weights are a dict by task.
        members: Cohorts whose membership 1[x in C] is among the labels, under `member_of(name)`.
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
    check_design(design)
    by_name = {cohort.name: cohort for cohort in (*cohorts, *members)}
    for cohort in (*cohorts, *members):
        if by_name[cohort.name] != cohort:
            raise ValueError(
                f"Cohorts of one name must be equal. Received: `{cohort.name}` as two of `cohorts`, `members`"
            )
    check_columns_present(by_name.values(), schema.columns)
    size = shard.batch_rows(batch_size)
    order = Order(batch_size, (seed, epoch) if shuffle else None, skip_batches, drop_remainder, shard)
    layout = Layout.of(schema, list(by_name))
    if isinstance(rows, EncodedRows):
        if rows.schema != schema:
            raise ValueError("`schema` must be the one that the rows were encoded by. Received: another")
        files, pack = rows.paths, rows.pack(list(by_name.values()))
        columns: dict[str, Column] = {}  # none is read
    else:
        files = as_paths(rows)
        columns, pack = pack_files(schema, encoder or FeatureEncoder(schema), list(by_name.values()))

    def blocks() -> Iterator[PackedRows]:
        per_block = max(1, _BLOCK_ROWS // size)
        return read_blocks(
            files, columns, pack, layout.width, order, batches_per_block=per_block, csv_format=csv_format
        )

    names, told = (tuple(cohort.name for cohort in given) for given in (cohorts, members))
    split = row_splitter(layout, size, names, design, told)
    specs = tf.TensorSpec((None, size, layout.width), tf.int32)
    dataset = tf.data.Dataset.from_generator(blocks, output_signature=specs).unbatch()
    dataset = dataset.map(lambda rows: split(rows), num_parallel_calls=2, deterministic=True)
    dataset = without_tuning(dataset.prefetch(_READY_BATCHES))
    _MADE_HERE.add(dataset)
    return dataset


def without_tuning(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """The same elements, read without the thread by which TensorFlow tunes a pipeline.

    That thread sleeps for up to a minute at a time, and at times, with TensorFlow 2.21, closing an iterator waits for
    it to wake.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)


_MADE_HERE: weakref.WeakSet[tf.data.Dataset] = weakref.WeakSet()


def in_form_already(rows: tf.data.Dataset) -> bool:
    """Whether `make_dataset` made this very dataset: its labels are checked and of the form that a step takes."""
    return rows in _MADE_HERE
