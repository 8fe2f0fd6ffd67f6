import functools
from itertools import chain

import pytest
import tensorflow as tf
from hypothesis import given, strategies as st

from c2al_tf.data.columns.readers import read_columns
from c2al_tf.data.inputs.dataset import make_dataset
from c2al_tf.data.inputs.features import FeatureEncoder
from c2al_tf.data.inputs.sharding import Shard, deal
from c2al_tf.schema import CategoricalFeature, Schema

pytestmark = pytest.mark.usefixtures("small_windows")

# The schema of `numbered`. A row's number is its id less 2.
NUMBERED = Schema((CategoricalFeature("row", "int64", vocabulary=tuple(range(10_000))),))
SHUFFLED = {"shuffle": True, "seed": 3, "epoch": 1}


@functools.cache
def encoder():
    """One for all: its table, and what is traced for it, take longer than the rows."""
    return FeatureEncoder(NUMBERED)


def batches(paths, size=16, **options):
    """(row numbers, weights) of each batch."""
    elements = make_dataset(paths, NUMBERED, size, encoder=encoder(), **options).as_numpy_iterator()
    return [((x["row"] - 2).tolist(), weight.tolist()) for x, _, weight in elements]


def real_rows(shard):
    return [row for rows, weights in shard for row, weight in zip(rows, weights, strict=True) if weight]


def together(shards):
    """The workers' batches of each step as one."""
    steps = zip(*shards, strict=True)
    return [tuple(list(chain(*parts)) for parts in zip(*step, strict=True)) for step in steps]


@pytest.fixture
def as_format(numbered, write):
    def convert(suffix):
        if suffix == "parquet":
            return numbered
        return [
            write(path.with_suffix(f".{suffix}"), next(read_columns(path, NUMBERED.columns)), NUMBERED)
            for path in numbered
        ]

    return convert


@pytest.mark.parametrize(
    ("suffix", "options"),
    [
        ("parquet", {}),
        ("parquet", SHUFFLED),
        ("parquet", SHUFFLED | {"drop_remainder": True}),
        ("tfrecord", {}),
        ("tfrecord", SHUFFLED | {"skip_batches": 9}),
    ],
)
def test_by_rows_all_workers_see_the_batches_of_one_process(as_format, suffix, options):
    paths = as_format(suffix)
    whole = batches(paths, **options)
    shards = [batches(paths, shard=Shard(index, 4), **options) for index in range(4)]
    assert {len(shard) for shard in shards} == {len(whole)}
    # Padding included: a row of weight 0 is the same on every worker.
    assert together(shards) == whole


@pytest.mark.parametrize("size", [4, 12, 100, 400])
def test_by_rows_with_batches_of_any_size(numbered, size):
    # 400 rows are more than a window, 4 fewer than a chunk; neither divides the other.
    shards = [batches(numbered, size, shard=Shard(index, 4), **SHUFFLED) for index in range(4)]
    assert together(shards) == batches(numbered, size, **SHUFFLED)


def test_incomplete_batch_is_dropped_by_all_workers(numbered):
    # The 500 rows leave 20 of a batch of 32: the first two of four workers would have all of theirs.
    shards = [batches(numbered, 32, shard=Shard(index, 4), drop_remainder=True) for index in range(4)]
    assert [len(shard) for shard in shards] == [15] * 4
    assert sorted(row for shard in shards for row in real_rows(shard)) == list(range(480))


def test_rows_of_other_workers_are_not_encoded(numbered, monkeypatch):
    encoded = []
    take = "c2al_tf.data.inputs.packing.take_rows"
    monkeypatch.setattr(take, lambda columns, rows: (encoded.extend(rows), {n: v[rows] for n, v in columns.items()})[1])
    batches(numbered, shard=Shard(1, 4), **SHUFFLED)
    assert len(encoded) == 4 * 32


@pytest.mark.parametrize(
    ("suffix", "options"), [("parquet", {}), ("parquet", SHUFFLED), ("csv", SHUFFLED), ("tfrecord", {})]
)
def test_by_files_every_row_goes_to_one_worker(as_format, suffix, options):
    shards = [batches(as_format(suffix), 12, shard=Shard(index, 3, by="files"), **options) for index in range(3)]
    assert len({len(shard) for shard in shards}) == 1
    assert all(len(rows) == 4 for shard in shards for rows, _ in shard)
    assert sorted(row for shard in shards for row in real_rows(shard)) == list(range(500))
    # Padding is at the end alone.
    for shard in shards:
        weights = [weight for _, part in shard for weight in part]
        assert weights == sorted(weights, reverse=True)


@pytest.mark.parametrize(("suffix", "options"), [("parquet", {}), ("parquet", SHUFFLED), ("tfrecord", SHUFFLED)])
def test_by_files_skipping_batches_leaves_the_others_as_they_are(as_format, suffix, options):
    paths = as_format(suffix)
    for index in range(2):
        whole = batches(paths, shard=Shard(index, 2, by="files"), **options)
        # Also into, and past, the end of the worker with fewer rows.
        for skip in (7, 30, len(whole)):
            assert batches(paths, shard=Shard(index, 2, by="files"), skip_batches=skip, **options) == whole[skip:]


def test_by_files_dropping_the_remainder_ends_all_workers_with_the_first(as_format):
    # 230 and 40 rows against 230, four to a batch.
    shards = [batches(as_format("tfrecord"), 8, shard=Shard(i, 2, by="files"), drop_remainder=True) for i in range(2)]
    assert [len(shard) for shard in shards] == [57, 57]
    assert all(weight == 1 for shard in shards for _, weights in shard for weight in weights)


def test_by_files_other_epochs_deal_otherwise(numbered):
    shares = [
        set(real_rows(batches(numbered, shard=Shard(0, 2, by="files"), shuffle=True, epoch=epoch))) for epoch in (0, 1)
    ]
    assert shares[0] != shares[1]


def test_by_files_needs_one_for_each_worker(as_format):
    with pytest.raises(tf.errors.OpError, match=r"`shard` by files needs a file.*Received: count=4, and 3 of them"):
        batches(as_format("csv"), shard=Shard(0, 4, by="files"))


@given(st.lists(st.integers(1, 50), max_size=30), st.integers(1, 5))
def test_dealt_hands_differ_by_one_item_at_most(sizes, count):
    hands = deal(range(len(sizes)), sizes, count)
    assert sorted(item for hand in hands for item in hand) == list(range(len(sizes)))
    totals = [sum(sizes[item] for item in hand) for hand in hands]
    assert max(totals) - min(totals) <= max(sizes, default=0)


def test_bad_arguments(numbered):
    with pytest.raises(ValueError, match="`count` must be at least 1. Received: count=0"):
        Shard(0, 0)
    for index in (-1, 2):
        with pytest.raises(ValueError, match=f"`index` must be from 0 to 1. Received: index={index}"):
            Shard(index, 2)
    with pytest.raises(ValueError, match="`by` must be 'rows' or 'files'. Received: by='chunks'"):
        Shard(0, 2, by="chunks")
    with pytest.raises(ValueError, match="must be a multiple of the number of workers, 3. Received: batch_size=16"):
        make_dataset(numbered, NUMBERED, 16, shard=Shard(0, 3))
