"""The order of rows: a stream of batches that depends on the files, the seed and the epoch only."""

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
from ...storage import fetched, have_room, stat_of, will_read
from ...types import Array
from ..columns.csv_fields import CsvFormat
from ..columns.formats import format_of
from ..columns.raw import Mask
from ..columns.readers import Chunk, count_rows, no_rows, read_chunks
from .sharding import WHOLE, Shard, deal

WINDOW_ROWS = 524_288
# Rows that one call encodes: few enough to stay in a processor's cache.
_CHUNK_ROWS = 16_384
_OPEN_FILES = 16

PackedRows = NDArray[np.int32]
"""Encoded rows (rows, width): ids as they are, floats bit-cast."""

Pack = Callable[[Chunk], Callable[[Array, Mask], PackedRows]]
"""Loads a chunk, and gives what packs rows of it: their places in it, and which are real; others must get weight 0."""


@dataclass(frozen=True)
class Order:
    """How rows are ordered, cut into batches and shared.

    Args:
        batch_size: Rows per batch, of all workers together.
        shuffle: (seed, epoch) that determine the order; None keeps the order of the files.
        skip_batches: Batches to leave out at the start; Parquet files are not read for windows of them.
        drop_remainder: Whether to leave the last, smaller batch out instead of padding it with its last row.
        shard: The share of a worker.
    """

    batch_size: int
    shuffle: tuple[int, int] | None = None
    skip_batches: int = 0
    drop_remainder: bool = False
    shard: Shard = WHOLE


@dataclass(frozen=True)
class _Batches:
    """Batches of `size` rows, of which this process takes those from `first` to `stop`."""

    size: int
    first: int
    stop: int
    total: int | None

    def own_before(self, position: int) -> int:
        """Number of this process's rows before `position` in the batch that holds it."""
        return min(max(position % self.size, self.first), self.stop) - self.first


@dataclass(frozen=True)
class _Window:
    """Chunks whose rows are permuted together, and the rows that this process takes, in the stream's order."""

    chunks: list[Chunk]
    rows: Array
    is_real: Mask
    num_begun: int
    num_batches: int


def read_blocks(
    paths: Sequence[Path],
    columns: Mapping[str, Column],
    pack: Pack,
    width: int,
    order: Order,
    *,
    batches_per_block: int,
    csv_format: CsvFormat | None = None,
) -> Iterator[PackedRows]:
    """Yields blocks of whole batches, (batches, rows, width).

    When shuffled, the row groups of Parquet files and the files of other formats come in a random order; several files
    that are not Parquet take turns, a chunk at a time. Rows are collected into windows of at least `WINDOW_ROWS` rows,
    and the rows of a window are permuted. At most three windows are in memory: one in use and two being loaded. Larger
    windows and smaller row groups mix rows further.

    Args:
        paths: Files.
        columns: What to read.
        pack: Loads, checks and encodes rows; called from several threads.
        width: Width of encoded rows.
        order: The order of the rows.
        batches_per_block: Most batches in a block.
        csv_format: How CSV files are written.
    """
    chunks, batches = _chunks_and_batches(paths, columns, order, csv_format)
    # One in use, one being loaded, and one whose records are read. Unshuffled, each chunk is a window.
    window_rows, num_windows = (1, 2 + _num_threads()) if order.shuffle is None else (WINDOW_ROWS, 3)
    windows = _plan(_windows(chunks, window_rows, paths[0]), batches, order)
    size = batches.stop - batches.first
    begun = np.empty((0, width), np.int32)
    for num_batches, packed_rows in _load(windows, pack, width, num_windows):
        packed_rows[: len(begun)] = begun
        whole, begun = packed_rows[: num_batches * size], packed_rows[num_batches * size :].copy()
        for start in range(0, len(whole), batches_per_block * size):
            yield whole[start : start + batches_per_block * size].reshape(-1, size, width)
        del packed_rows, whole


