import numpy as np
import pytest

from c2al_tf.blocks import deal_blocks, hash_rows


def test_a_row_has_its_hash_wherever_it_is():
    whole = hash_rows(np.arange(1000), seed=3)
    assert whole.dtype == np.uint64
    np.testing.assert_array_equal(
        np.concatenate([hash_rows(np.arange(i, i + 250), seed=3) for i in range(0, 1000, 250)]), whole
    )


@pytest.mark.parametrize("numbers", [np.arange(100_000), 1000 * np.arange(100_000), 2**40 + np.arange(100_000)])
def test_evenly_distributed(numbers):
    hashes = hash_rows(numbers)
    assert len(np.unique(hashes)) == len(numbers)
    # Chi-squared of 1,000 cells: mean 999, standard deviation 45.
    counts = np.bincount((hashes % np.uint64(1000)).astype(np.int64), minlength=1000)
    assert np.square(counts - 100).sum() / 100 < 999 + 5 * 45
    bits = np.unpackbits(hashes.view(np.uint8)).reshape(-1, 64).mean(axis=0)
    np.testing.assert_allclose(bits, 0.5, atol=5 * 0.5 / 100_000**0.5)


def test_seeds_are_independent():
    numbers = np.arange(100_000)
    blocks = [(hash_rows(numbers, seed) % np.uint64(10)).astype(np.int64) for seed in (0, 1)]
    counts = np.bincount(10 * blocks[0] + blocks[1], minlength=100)
    assert np.square(counts - 1000).sum() / 1000 < 99 + 5 * 14


def test_blocks_are_dealt_in_nearly_equal_parts():
    blocks = deal_blocks(100_500, num_blocks=100)
    sizes = np.bincount(blocks, minlength=100)
    # As if at random: 1,005 rows each, with standard deviation 32.
    assert 1005 - 5 * 32 < sizes.min() < sizes.max() < 1005 + 5 * 32
    assert (blocks == deal_blocks(100_500, num_blocks=100)).all()
    assert np.mean(blocks == deal_blocks(100_500, num_blocks=100, seed=1)) == pytest.approx(0.01, abs=0.003)
    assert abs(np.corrcoef(blocks, np.arange(100_500))[0, 1]) < 0.02


def test_a_row_has_its_block_in_every_shard():
    whole = deal_blocks(1000)
    np.testing.assert_array_equal(deal_blocks(250, row_numbers=np.arange(500, 750)), whole[500:750])
    np.testing.assert_array_equal(deal_blocks(500, row_numbers=np.arange(1, 1000, 2)), whole[1::2])


@pytest.mark.parametrize("kind", [np.int64, np.str_])
def test_rows_of_a_unit_share_a_block(kind):
    units = np.random.default_rng(0).integers(5000, size=20_000).astype(kind)
    blocks = deal_blocks(20_000, units=units, num_blocks=100)
    assert len(set(zip(units, blocks, strict=True))) == len(set(units))
    assert np.bincount(blocks, minlength=100).min() > 50
    # By hash: the rest of the data does not matter.
    assert (deal_blocks(10, units=units[:10], num_blocks=100) == blocks[:10]).all()


def test_one_block_is_refused():
    with pytest.raises(ValueError, match=r"`num_blocks` must be at least 2. Received: num_blocks=1"):
        deal_blocks(10, num_blocks=1)
