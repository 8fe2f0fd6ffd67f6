"""Parquet, CSV and TFRecord files as batches of raw columns."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import chain
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ...names import stored_names
from ...schema import Column
from ...storage import fetched, footer, stat_of
from ...types import Array, Columns
from .arrow import check_type, coded_from_arrow, explain_bad_values
from .bad_rows import bad_rows_error
from .csv_fields import CsvFormat, convert_texts, read_names, read_texts
from .formats import FileFormat, Paths, as_paths, format_of
from .partitions import split_columns, with_folders
from .raw import Coded, CodedColumns, num_rows, rebatch


@dataclass(frozen=True)
class Chunk:
    """Some consecutive rows of a file, read when they are needed.

    Args:
        path: The file.
        first_row: Number of the first row in its file, from 0.
        num_rows: Number of rows.
        load: Reads them, with strings coded.
    """

    path: Path
    first_row: int
    num_rows: int
    load: Callable[[], CodedColumns]


def read_columns(
    paths: Paths,
    columns: Mapping[str, Column],
    batch_size: int = 65_536,
    csv_format: CsvFormat | None = None,
    first_row: int = 0,
    file_format: FileFormat | None = None,
) -> Iterator[Columns]:
    """Yields batches of raw columns, in the order of the files and of their rows.

    The format follows from the name, such as `.parquet`, `.csv.gz` or `.tfrecord-00000-of-00010`, else from the first
    bytes, and the batches do not depend on it. No batch spans two files. A multi-valued column is a list in Parquet,
    several values in a tf.Example and separated by `|` in CSV; values beyond `length` are cut off. A column is
    stored under its own name, else under one that `names.input_name` maps to it; a column that a file lacks and one of
    its folders names, such as `day=2026-11-26`, has that value in all of the file's rows, in a TFRecord
    file in those without a value.

    Args:
        paths: Files, folders of them, or patterns; see `as_paths`.
        columns: Columns to read; others are ignored.
        batch_size: Rows per batch; the last of a file may be smaller.
        csv_format: How CSV files are written.
        first_row: First row to read, from 0, counted over all files.
        file_format: Format of all files, whatever their names.

    Raises:
        ValueError: If a file is absent, corrupt, lacks a column, or holds a value of a wrong type; if all are empty.

    Warns:
        UserWarning: Of an empty file among others, which is skipped.
    """
    for _, batches in read_files(paths, columns, batch_size, csv_format, first_row, file_format):
        yield from batches


def read_files(
    paths: Paths,
    columns: Mapping[str, Column],
    batch_size: int = 65_536,
    csv_format: CsvFormat | None = None,
    first_row: int = 0,
    file_format: FileFormat | None = None,
) -> Iterator[tuple[Path, Iterator[Columns]]]:
    """As `read_columns`, each file with batches of its own, which are read before the next file's."""
    files = as_paths(paths)
    empty = 0
    for path in files:
        chunks = read_chunks(fetched(path), columns, batch_size, csv_format, file_format)
        first = next(chunks, None)
        if first is not None:
            passed: list[int] = []  # rows of the chunks, all of which have passed when the next file is asked for
            yield path, rebatch(_load_from(chain([first], chunks), first_row, passed), batch_size)
            first_row = max(first_row - sum(passed), 0)
            continue
        empty += 1
        if empty == len(files):
            raise no_rows(path)
        warnings.warn(f"{path}: the file has no rows; it is skipped", stacklevel=2)


def _load_from(chunks: Iterable[Chunk], first_row: int, passed: list[int]) -> Iterator[Columns]:
    for chunk in chunks:
        passed.append(chunk.num_rows)
        skipped = max(first_row - chunk.first_row, 0)
        if skipped < chunk.num_rows:
            yield {name: values[skipped:] for name, values in decoded(chunk.load()).items()}


def decoded(columns: CodedColumns) -> Columns:
    """Raw columns, of which some strings are coded, without codes."""
    return {name: values.decode() if isinstance(values, Coded) else values for name, values in columns.items()}


def read_chunks(
    path: Path,
    columns: Mapping[str, Column],
    size: int,
    csv_format: CsvFormat | None = None,
    file_format: FileFormat | None = None,
) -> Iterator[Chunk]:
    """Yields the chunks of a file: the row groups of a Parquet file, elsewhere `size` rows each; none without rows."""
    if _has_no_bytes(path):
        return iter(())
    file_format = file_format or format_of(path)
    if file_format == "parquet":
        return _parquet_chunks(path, columns)
    if file_format == "csv":
        return _csv_chunks(path, columns, size, csv_format or CsvFormat())
    return _tfrecord_chunks(path, columns, size)


