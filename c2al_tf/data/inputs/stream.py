"""The order of rows: a stream of batches that depends on the files, the seed and the epoch, and on nothing else."""

import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...schema import Column
from ...types import Array
from ..columns.raw import CodedColumns, Mask, take_rows
from ..columns.readers import Chunk, CsvFormat, count_rows, read_chunks
from .sharding import WHOLE, Shard, deal

WINDOW_ROWS = 524_288
# What one call encodes: few enough to stay in a processor's cache.
_CHUNK_ROWS = 16_384
_OPEN_FILES = 16

Words = NDArray[np.int32]
"""Encoded rows (rows, width)."""

Check = Callable[[CodedColumns, str, int], None]
"""Raises ValueError for a bad row, given the rows of a chunk, its file and its first row."""

Encode = Callable[[CodedColumns, Mask], Words]
"""Encodes rows, given which of them are real: the others are padding and must have weight 0."""


@dataclass(frozen=True)
class Order:
    """How rows are ordered, cut into batches and shared.

    Args:
        batch_size: Rows per batch, of all workers together.
        shuffle: (seed, epoch) that the order follows from; None keeps that of the files.
        skip_batches: Batches to leave out at the start. Windows of them are not even read from Parquet.
        drop_remainder: Leaves the last, smaller batch out instead of filling it up with repetitions of its last row.
        shard: What a worker gets of them.
    """

    batch_size: int
    shuffle: tuple[int, int] | None = None
    skip_batches: int = 0
    drop_remainder: bool = False
    shard: Shard = WHOLE


@dataclass(frozen=True)
class _Batches:
    """The stream that this process sees: `size` rows a batch, of which those from `first` to `stop` are its own."""

    size: int
    first: int
    stop: int
    total: int | None

    def own_before(self, position: int) -> int:
        """How many of this process's rows the batch that is begun at `position` already has."""
        return min(max(position % self.size, self.first), self.stop) - self.first


@dataclass(frozen=True)
class _Window:
    """Chunks whose rows are permuted together, and the rows that this process takes of them, in the stream's order."""

    chunks: list[Chunk]
    rows: Array
    is_real: Mask
    num_begun: int
    num_batches: int


def read_blocks(
    paths: Sequence[Path],
    columns: Mapping[str, Column],
    check: Check,
    encode: Encode,
    width: int,
    order: Order,
    *,
    batches_per_block: int,
    csv_format: CsvFormat | None = None,
) -> Iterator[Words]:
    """Yields blocks of whole batches, (batches, rows, width).

    Shuffled, the row groups of Parquet files and the files of other formats come in a random order, of the latter
    several by turns, a chunk at a time. Rows are collected into windows of at least `WINDOW_ROWS` rows, and a window's
    rows are permuted. So three windows are held in memory at most, one in use and two being loaded, and rows mix
    further the larger they are and the smaller the row groups.

    Args:
        paths: Files.
        columns: What to read.
        check: Checks rows; like `encode` called from several threads.
        encode: Encodes rows.
        width: Width of what it gives.
        order: The order of the rows.
        batches_per_block: Most batches in a block.
        csv_format: How CSV files are written.
    """
    chunks, batches = _chunks_and_batches(paths, columns, order, csv_format)
    # One in use, one being loaded, and one whose records are read; unshuffled, a chunk is a window.
    window_rows, num_windows = (1, 2 + _num_threads()) if order.shuffle is None else (WINDOW_ROWS, 3)
    windows = _plan(_windows(chunks, window_rows), batches, order)
    size = batches.stop - batches.first
    begun = np.empty((0, width), np.int32)
    for num_batches, words in _load(windows, check, encode, width, num_windows):
        words[: len(begun)] = begun
        whole, begun = words[: num_batches * size], words[num_batches * size :].copy()
        for start in range(0, len(whole), batches_per_block * size):
            yield whole[start : start + batches_per_block * size].reshape(-1, size, width)
        del words, whole


def _chunks_and_batches(
    paths: Sequence[Path], columns: Mapping[str, Column], order: Order, csv_format: CsvFormat | None
) -> tuple[Iterator[Chunk], _Batches]:
    units: list[tuple[Path, Iterator[Chunk], int | None]] = []
    for path in paths:
        chunks = read_chunks(path, columns, _CHUNK_ROWS, csv_format)
        if path.name.endswith(".parquet"):
            # A Parquet file's chunks are known from its footer; the others are found by reading.
            units += [(path, iter([chunk]), chunk.num_rows) for chunk in chunks]
        else:
            units.append((path, chunks, None))
    if order.shuffle is not None:
        units = [units[i] for i in np.random.default_rng(order.shuffle).permutation(len(units))]
    own = order.shard.batch_rows(order.batch_size)
    batches = _Batches(order.batch_size, order.shard.index * own, (order.shard.index + 1) * own, None)
    if order.shard.by == "files":
        sizes = [count_rows(path, csv_format) if rows is None else rows for path, _, rows in units]
        hands = deal(list(zip(units, sizes, strict=True)), sizes, order.shard.count)
        units = [unit for unit, _ in hands[order.shard.index]]
        totals = [sum(size for _, size in hand) for hand in hands]
        if not min(totals):
            raise ValueError(
                f"`shard` by files needs a file, or a row group of a Parquet file, for each of its workers. "
                f"Received: count={order.shard.count}, and {len(sizes)} of them"
            )
        total = min(totals) // own * own if order.drop_remainder else -(-max(totals) // own) * own
        batches = _Batches(own, 0, own, total)
    streams = [chunks for _, chunks, _ in units]
    return (chain.from_iterable(streams) if order.shuffle is None else _by_turns(streams)), batches