def _chunks_and_batches(
    paths: Sequence[Path], columns: Mapping[str, Column], order: Order, csv_format: CsvFormat | None
) -> tuple[Iterator[Chunk], _Batches]:
    units: list[tuple[Path, Iterator[Chunk], int | None]] = []
    fetch = have_room(paths)  # else of each Parquet file its footer first
    for path in paths:
        chunks = read_chunks(fetched(path) if fetch else path, columns, _CHUNK_ROWS, csv_format)
        if stat_of(path)[0] and format_of(path) == "parquet":
            # The footer of a Parquet file lists its chunks; those of other files are found by reading.
            units += [(path, iter([chunk]), chunk.num_rows) for chunk in chunks]
        else:
            units.append((path, chunks, None))
    if order.shuffle is not None:
        units = [units[i] for i in np.random.default_rng(order.shuffle).permutation(len(units))]
        will_read(path for path, _, _ in units)
    own = order.shard.batch_rows(order.batch_size)
    batches = _Batches(order.batch_size, order.shard.index * own, (order.shard.index + 1) * own, None)
    if order.shard.by == "files":
        sizes = [count_rows(path, csv_format) if rows is None else rows for path, _, rows in units]
        shares = deal(list(zip(units, sizes, strict=True)), sizes, order.shard.count)
        units = [unit for unit, _ in shares[order.shard.index]]
        totals = [sum(size for _, size in share) for share in shares]
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


def _windows(chunks: Iterator[Chunk], rows: int, first_path: Path) -> Iterator[tuple[list[Chunk], bool]]:
    """Yields chunks of at least `rows` rows together, and whether they are the last."""
    window: list[Chunk] = []
    for chunk in chunks:
        if sum(held.num_rows for held in window) >= rows:
            yield window, False
            window = []
        window.append(chunk)
    if not window:
        raise no_rows(first_path)
    yield window, True


def _plan(windows: Iterator[tuple[list[Chunk], bool]], batches: _Batches, order: Order) -> Iterator[_Window]:
    """Yields each window that is loaded; skipped windows are left out."""
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
        # A generator per window, so that a skipped window draws nothing. Numbers start at 1: to NumPy the seed
        # (seed, epoch, 0) equals (seed, epoch), which draws the order of the chunks.
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


def _load(windows: Iterator[_Window], pack: Pack, width: int, num_windows: int) -> Iterator[tuple[int, PackedRows]]:
    """Yields each window's number of whole batches, and its encoded rows after room for the batch begun before it.

    One window is in use while the next `num_windows - 1` are read and loaded.
    """
    reader, loaders = ThreadPoolExecutor(1), ThreadPoolExecutor(_num_threads())
    loading: deque[list[Future[None]]] = deque([[], []], maxlen=2)

    def begin() -> tuple[int, PackedRows, list[Future[None]]] | None:
        # At most two windows hold records.
        wait(loading[0])
        window = next(windows, None)
        if window is None:
            return None
        packed_rows = np.empty((window.num_begun + len(window.rows), width), np.int32)
        loading.append([loaders.submit(_fill, packed_rows, pack, *part) for part in _parts(window)])
        return window.num_batches, packed_rows, loading[-1]

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
    """Yields each chunk, the rows taken of it, which of them are real, and their places among the window's rows."""
    by_row = np.argsort(window.rows, kind="stable")
    rows = window.rows[by_row]
    stop = 0
    for chunk in window.chunks:
        start, stop = stop, stop + chunk.num_rows
        part = slice(*np.searchsorted(rows, [start, stop]))
        if part.start < part.stop:
            places = by_row[part]
            yield chunk, rows[part] - start, window.is_real[places], window.num_begun + places


def _fill(packed_rows: PackedRows, pack: Pack, chunk: Chunk, rows: Array, is_real: Mask, places: Array) -> None:
    pack_rows = pack(chunk)
    # A row viewed as one item is copied twice as fast.
    items = packed_rows.view(np.dtype((np.void, packed_rows.itemsize * packed_rows.shape[1])))
    for start in range(0, len(rows), _CHUNK_ROWS):
        part = slice(start, start + _CHUNK_ROWS)
        items[places[part]] = pack_rows(rows[part], is_real[part]).view(items.dtype)


def _num_threads() -> int:
    return min(8, len(os.sched_getaffinity(0)))
