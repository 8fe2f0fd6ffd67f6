"""Parquet, CSV and TFRecord files as batches of raw columns."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ...schema import Column
from ...types import Array, Columns
from .arrow import ARROW_TYPES, check_type, coded_from_arrow
from .csv_fields import CsvFormat, read_names, read_texts
from .raw import Coded, CodedColumns, num_rows, rebatch

Paths: TypeAlias = str | Path | Sequence[str | Path]

_SUFFIXES = (".parquet", ".csv", ".csv.gz", ".tfrecord", ".tfrecord.gz")


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
) -> Iterator[Columns]:
    """Yields batches of raw columns, in the order of the files and of their rows.

    The format follows from the name: `.parquet`, `.csv`, `.csv.gz`, `.tfrecord` or `.tfrecord.gz`, and the batches do
    not depend on it. No batch spans two files. A multi-valued column is a list in Parquet, several values in a
    tf.Example and separated by `|` in CSV; values beyond `length` are cut off.

    Args:
        paths: Files.
        columns: Columns to read; others are ignored.
        batch_size: Rows per batch; the last of a file may be smaller.
        csv_format: How CSV files are written.
        first_row: First row to read in each file, from 0.

    Raises:
        ValueError: If a file is absent, empty, corrupt, lacks a column, or holds a value of a wrong type.
    """
    for path in as_paths(paths):
        chunks = read_chunks(path, columns, batch_size, csv_format)
        yield from rebatch(_load_from(chunks, first_row), batch_size)


def _load_from(chunks: Iterable[Chunk], first_row: int) -> Iterator[Columns]:
    for chunk in chunks:
        skipped = max(first_row - chunk.first_row, 0)
        if skipped < chunk.num_rows:
            yield {name: values[skipped:] for name, values in _decoded(chunk.load()).items()}


def _decoded(columns: CodedColumns) -> Columns:
    return {name: values.decode() if isinstance(values, Coded) else values for name, values in columns.items()}


def as_paths(paths: Paths) -> list[Path]:
    """Returns one path or several as a list.

    Raises:
        ValueError: If there is none, one is not a file, or one has an unknown format.
    """
    files = [Path(paths)] if isinstance(paths, str | Path) else [Path(path) for path in paths]
    if not files:
        raise ValueError("`paths` must name at least one file. Received: paths=[]")
    for path in files:
        if not path.name.endswith(_SUFFIXES):
            raise ValueError(f"{path}: the name must end in one of {', '.join(_SUFFIXES)}")
        if not path.is_file():
            there = sorted(p.name for p in path.parent.iterdir())[:10] if path.parent.is_dir() else []
            raise ValueError(f"{path}: no such file. Its folder holds {there}")
    return files


def read_chunks(
    path: Path, columns: Mapping[str, Column], size: int, csv_format: CsvFormat | None = None
) -> Iterator[Chunk]:
    """Yields the chunks of a file: the row groups of a Parquet file, elsewhere `size` rows each."""
    if path.name.endswith(".parquet"):
        return _parquet_chunks(path, columns)
    if path.name.endswith((".csv", ".csv.gz")):
        return _csv_chunks(path, columns, size, csv_format or CsvFormat())
    return _tfrecord_chunks(path, columns, size)


def count_rows(paths: Paths, csv_format: CsvFormat | None = None) -> int:
    """Returns the number of rows in files; from the footer of a Parquet file, by reading the others once."""
    count = 0
    for path in as_paths(paths):
        stat = path.stat()
        count += _count_rows(path, csv_format or CsvFormat(), (stat.st_size, stat.st_mtime_ns))
    return count


@lru_cache(maxsize=65_536)
def _count_rows(path: Path, csv_format: CsvFormat, version: tuple[int, int]) -> int:
    # `version` is part of the cache key alone: a file that has changed is counted again.
    if path.name.endswith(".parquet"):
        return _open_parquet(path).num_rows
    if path.name.endswith((".csv", ".csv.gz")):
        first = _csv_names(path, csv_format)[0]
        return sum(num_rows(block) for block in read_texts(path, [first], csv_format))
    from .examples import read_serialized  # loads TensorFlow, which the other formats do not need

    return sum(len(batch) for batch in read_serialized(path, 65_536))


def _check_present(path: Path, columns: Mapping[str, Column], present: Sequence[str]) -> None:
    for name in columns:
        if name not in present:
            raise ValueError(f"{path}: no column `{name}`; present are {sorted(present)}")
        if present.count(name) > 1:
            raise ValueError(
                f"{path}: a column's name must be its own; rename or drop the others. "
                f"Received: {present.count(name)} columns `{name}`"
            )


def _no_rows(path: Path) -> ValueError:
    return ValueError(f"{path}: the file has no rows; at least one is needed")


def _open_parquet(path: Path) -> pq.FileMetaData:
    try:
        return pq.read_metadata(path)
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path}: not a whole Parquet file: {error}") from error


def _parquet_chunks(path: Path, columns: Mapping[str, Column]) -> Iterator[Chunk]:
    metadata = _open_parquet(path)
    schema = metadata.schema.to_arrow_schema()
    _check_present(path, columns, schema.names)
    for column in columns.values():
        check_type(schema.field(column.name).type, column, str(path))
    if metadata.num_rows == 0:
        raise _no_rows(path)
    first_row = 0
    for group in range(metadata.num_row_groups):
        rows = metadata.row_group(group).num_rows
        load = partial(_load_row_group, path, metadata, group, columns, first_row)
        yield Chunk(path, first_row, rows, load)
        first_row += rows


def _load_row_group(
    path: Path, metadata: pq.FileMetaData, group: int, columns: Mapping[str, Column], first_row: int
) -> CodedColumns:
    try:
        with pq.ParquetFile(path, metadata=metadata) as file:
            table = file.read_row_group(group, list(columns))
        return {name: coded_from_arrow(table[name], column) for name, column in columns.items()}
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"{path}: row group {group}, from row {first_row}: {error}") from error


def _csv_chunks(path: Path, columns: Mapping[str, Column], size: int, csv_format: CsvFormat) -> Iterator[Chunk]:
    _check_present(path, columns, _csv_names(path, csv_format))
    first_row = 0
    for batch in rebatch(read_texts(path, list(columns), csv_format), size):
        rows = num_rows(batch)
        yield Chunk(path, first_row, rows, partial(_convert_texts, batch, columns, path, first_row))
        first_row += rows
    if first_row == 0:
        raise _no_rows(path)


def _csv_names(path: Path, csv_format: CsvFormat) -> Sequence[str]:
    names = read_names(path, csv_format)
    if not names:
        raise _no_rows(path)
    return names


def _convert_texts(batch: Columns, columns: Mapping[str, Column], path: Path, first_row: int) -> CodedColumns:
    return {name: _convert_text(pa.array(batch[name]), c, path, first_row) for name, c in columns.items()}


def _convert_text(texts: pa.Array, column: Column, path: Path, first_row: int) -> Array | Coded:
    if column.length is None and column.dtype == "string":
        return coded_from_arrow(texts, column)
    texts = pc.if_else(pc.equal(texts, ""), None, texts)
    dtype = ARROW_TYPES[column.dtype]
    if column.length is not None:
        texts, dtype = pc.split_pattern(texts, "|"), pa.list_(dtype)
    try:
        return coded_from_arrow(texts.cast(dtype), column)
    except pa.ArrowInvalid:
        for row, text in enumerate(texts, first_row):
            try:
                text.cast(dtype)
            except pa.ArrowInvalid as error:
                raise ValueError(
                    f"{path}: row {row}: field `{column.name}` must be of type {dtype}. Received: {text.as_py()!r}"
                ) from error
        raise


def _tfrecord_chunks(path: Path, columns: Mapping[str, Column], size: int) -> Iterator[Chunk]:
    from .examples import ExampleReader, read_serialized  # loads TensorFlow, which the other formats do not need

    reader = None
    first_row = 0
    for serialized in read_serialized(path, size):
        reader = reader or ExampleReader(path, columns, serialized)
        yield Chunk(path, first_row, len(serialized), partial(reader.read, serialized, first_row))
        first_row += len(serialized)
    if first_row == 0:
        raise _no_rows(path)
