import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from c2al_tf.data.columns.readers import read_columns
from c2al_tf.data.inputs.stream import Order, read_blocks
from c2al_tf.schema import Column

pytestmark = pytest.mark.usefixtures("small_windows")

COLUMNS = {"row": Column("row", "int64")}


def blocks(paths, order, check=lambda columns, source, first_row: None):
    """The row numbers of each block."""

    def pack(chunk):
        columns = chunk.load()
        check(columns, str(chunk.path), chunk.first_row)
        return lambda rows, is_real: columns["row"][rows].astype(np.int32)[:, np.newaxis]

    return read_blocks(paths, COLUMNS, pack, 1, order, batches_per_block=4)


@pytest.fixture
def records(numbered, write, tmp_path):
    """Ten TFRecord files of 50 rows."""
    (rows,) = (np.arange(500),)
    schema = type("OneColumn", (), {"columns": COLUMNS})
    return [write(tmp_path / f"{i}.tfrecord", {"row": rows[50 * i : 50 * i + 50]}, schema) for i in range(10)]


def test_blocks_are_whole_batches(numbered):
    shapes = [block.shape for block in blocks(numbered, Order(16))]
    assert all(rows == 16 and width == 1 and number <= 4 for number, rows, width in shapes)
    assert sum(number for number, _, _ in shapes) == 32


def test_files_that_are_read_through_come_by_turns(records):
    first = next(blocks(records, Order(16, shuffle=(0, 0)))).ravel()
    # A window of 100 rows or a little more has chunks of 30 of four files.
    assert len(set((first // 50).tolist())) == 4


def test_open_files_are_bounded(records, monkeypatch):
    monkeypatch.setattr("c2al_tf.data.inputs.stream._OPEN_FILES", 2)
    rows = np.concatenate([block.ravel() for block in blocks(records, Order(500, shuffle=(0, 0)))])
    assert len(set((rows[:100] // 50).tolist())) == 2
    assert sorted(rows.tolist()) == list(range(500))


@pytest.mark.parametrize("shuffle", [None, (0, 0)])
def test_a_bounded_number_of_rows_is_read_ahead(numbered, shuffle, monkeypatch, until):
    submitted = []

    class Pool(ThreadPoolExecutor):
        def submit(self, *args):
            submitted.append(super().submit(*args))
            return submitted[-1]

    monkeypatch.setattr("c2al_tf.data.inputs.stream.ThreadPoolExecutor", Pool)
    monkeypatch.setattr("c2al_tf.data.inputs.stream._num_threads", lambda: 2)
    loaded = []
    stream = blocks(numbered, Order(16, shuffle), lambda columns, source, first_row: loaded.append(len(columns["row"])))
    next(stream)
    until(lambda: all(future.done() for future in list(submitted)))
    # Three windows of at most 129 rows; unshuffled, four chunks of 30.
    assert 30 < sum(loaded) <= (3 * 129 if shuffle else 4 * 30)
    stream.close()


def test_closing_ends_the_threads(numbered):
    before = set(threading.enumerate())
    stream = blocks(numbered, Order(16))
    next(stream)
    assert set(threading.enumerate()) - before
    stream.close()
    assert not set(threading.enumerate()) - before


def test_error_of_a_check_comes_out_and_ends_the_threads(numbered):
    before = set(threading.enumerate())

    def check(columns, source, first_row):
        if first_row == 90:
            raise ValueError(f"{source}: bad row")

    with pytest.raises(ValueError, match=r"0\.parquet: bad row"):
        list(blocks(numbered, Order(16), check))
    assert not set(threading.enumerate()) - before


def test_order_does_not_depend_on_the_number_of_threads(numbered, monkeypatch):
    orders = []
    for threads in (1, 5):
        monkeypatch.setattr("c2al_tf.data.inputs.stream._num_threads", lambda threads=threads: threads)
        orders.append(np.concatenate([b.ravel() for b in blocks(numbered, Order(16, (1, 2)))]).tolist())
    assert orders[0] == orders[1]
    assert sorted(set(orders[0])) == [row for batch in read_columns(numbered, COLUMNS) for row in batch["row"].tolist()]
