"""tf.Example records: parsed in a graph, read from TFRecord files, written to them."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import tensorflow as tf

from ...feature import Column, DType
from ...files import replace_file
from ...types import Array, Columns
from .arrow import coded_from_arrow
from .raw import MISSING, Coded, CodedColumns, num_rows
from .wire import to_examples

TF_TYPES: dict[DType, tf.DType] = {"string": tf.string, "int64": tf.int64, "float32": tf.float32}
_WRITE_ROWS = 16_384
_KINDS: dict[DType, str] = {"string": "bytes_list", "int64": "int64_list", "float32": "float_list"}


def parse_examples(serialized: tf.Tensor, columns: Iterable[Column]) -> dict[str, tf.Tensor]:
    """Maps serialized tf.Examples (batch,) to raw columns (batch,) or (batch, length), in any graph.

    An absent or empty feature is a missing value. Values beyond a column's length are cut off.
    """
    columns = list(columns)
    parsed = _parse(serialized, {column.name: column.dtype for column in columns})
    return {column.name: _fit(parsed[column.name], column) for column in columns}


def _parse(serialized: tf.Tensor, stored: Mapping[str, DType]) -> dict[str, tf.Tensor]:
    """Maps serialized tf.Examples (batch,) to (batch, most values of a row), padded with missing values."""
    features = {
        name: tf.io.FixedLenSequenceFeature([], TF_TYPES[dtype], True, MISSING[dtype]) for name, dtype in stored.items()
    }
    return tf.io.parse_example(serialized, features)


@lru_cache(maxsize=16)
def _parser(stored: tuple[tuple[str, DType], ...]) -> Callable[[tf.Tensor], dict[str, tf.Tensor]]:
    # Traced once for all files of the same columns.
    return tf.function(
        lambda records: _parse(records, dict(stored)), input_signature=[tf.TensorSpec((None,), tf.string)]
    )


def _fit(values: tf.Tensor, column: Column) -> tf.Tensor:
    # Always padded by the full length: a static size needs no operations to compute it.
    length = column.length or 1
    missing = tf.constant(MISSING[column.dtype], values.dtype)
    values = tf.pad(values, [[0, 0], [0, length]], constant_values=missing)
    return values[:, 0] if column.length is None else tf.ensure_shape(values[:, :length], (None, length))


def read_serialized(path: Path, batch_size: int) -> Iterator[tf.Tensor]:
    """Yields the records of a TFRecord file as string tensors (batch,).

    Raises:
        ValueError: If the file is truncated or corrupt; the message says after which record.
    """
    records = tf.data.TFRecordDataset(str(path), "GZIP" if path.suffix == ".gz" else "")
    options = tf.data.Options()
    # There is nothing to tune, and the bookkeeping would double the time of a record.
    options.autotune.enabled = False
    options.experimental_optimization.apply_default_optimizations = False
    try:
        yield from records.batch(batch_size).with_options(options)
    except tf.errors.DataLossError as error:
        raise ValueError(
            f"{path}: truncated or corrupt TFRecord after record {_count_readable(records):,}; "
            f"copy the file again or write it anew. Received: {error.message}"
        ) from error


def _count_readable(records: tf.data.Dataset) -> int:
    count = 0
    try:
        for _ in records:
            count += 1
    except tf.errors.DataLossError:
        pass
    return count


class ExampleReader:
    """Maps the serialized records of one file to raw columns.

    A `"float32"` column may be stored as integers, as labels often are.

    Args:
        path: The file, for messages.
        columns: The columns to read.
        first: The file's first records: they tell which columns there are.

    Raises:
        ValueError: If none of the first records has a column.
    """

    def __init__(self, path: Path, columns: Mapping[str, Column], first: tf.Tensor) -> None:
        self.path = path
        self.columns = dict(columns)
        self.stored: dict[str, DType] = {name: column.dtype for name, column in columns.items()}
        wanted, present = set(columns), set()
        for row, record in enumerate(first.numpy()):
            features = _decode(record, path, row).features.feature
            for name in wanted & set(features):
                if self.stored[name] == "float32" and features[name].WhichOneof("kind") == "int64_list":
                    self.stored[name] = "int64"
            present |= set(features)
            wanted -= present
            if not wanted:
                return
        raise ValueError(
            f"{path}: no column `{min(wanted)}` in the first {len(first):,} records; present are "
            f"{sorted(present)}. (A null is written as a feature without values.)"
        )

    def read(self, serialized: tf.Tensor, first_row: int) -> CodedColumns:
        """Maps serialized tf.Examples (batch,) to raw columns; `first_row` is the number of the first, for messages.

        Raises:
            ValueError: If a record is no tf.Example, or a feature has the wrong type or too many values.
        """
        try:
            parsed = _parser(tuple(self.stored.items()))(serialized)
        except tf.errors.InvalidArgumentError as error:
            self._explain(serialized, first_row)
            raise ValueError(f"{self.path}: from row {first_row}: {error.message}") from error
        if any(column.length is None and parsed[name].shape[1] > 1 for name, column in self.columns.items()):
            self._explain(serialized, first_row)
        return {name: self._to_numpy(parsed[name], column, first_row) for name, column in self.columns.items()}

    def _to_numpy(self, values: tf.Tensor, column: Column, first_row: int) -> Array | Coded:
        length = column.length or 1
        array = values.numpy()[:, :length]
        if self.stored[column.name] != column.dtype:
            array = np.where(array == MISSING["int64"], np.float32("nan"), array.astype(np.float32))
        if array.shape[1] < length:
            array = np.pad(array, ((0, 0), (0, length - array.shape[1])), constant_values=MISSING[column.dtype])
        array = array[:, 0] if column.length is None else array
        if column.dtype != "string":
            return array
        try:
            text = pa.array(array.ravel(), pa.binary()).cast(pa.string())
        except pa.ArrowInvalid as error:
            raise ValueError(f"{self.path}: from row {first_row}: feature `{column.name}`: {error}") from error
        values, codes = coded_from_arrow(text, Column(column.name, "string"))
        return Coded(values, codes.reshape(array.shape))

    def _explain(self, serialized: tf.Tensor, first_row: int) -> None:
        """Raises ValueError for the first record that breaks a rule."""
        for row, record in enumerate(serialized.numpy(), first_row):
            features = _decode(record, self.path, row).features.feature
            for name, column in self.columns.items():
                kind = features[name].WhichOneof("kind") if name in features else None
                if kind is None:
                    continue
                where = f"{self.path}: row {row}: feature `{name}`"
                if kind != _KINDS[self.stored[name]]:
                    raise ValueError(f"{where} must be a {_KINDS[self.stored[name]]}. Received: {kind}")
                values = getattr(features[name], kind).value
                if column.length is None and len(values) > 1:
                    raise ValueError(f"{where} must have at most one value. Received: {len(values)} values")


def _decode(record: bytes, path: Path, row: int) -> Any:
    try:
        return tf.train.Example.FromString(record)
    # The implementation of protobuf in use decides the class of a decoding error.
    except Exception as error:
        raise ValueError(f"{path}: row {row} is not a tf.Example. Received: {record[:40]!r}") from error


def write_tfrecord(path: str | Path, batches: Iterable[Columns], columns: Mapping[str, Column]) -> None:
    """Writes batches of raw columns as tf.Examples, compressed where `path` ends in `.gz`."""
    with replace_file(path) as temporary:
        compression = "GZIP" if Path(path).suffix == ".gz" else ""
        with tf.io.TFRecordWriter(str(temporary), compression) as writer:
            for batch in batches:
                for start in range(0, num_rows(batch), _WRITE_ROWS):
                    part = {name: batch[name][start : start + _WRITE_ROWS] for name in columns}
                    for example in to_examples(part, columns):
                        writer.write(example)
