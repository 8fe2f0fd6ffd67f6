import numpy as np
import pytest
from scipy.stats import multivariate_hypergeom

from c2al_tf.cohorts import resampling
from c2al_tf.cohorts.divergence import DIVERGENCES
from c2al_tf.cohorts.resampling import beyond_chance, null_tables, pair_divergences, resampled_histograms

JS = DIVERGENCES["js"]


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_pair_divergences_in_parts_equal_the_whole(rng, monkeypatch):
    histograms = rng.integers(1, 9, (7, 4, 5))
    pairs = np.array([[0, 1], [2, 3], [1, 3]])
    whole = pair_divergences(JS, histograms, pairs)
    monkeypatch.setattr(resampling, "_MAX_ELEMENTS", 30)
    np.testing.assert_array_equal(pair_divergences(JS, histograms, pairs), whole)
    assert whole.shape == (7, 3)
    assert whole[6, 1] == JS.measure(histograms[6, 2], histograms[6, 3])


def test_null_tables_keep_both_margins_and_their_distribution(rng, monkeypatch):
    monkeypatch.setattr(resampling, "_NULL_DRAWS", 20_000)
    first, second = np.array([30, 50, 20]), np.array([10, 0, 90])
    tables = null_tables(first, second, rng)
    assert (tables.sum(1) == first + second).all()
    assert (tables[:, 0].sum(1) == 100).all()
    expected = multivariate_hypergeom(first + second, 100)
    np.testing.assert_allclose(tables[:, 0].mean(0), expected.mean(), rtol=0.01)
    np.testing.assert_allclose(np.cov(tables[:, 0].T), expected.cov(), rtol=0.1)


def test_more_rows_than_can_be_drawn(rng):
    with pytest.raises(ValueError, match=r"at most 10,000,000,000 rows; count a sample. Received: 10,000,000,003"):
        null_tables(np.array([10**10, 1]), np.array([1, 1]), rng)


@pytest.mark.parametrize("name", DIVERGENCES)
@pytest.mark.parametrize("copies", [1, 4])
def test_without_a_difference_nothing_is_left_of_a_divergence(name, copies, rng):
    """Of rows that come in copies the divergence is larger, and so is its null mean."""
    law = np.arange(1, 101) / 5050
    rows = (1000, 5000)
    left = []
    for _ in range(100):
        first, second = (copies * rng.multinomial(n // copies, law) for n in rows)
        plain = DIVERGENCES[name].measure(first, second)
        left.append((plain, beyond_chance(DIVERGENCES[name], plain, null_tables(first, second, rng), copies)))
    plain, debiased = np.mean(left, axis=0)
    # Smoothing, which the symmetric KL needs, makes a small difference of its own; a mean of roots is no root of means.
    assert abs(debiased) < {"kl": 0.15, "wasserstein": 0.3}.get(name, 0.1) * plain


def test_a_large_distance_loses_next_to_nothing(rng):
    """Chance adds to a distance as an orthogonal step does, not in full."""
    first, second = np.array([2000, 0, 10, 0]), np.array([10, 0, 0, 2000])
    for divergence in DIVERGENCES.values():
        value = float(divergence.measure(first, second))
        assert 0.99 * value < beyond_chance(divergence, value, null_tables(first, second, rng), 1.0) <= value


def test_resamples_draw_whole_blocks():
    blocks = np.array([[[1, 0], [0, 2]], [[0, 0], [0, 5]]])
    draws = np.array([[1.0, 1.0], [2.0, 0.0], [0.0, 2.0]])
    # A cohort of which no block is drawn keeps its own histogram.
    expected = [[[1, 2], [0, 5]], [[2, 0], [0, 5]], [[0, 4], [0, 10]]]
    assert resampled_histograms(blocks, draws).tolist() == expected