def _by_turns(streams: list[Iterator[Chunk]]) -> Iterator[Chunk]:
    waiting = iter(streams)
    turns = deque(islice(waiting, _OPEN_FILES))
    while turns:
        stream = turns.popleft()
        chunk = next(stream, None)
        if chunk is None:
            turns.extend(islice(waiting, 1))
        else:
            turns.append(stream)
            yield chunk


def _windows(chunks: Iterator[Chunk], rows: int) -> Iterator[tuple[list[Chunk], bool]]:
    """Yields chunks of at least `rows` rows together, and whether they are the last."""
    window: list[Chunk] = []
    for chunk in chunks:
        if sum(held.num_rows for held in window) >= rows:
            yield window, False
            window = []
        window.append(chunk)
    yield window, True


def _plan(windows: Iterator[tuple[list[Chunk], bool]], batches: _Batches, order: Order) -> Iterator[_Window]:
    """Yields what is to be loaded of each window; those that are skipped are left out."""
    end, skipped = 0, order.skip_batches * batches.size
    for number, (chunks, is_last) in enumerate(windows, start=1):
        start, end = end, end + sum(chunk.num_rows for chunk in chunks)
        stop = end
        if batches.total is not None:
            stop = batches.total if is_last else min(end, batches.total)
        elif is_last and not order.drop_remainder:
            stop = end + -end % batches.size
        if stop <= max(start, skipped):
            continue
        # A generator per window, so that a skipped one draws nothing. From 1, as to NumPy (seed, epoch, 0) is
        # (seed, epoch), which draws the order of the chunks.
        rows = (
            np.arange(end - start)
            if order.shuffle is None
            else np.random.default_rng([*order.shuffle, number]).permutation(end - start)
        )
        # Padding repeats the last row.
        rows = np.concatenate([rows, np.repeat(rows[-1:], max(0, stop - end))])[: stop - start]
        positions = np.arange(start, stop)
        places = positions % batches.size
        own = (positions >= skipped) & (places >= batches.first) & (places < batches.stop)
        first_batch = max(start // batches.size, order.skip_batches)
        yield _Window(
            chunks,
            rows[own],
            positions[own] < end,
            num_begun=batches.own_before(start) if start > skipped else 0,
            num_batches=stop // batches.size - first_batch,
        )


def _load(
    windows: Iterator[_Window], check: Check, encode: Encode, width: int, num_windows: int
) -> Iterator[tuple[int, Words]]:
    """Yields each window's number of whole batches and its encoded rows, behind room for the batch begun before it.

    Of `num_windows` at a time, one is used, and the others are read and loaded.
    """
    reader, loaders = ThreadPoolExecutor(1), ThreadPoolExecutor(_num_threads())
    loading: deque[list[Future[None]]] = deque([[], []], maxlen=2)

    def begin() -> tuple[int, Words, list[Future[None]]] | None:
        # The records of two windows are held at most.
        wait(loading[0])
        window = next(windows, None)
        if window is None:
            return None
        words = np.empty((window.num_begun + len(window.rows), width), np.int32)
        loading.append([loaders.submit(_fill, words, check, encode, *part) for part in _parts(window)])
        return window.num_batches, words, loading[-1]

    try:
        begun = deque(reader.submit(begin) for _ in range(num_windows))
        while (window := begun.popleft().result()) is not None:
            for future in window[2]:
                future.result()
            yield window[:2]
            del window
            begun.append(reader.submit(begin))
    finally:
        for executor in (reader, loaders):
            executor.shutdown(cancel_futures=True)


def _parts(window: _Window) -> Iterator[tuple[Chunk, Array, Mask, Array]]:
    """Yields each chunk, its rows that are taken, which of them are real, and their places among the window's rows."""
    by_row = np.argsort(window.rows, kind="stable")
    rows = window.rows[by_row]
    stop = 0
    for chunk in window.chunks:
        start, stop = stop, stop + chunk.num_rows
        part = slice(*np.searchsorted(rows, [start, stop]))
        if part.start < part.stop:
            places = by_row[part]
            yield chunk, rows[part] - start, window.is_real[places], window.num_begun + places


def _fill(words: Words, check: Check, encode: Encode, chunk: Chunk, rows: Array, is_real: Mask, places: Array) -> None:
    columns = chunk.load()
    check(columns, str(chunk.path), chunk.first_row)
    # As one item a row is moved twice as fast.
    items = words.view(np.dtype((np.void, words.itemsize * words.shape[1])))
    for start in range(0, len(rows), _CHUNK_ROWS):
        part = slice(start, start + _CHUNK_ROWS)
        items[places[part]] = encode(take_rows(columns, rows[part]), is_real[part]).view(items.dtype)


def _num_threads() -> int:
    return min(8, len(os.sched_getaffinity(0)))