def count_rows(paths: Paths, csv_format: CsvFormat | None = None, file_format: FileFormat | None = None) -> int:
    """Returns the number of rows in files; from the footer of a Parquet file, by reading the others once."""
    count = 0
    for path in as_paths(paths):
        count += _count_rows(path, csv_format or CsvFormat(), file_format, stat_of(path))
    return count


@lru_cache(maxsize=65_536)
def _count_rows(path: Path, csv_format: CsvFormat, file_format: FileFormat | None, version: tuple[int, int]) -> int:
    # `version` is part of the cache key alone: a file that has changed is counted again.
    if _has_no_bytes(path):
        return 0
    file_format = file_format or format_of(path)
    if file_format == "parquet":
        return _open_parquet(path).num_rows
    if file_format == "csv":
        names = read_names(path, csv_format)
        return sum(num_rows(block) for block in read_texts(path, names[:1], csv_format)) if names else 0
    from .examples import read_serialized  # loads TensorFlow, which the other formats do not need

    return sum(len(batch) for batch in read_serialized(path, 65_536))


def _has_no_bytes(path: Path) -> bool:
    return stat_of(path)[0] == 0


def no_rows(path: Path) -> ValueError:
    """The error for files that have none, of which one is named."""
    return ValueError(f"{path}: the file has no rows; at least one is needed")


def _open_parquet(path: Path) -> pq.FileMetaData:
    stored = footer(path)
    try:
        return pq.read_metadata(stored)
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path}: not a whole Parquet file: {error}") from error


def _parquet_chunks(path: Path, columns: Mapping[str, Column]) -> Iterator[Chunk]:
    metadata = _open_parquet(path)
    schema = metadata.schema.to_arrow_schema()
    own, folders = split_columns(path, columns, schema.names)
    stored = stored_names(path, own, schema.names)
    for name, column in own.items():
        check_type(schema.field(stored[name]).type, column, str(path))
    first_row = 0
    for group in range(metadata.num_row_groups):
        rows = metadata.row_group(group).num_rows
        load = partial(_load_row_group, path, metadata, group, own, stored, first_row)
        if rows:
            yield Chunk(path, first_row, rows, partial(with_folders, load, folders, rows))
        first_row += rows


def _load_row_group(
    path: Path,
    metadata: pq.FileMetaData,
    group: int,
    columns: Mapping[str, Column],
    stored: Mapping[str, str],
    first_row: int,
) -> CodedColumns:
    fetched(path)
    try:
        with pq.ParquetFile(path, metadata=metadata) as file:
            table = file.read_row_group(group, list(stored.values()))
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"{path}: row group {group}, from row {first_row}: {error}") from error
    return {name: _from_table(table[stored[name]], column, path, first_row) for name, column in columns.items()}


def _from_table(array: pa.ChunkedArray, column: Column, path: Path, first_row: int) -> Array | Coded:
    try:
        return coded_from_arrow(array, column)
    except pa.ArrowInvalid as error:
        if found := explain_bad_values(array, column, first_row):
            raise bad_rows_error(str(path), found) from error
        raise ValueError(f"{path}: from row {first_row}: column `{column.name}`: {error}") from error


def _csv_chunks(path: Path, columns: Mapping[str, Column], size: int, csv_format: CsvFormat) -> Iterator[Chunk]:
    names = read_names(path, csv_format)
    if not names:
        return
    own, folders = split_columns(path, columns, names)
    stored = stored_names(path, own, names)
    first_row = 0
    for batch in rebatch(read_texts(path, list(stored.values()) or names[:1], csv_format), size):
        rows = num_rows(batch)
        texts = {name: batch[stored[name]] for name in own}
        load = partial(convert_texts, texts, own, csv_format, path, first_row)
        yield Chunk(path, first_row, rows, partial(with_folders, load, folders, rows))
        first_row += rows


def _tfrecord_chunks(path: Path, columns: Mapping[str, Column], size: int) -> Iterator[Chunk]:
    from .examples import ExampleReader, read_serialized  # loads TensorFlow, which the other formats do not need

    reader = None
    first_row = 0
    for serialized in read_serialized(path, size):
        reader = reader or ExampleReader(path, columns, serialized)
        yield Chunk(path, first_row, len(serialized), partial(reader.read, serialized, first_row))
        first_row += len(serialized)
