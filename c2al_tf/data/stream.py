"""The order of rows: a stream of blocks that depends on the files, the seed and the epoch, and on nothing else."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path

import numpy as np

from ..schema import Column
from ..types import Columns
from .raw import concatenate, num_rows, rebatch
from .readers import Chunk, CsvFormat, read_chunks

WINDOW_ROWS = 524_288
_CHUNK_ROWS = 65_536


def read_blocks(
    paths: Sequence[Path],
    columns: Mapping[str, Column],
    block_rows: int,
    *,
    shuffle: tuple[int, int] | None,
    skip_rows: int = 0,
    csv_format: CsvFormat | None = None,
    check: Callable[[Columns, str, int], None] | None = None,
) -> Iterator[Columns]:
    """Yields blocks of raw columns; the last one may be smaller.

    Shuffled, the row groups of Parquet files and the files of other formats come in a random order; their rows are
    collected into windows of at least `WINDOW_ROWS` rows, and a window's rows are permuted. So a window is held in
    memory, and rows mix further the more there are of it and the smaller the row groups are.

    Args:
        paths: Files.
        columns: What to read.
        block_rows: Rows per block.
        shuffle: (seed, epoch) that the order follows from; None keeps the order of the files.
        skip_rows: Rows to leave out at the start; whole windows of them are not even read from Parquet.
        csv_format: How CSV files are written.
        check: Called with the rows of each chunk, its file and its first row.
    """

    def load(chunk: Chunk) -> Columns:
        rows = chunk.load()
        if check is not None:
            check(rows, str(chunk.path), chunk.first_row)
        return rows

    def windows() -> Iterator[Columns]:
        left = skip_rows
        chunks = _chunks(paths, columns, shuffle, csv_format)
        parts = _windows(chunks, 1 if shuffle is None else WINDOW_ROWS)
        for number, window in enumerate(parts, start=1):
            rows = sum(chunk.num_rows for chunk in window)
            if left >= rows:
                left -= rows
                continue
            block = concatenate([load(chunk) for chunk in window])
            if shuffle is not None:
                # A generator per window, so that a skipped one draws nothing. From 1, as to NumPy (seed, epoch, 0) is
                # (seed, epoch), which draws the order of the chunks.
                order = np.random.default_rng([*shuffle, number]).permutation(rows)[left:]
                block = {name: values[order] for name, values in block.items()}
            elif left:
                block = {name: values[left:] for name, values in block.items()}
            left = 0
            yield block

    return rebatch(windows(), block_rows)


def _chunks(
    paths: Sequence[Path],
    columns: Mapping[str, Column],
    shuffle: tuple[int, int] | None,
    csv_format: CsvFormat | None,
) -> Iterator[Chunk]:
    units: list[Iterator[Chunk]] = []
    for path in paths:
        chunks = read_chunks(path, columns, _CHUNK_ROWS, csv_format)
        # A Parquet file's chunks are known from its footer; the others are found by reading.
        units += [iter([chunk]) for chunk in chunks] if path.name.endswith(".parquet") else [chunks]
    if shuffle is not None:
        units = [units[i] for i in np.random.default_rng(shuffle).permutation(len(units))]
    return chain.from_iterable(units)


def _windows(chunks: Iterator[Chunk], rows: int) -> Iterator[list[Chunk]]:
    window: list[Chunk] = []
    for chunk in chunks:
        window.append(chunk)
        if sum(held.num_rows for held in window) >= rows:
            yield window
            window = []
    if window:
        yield window


def pad(block: Columns, size: int) -> tuple[Columns, int]:
    """Repeats the last row until the number of rows is a multiple of `size`; returns also how many rows are real."""
    rows = num_rows(block)
    missing = -rows % size
    return {name: np.concatenate([v, np.repeat(v[-1:], missing, axis=0)]) for name, v in block.items()}, rows
