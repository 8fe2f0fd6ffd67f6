"""Files of rows as pieces that one worker reads after another, each with the numbers of its rows among all rows."""

import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from c2al_tf.data.columns.csv_fields import CsvFormat
from c2al_tf.data.columns.formats import FileFormat, Paths, as_paths, format_of
from c2al_tf.data.columns.raw import num_rows, rebatch
from c2al_tf.data.columns.readers import count_rows, decoded, no_rows, read_chunks
from c2al_tf.feature import Column
from c2al_tf.storage import fetched, footer, is_there, of_shown, shown
from c2al_tf.types import Array, Columns

PIECE_ROWS = 1 << 20
"""Rows of a piece at most, unless a row group is larger or the file is no Parquet file: that is one piece."""
BATCH_ROWS = 1 << 18
"""Rows that are held at a time."""
JOB, SUCCESS = "_job.json", "_SUCCESS"
"""Files beside scored ones: what these are made from, and that they are complete."""


@dataclass(frozen=True)
class Piece:
    """Consecutive rows of a file.

    Args:
        path: The file.
        start: Number of the first row in its file.
        stop: Number of the row after the last one.
        first_row: Number of the first row among the rows of all files.
    """

    path: Path
    start: int
    stop: int
    first_row: int

    @property
    def num_rows(self) -> int:
        """Number of rows."""
        return self.stop - self.start

    def __reduce__(self) -> Any:  # a worker on another machine has its copies elsewhere
        return _as_sent, (shown(self.path), self.start, self.stop, self.first_row)


def _as_sent(place: str, *numbers: int) -> Piece:
    return Piece(of_shown(place), *numbers)


def list_pieces(
    paths: Paths,
    rows: int = PIECE_ROWS,
    csv_format: CsvFormat | None = None,
    file_format: FileFormat | None = None,
) -> list[Piece]:
    """The pieces of files, in order: of Parquet files row groups, as many as have at most so many rows; others whole.

    Args:
        paths: Files, folders of them, or patterns.
        rows: Most rows of a piece.
        csv_format: How CSV files are written.
        file_format: Format of all files, whatever their names.

    Raises:
        ValueError: If a file is absent or corrupt, all are empty, or they are there in part only.

    Warns:
        UserWarning: Of an empty file among others, which is skipped.
    """
    pieces: list[Piece] = []
    files, first_row = [path.absolute() for path in as_paths(paths)], 0
    for folder in {path.parent for path in files}:
        if is_there(folder / JOB) and not is_there(folder / SUCCESS):
            raise ValueError(
                f"{folder}: not all rows are there yet: the command that writes them goes on if called again"
            )
    for path in files:
        in_file = count_rows(path, csv_format, file_format)
        if not in_file:
            warnings.warn(f"{path}: the file has no rows; it is skipped", stacklevel=2)
        for start, stop in _bounds(path, file_format or format_of(path), in_file, rows) if in_file else ():
            pieces.append(Piece(path, start, stop, first_row + start))
        first_row += in_file
    if not pieces:
        raise no_rows(files[0])
    return pieces


def _bounds(path: Path, file_format: FileFormat, in_file: int, rows: int) -> Iterator[tuple[int, int]]:
    if file_format != "parquet":
        yield 0, in_file
        return
    metadata = pq.read_metadata(footer(path))
    start = stop = 0
    for group in range(metadata.num_row_groups):
        of_group = metadata.row_group(group).num_rows
        if stop > start and stop + of_group - start > rows:
            yield start, stop
            start = stop
        stop += of_group
    yield start, stop


def read_piece(
    piece: Piece,
    columns: Mapping[str, Column],
    rows: int = BATCH_ROWS,
    csv_format: CsvFormat | None = None,
    file_format: FileFormat | None = None,
) -> Iterator[tuple[Array, Columns]]:
    """Yields batches of a piece: the numbers of the rows among all rows (rows,), and their raw columns.

    Args:
        piece: Which rows of which file.
        columns: Columns to read.
        rows: Rows of a batch.
        csv_format: How CSV files are written.
        file_format: Format of the file, whatever its name.

    Raises:
        ValueError: If the file lacks a column, holds a value of a wrong type, or has changed.
    """
    chunks = (
        chunk
        for chunk in read_chunks(fetched(piece.path), columns, rows, csv_format, file_format)
        if piece.start <= chunk.first_row < piece.stop
    )
    first_row = piece.first_row
    for batch in rebatch((decoded(chunk.load()) for chunk in chunks), rows):
        yield np.arange(first_row, first_row + num_rows(batch)), batch
        first_row += num_rows(batch)
    if first_row - piece.first_row != piece.num_rows:
        raise ValueError(
            f"{piece.path}: the file must stay as it is meanwhile. Received: {first_row - piece.first_row:,} rows, "
            f"where there were {piece.num_rows:,}"
        )


def sum_batches(piece: Piece, columns: Mapping[str, Column], count: Callable[[Array, Columns], Any]) -> Any:
    """The sum of what is counted in each batch of a piece.

    Raises:
        ValueError: What `count` raises, with the file and its row that the batch begins with.
    """
    found: Any = 0
    for numbers, batch in read_piece(piece, columns):
        try:
            found = found + count(numbers, batch)
        except ValueError as error:
            start = numbers[0] - piece.first_row + piece.start
            raise ValueError(f"{piece.path}: among the {len(numbers):,} rows from row {start:,} on: {error}") from error
    return found
