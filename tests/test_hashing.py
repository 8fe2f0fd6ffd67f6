import numpy as np
import pytest

from c2al_tf.hashing import hash_rows


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
