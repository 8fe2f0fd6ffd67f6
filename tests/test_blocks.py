import numpy as np
import pytest
from scipy import stats

from c2al_tf.blocks import Variation, deal_blocks, draw_rows, hash_rows
from c2al_tf.types import MISSING_INT


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


def test_rows_below_a_share_are_that_share():
    drawn = draw_rows(np.arange(100_000), seed=1)
    assert 0 <= drawn.min() < drawn.max() < 1
    for share in (0.01, 0.1, 0.5):
        assert np.mean(drawn < share) == pytest.approx(share, abs=4 * (share * (1 - share) / 100_000) ** 0.5)


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


@pytest.mark.parametrize(
    "units",
    [
        np.array(["", "a"], object),
        np.array(["", "a"]),
        np.array([b"", b"a"]),
        np.array([None, "a"], object),
        np.array([np.nan, 3.0]),
        np.array([np.nan, "a"], object),
        np.array([MISSING_INT, 3]),
        np.array([MISSING_INT, 3], float),
    ],
    ids=repr,
)
def test_a_row_without_a_unit_is_one_alone(units):
    numbers = np.arange(1000, 3000)
    blocks = deal_blocks(2000, units=np.repeat(units, 1000), row_numbers=numbers, seed=3)
    np.testing.assert_array_equal(blocks[:1000], deal_blocks(1000, row_numbers=numbers[:1000], seed=3))
    assert len(set(blocks[1000:].tolist())) == 1


def test_an_id_has_one_block_in_every_type():
    values = np.arange(-500, 500)
    expected = deal_blocks(1000, units=values)
    for units in (
        values.astype(np.float32),
        values.astype(float),
        values.astype(str),
        values.astype(bytes),
        values.astype(object),
        values.astype(str).astype(object),
        values.astype(bytes).astype(object),
    ):
        np.testing.assert_array_equal(deal_blocks(1000, units=units), expected)
    mixed = np.array([7, "7", None, 7.0, b"7", np.float32(7)], object)
    assert len(set(deal_blocks(6, units=mixed)[[0, 1, 3, 4, 5]].tolist())) == 1
    float32 = np.array([7.1], np.float32)
    assert deal_blocks(1, units=float32) == deal_blocks(1, units=np.array(["7.1"]))


def test_another_seed_deals_units_into_other_blocks():
    """Units of equal length that share a block under one seed do not share one under another."""
    units = np.array([f"user{number:06d}" for number in range(20_000)])
    blocks = [deal_blocks(20_000, units=units, num_blocks=8, seed=seed) for seed in (0, 1)]
    counts = np.bincount(8 * blocks[0] + blocks[1], minlength=64)
    # Chi-squared of 64 cells: mean 63, standard deviation 11.
    assert np.square(counts - 312.5).sum() / 312.5 < 63 + 5 * 11


@pytest.mark.parametrize("shape", [(9,), (10, 1), (10, 3), ()])
def test_units_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match=r"`units` must have shape \(10,\), as the rows. Received: shape \("):
        deal_blocks(10, units=np.zeros(shape, np.int64))


def test_one_block_is_refused():
    with pytest.raises(ValueError, match=r"`num_blocks` must be at least 2. Received: num_blocks=1"):
        deal_blocks(10, num_blocks=1)


def test_a_variation_is_projected_to_other_seeds_and_rows():
    """Components R, S and I of the class, as its docstring defines what is expected of each estimate."""
    shared, seeds, own = 2e-6, 3e-6, 5e-6

    def of(num_seeds, rows):
        row, each = shared / rows, own / rows
        return Variation(num_seeds, 1000, seeds + each, row + each, row + each / num_seeds)

    known = of(5, 1.0)
    for num_seeds, rows in ((5, 1.0), (20, 1.0), (5, 4.0), (3, 0.5)):
        found, expected = known.projected(num_seeds, rows), of(num_seeds, rows)
        assert found.variance == pytest.approx(expected.variance)
        assert found.variance == pytest.approx(shared / rows + (seeds + own / rows) / num_seeds)
        assert found.margin == pytest.approx(expected.margin)


def test_intervals_that_hold_at_once_are_wider():
    variation = Variation(5, 1000, 1e-5, 1e-12, 1e-12)
    assert variation.margin_of(1) == variation.margin
    assert variation.margin_of(3) / variation.margin == pytest.approx(
        stats.t.ppf(1 - 0.05 / 6, 4) / stats.t.ppf(0.975, 4), rel=1e-3
    )
