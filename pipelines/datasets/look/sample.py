"""Some rows of files as Arrow columns, for `c2al init`: types and columns are not declared yet."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from c2al_tf.data.columns.csv_fields import CsvFormat
from c2al_tf.storage import fetched, footer

from .csv_rows import CsvRows
from .found_files import FoundFiles, check_same, spread
from .records import RecordRows

_TRAIN_SHARE = 0.75


@dataclass(frozen=True)
class Sample:
    """Some rows, those to train on first.

    Args:
        columns: The columns, each of one type; texts of CSV files are numbers where all of them read as such.
        train_rows: Number of the rows that are training rows.
        all_train_rows: Number of training rows in the files.
        exact: Whether that number is counted, not estimated.
        with_nulls: Columns with nulls somewhere, also in rows that are not in the sample.
        csv: How CSV files are written.
    """

    columns: Mapping[str, pa.Array]
    train_rows: int
    all_train_rows: int
    exact: bool
    with_nulls: frozenset[str] = frozenset()
    csv: CsvFormat | None = None

    @property
    def is_whole(self) -> bool:
        """Whether every training row was read."""
        return self.exact and self.train_rows == self.all_train_rows


def read_sample(found: FoundFiles, rows: int) -> Sample:
    """Reads at most `rows` rows, spread over the files; a quarter of them not of training files.

    Raises:
        ValueError: If a file has no rows or is damaged, or files have different columns.
    """
    if rows < 100:
        raise ValueError(f"`rows` must be at least 100: fewer tell little of a column. Received: rows={rows}")
    others = [file for split, files in found.splits.items() if split != "train" for file in files]
    train_files = found.splits["train"]
    read: _ParquetRows | CsvRows | RecordRows
    if found.format == "parquet":
        read = _ParquetRows(train_files, others)
    else:
        read = CsvRows(train_files, others) if found.format == "csv" else RecordRows()
    quota = round(_TRAIN_SHARE * rows)
    train, all_rows, exact = read.rows(train_files, quota)
    rest, _, _ = read.rows(others, rows - quota)
    # A record may lack a feature, so that files of records may lack a column.
    names = {**dict.fromkeys(train), **dict.fromkeys(rest)}
    sizes = [len(next(iter(part.values()))) for part in (train, rest)]
    columns = {}
    for name in names:
        parts = [part.get(name, pa.nulls(size)) for part, size in zip((train, rest), sizes, strict=True)]
        columns[name] = read.joined(name, parts)
    return Sample(columns, sizes[0], all_rows, exact, read.with_nulls, read.csv)


class _ParquetRows:
    csv: CsvFormat | None = None

    def __init__(self, train: Sequence[Path], others: Sequence[Path]) -> None:
        self.metadata = {path: _metadata(path) for path in (*train, *others)}
        schemas = {path: metadata.schema.to_arrow_schema() for path, metadata in self.metadata.items()}
        check_same({path: schema.names for path, schema in schemas.items()})
        with_nulls = set()
        for metadata in self.metadata.values():
            for group in map(metadata.row_group, range(metadata.num_row_groups)):
                for column in map(group.column, range(group.num_columns)):
                    statistics = column.statistics
                    if statistics is not None and statistics.has_null_count and statistics.null_count:
                        with_nulls.add(column.path_in_schema)
        self.with_nulls = frozenset(with_nulls)

    def rows(self, paths: Sequence[Path], quota: int) -> tuple[dict[str, pa.Array], int, bool]:
        groups = [(p, group) for p in paths for group in range(self.metadata[p].num_row_groups)]
        pieces = [(p, group) for p, group in groups if self.metadata[p].row_group(group).num_rows]
        total = sum(self.metadata[path].num_rows for path in paths)
        if paths and not total:
            raise ValueError(f"{paths[0]}: the file has no rows; at least one is needed")
        chosen = pieces if total <= quota else spread(pieces)
        each = quota if total <= quota else quota // len(chosen)
        tables = [pa.Table.from_batches(list(self._first_rows(path, group, each))) for path, group in chosen]
        try:
            table = pa.concat_tables(tables, promote_options="permissive")
        except pa.ArrowTypeError as error:
            raise ValueError(f"{paths[0].parent}: a column must have one type in all files. {error}") from error
        return {name: table[name].combine_chunks() for name in table.column_names}, total, True

    def _first_rows(self, path: Path, group: int, rows: int) -> Iterator[pa.RecordBatch]:
        fetched(path)
        try:
            with pq.ParquetFile(path, metadata=self.metadata[path]) as file:
                for batch in file.iter_batches(min(rows, 16_384), row_groups=[group]):
                    yield pa.record_batch([_decoded(c) for c in batch.slice(0, rows).columns], batch.schema.names)
                    rows -= batch.num_rows
                    if rows <= 0:
                        return
        except (pa.ArrowInvalid, OSError) as error:
            raise ValueError(f"{path}: row group {group} is damaged: {error}") from error

    def joined(self, name: str, parts: Sequence[pa.Array]) -> pa.Array:
        try:
            tables = [pa.table({name: part}) for part in parts]
            return pa.concat_tables(tables, promote_options="permissive")[name].combine_chunks()
        except pa.ArrowTypeError as error:
            raise ValueError(f"Column `{name}` must have one type in training and other files. {error}") from error


def _metadata(path: Path) -> pq.FileMetaData:
    stored = footer(path)
    try:
        metadata = pq.read_metadata(stored)
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"{path}: not a whole Parquet file: {error}") from error
    return metadata


def _decoded(array: pa.Array) -> pa.Array:
    """Texts as strings, decimals as numbers, the values of dictionaries; what is no such thing as it is."""
    is_list = pa.types.is_list(array.type) or pa.types.is_large_list(array.type)
    plain = _plain(array.type.value_type if is_list else array.type)
    with contextlib.suppress(pa.ArrowInvalid):  # bytes that are no UTF-8
        return array.cast(pa.list_(plain) if is_list else plain)
    return array


def _plain(stored: pa.DataType) -> pa.DataType:
    if pa.types.is_dictionary(stored):
        return _plain(stored.value_type)
    if pa.types.is_string_view(stored) or pa.types.is_binary(stored) or pa.types.is_binary_view(stored):
        return pa.string()
    if pa.types.is_decimal(stored):
        return pa.float64() if stored.scale or stored.precision > 18 else pa.int64()
    return stored
