"""tf.Example records, read from TFRecord files and written to them."""

import contextlib
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import tensorflow as tf

from ...feature import Column, DType
from ...files import replace_file
from ...names import input_name, stored_names
from ...storage import fetched, local_path
from ...types import Array, Columns
from .arrow import coded_from_arrow
from .formats import is_gzip
from .parsing import KINDS, parse_any_kind, parse_as_stored
from .partitions import fill_missing, split_columns
from .raw import MISSING, Coded, CodedColumns, num_rows
from .wire import to_examples

_WRITE_ROWS = 16_384


@lru_cache(maxsize=16)
def _parser(
    dtypes: tuple[tuple[str, DType], ...], integers: frozenset[str] | None
) -> Callable[[tf.Tensor], dict[str, tf.Tensor]]:
    """Traced once for all files of the same columns. Without `integers` a float32 column may be stored as either."""

    def parse(serialized: tf.Tensor) -> dict[str, tf.Tensor]:
        if integers is None:
            return parse_any_kind(serialized, dict(dtypes))
        return parse_as_stored(serialized, dict(dtypes), integers)

    return tf.function(parse, [tf.TensorSpec((None,), tf.string)], autograph=False)


def read_serialized(path: Path, batch_size: int) -> Iterator[tf.Tensor]:
    """Yields the records of a TFRecord file as string tensors (batch,).

    Raises:
        ValueError: If the file is truncated or corrupt; the message says after which record.
    """
    records = tf.data.TFRecordDataset(str(fetched(path)), "GZIP" if is_gzip(path) else "")
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
    """Maps the serialized records of one file to raw columns; `parsing` says how they may be stored.

    Warns if none of the first records has a column: it may be misspelt, and a record without it has no value.

    Args:
        path: The file, for messages.
        columns: The columns to read.
        first: The file's first records. The kind in which they hold a float32 column is expected of the others too:
            parsing each record in its own kind takes several times as long.
    """

    def __init__(self, path: Path, columns: Mapping[str, Column], first: tf.Tensor) -> None:
        self.path = path
        others, self._folders = split_columns(path, columns, ())
        kinds = self._kinds(others, first)
        found = [name for name in columns if name in kinds or name in map(input_name, kinds)]
        if absent := sorted(others.keys() - {*found}):
            warnings.warn(
                f"{path}: none of the first {len(first):,} records has the features {absent}: they are read as "
                f"missing. Present are {sorted(kinds)}",
                stacklevel=2,
            )
        self._stored = {name: name for name in columns} | stored_names(path, found, list(kinds))
        self.columns = {self._stored[name]: column for name, column in columns.items()}
        floats = (stored for stored, column in self.columns.items() if column.dtype == "float32")
        self.integers: frozenset[str] | None = frozenset(name for name in floats if kinds.get(name) == "int64_list")

    @property
    def renamed(self) -> dict[str, str]:
        """The columns that the records have under another name, with it."""
        return {name: stored for name, stored in self._stored.items() if name != stored}

    @property
    def of_folders(self) -> frozenset[str]:
        """The columns that folders of the file name: a record without a value of such a column has its folder's."""
        return frozenset(self._folders)

    def _kinds(self, columns: Mapping[str, Column], first: tf.Tensor) -> dict[str, str | None]:
        """The features of the first records, as many as it takes to find all columns with a value.

        Each comes with the kind in which the first record with a value of it holds it.
        """
        kinds: dict[str, str | None] = {}
        with_value: set[str] = set()
        as_inputs: set[str] = set()
        for row, record in enumerate(first.numpy()):
            features = _decode(record, self.path, row).features.feature
            for name in features.keys() - with_value:
                kinds[name] = features[name].WhichOneof("kind")
                if kinds[name]:
                    with_value.add(name)
                    as_inputs |= {name, input_name(name)}
            if columns.keys() <= as_inputs:
                break
        return kinds

    def read(self, serialized: tf.Tensor, first_row: int) -> CodedColumns:
        """Maps serialized tf.Examples (batch,) to raw columns; `first_row` is the number of the first, for messages.

        Raises:
            ValueError: If a record is no tf.Example, or a feature has the wrong type or too many values.
        """
        parsed = self._parse(serialized, first_row)
        if any(column.length is None and parsed[name].shape[1] > 1 for name, column in self.columns.items()):
            self._explain(serialized, first_row)
        read = {
            name: self._to_numpy(parsed[stored], self.columns[stored], first_row)
            for name, stored in self._stored.items()
        }
        return read | {
            name: fill_missing(read[name], value, self.columns[self._stored[name]])
            for name, value in self._folders.items()
        }

    def _parse(self, serialized: tf.Tensor, first_row: int) -> dict[str, tf.Tensor]:
        dtypes = tuple((name, column.dtype) for name, column in self.columns.items())
        if self.integers is not None:
            with contextlib.suppress(tf.errors.InvalidArgumentError):
                return _parser(dtypes, self.integers)(serialized)
        try:
            parsed = _parser(dtypes, None)(serialized)
        except (tf.errors.InvalidArgumentError, tf.errors.DataLossError) as error:
            self._explain(serialized, first_row)
            raise ValueError(f"{self.path}: from row {first_row}: {error.message}") from error
        self.integers = None  # Records that differ come again.
        return parsed

    def _to_numpy(self, values: tf.Tensor, column: Column, first_row: int) -> Array | Coded:
        length = column.length or 1
        array = values.numpy()[:, :length]
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
                values = getattr(features[name], kind).value
                if kind not in KINDS[column.dtype] and (values or column.dtype != "float32"):
                    raise ValueError(f"{where} must be a {' or '.join(KINDS[column.dtype])}. Received: {kind}")
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
        compression = "GZIP" if local_path(path).suffix == ".gz" else ""
        with tf.io.TFRecordWriter(str(temporary), compression) as writer:
            for batch in batches:
                for start in range(0, num_rows(batch), _WRITE_ROWS):
                    part = {name: batch[name][start : start + _WRITE_ROWS] for name in columns}
                    for example in to_examples(part, columns):
                        writer.write(example)
