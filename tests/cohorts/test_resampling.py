import numpy as np
import pytest
from scipy.stats import multivariate_hypergeom

from c2al_tf.cohorts import resampling
from c2al_tf.cohorts.divergence import DIVERGENCES, jensen_shannon, wasserstein
from c2al_tf.cohorts.resampling import bootstrap_intervals, pair_divergences, permutation_p_values

PAIR = np.array([[0, 1]])


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_pair_divergences_in_parts_equal_the_whole(rng, monkeypatch):
    histograms = rng.integers(1, 9, (7, 4, 5))
    pairs = np.array([[0, 1], [2, 3], [1, 3]])
    whole = pair_divergences(jensen_shannon, histograms, pairs)
    monkeypatch.setattr(resampling, "_MAX_ELEMENTS", 30)
    np.testing.assert_array_equal(pair_divergences(jensen_shannon, histograms, pairs), whole)
    assert whole.shape == (7, 3)
    assert whole[6, 1] == jensen_shannon(histograms[6, 2], histograms[6, 3])


@pytest.mark.parametrize("name", DIVERGENCES)
def test_intervals_cover_the_true_divergence(name, rng):
    p, q = np.full(10, 0.1), np.arange(1, 11) / 55
    truth = DIVERGENCES[name](1e9 * p, 1e9 * q)
    tables = [np.array([rng.multinomial(2000, p), rng.multinomial(1000, q)]) for _ in range(200)]
    intervals = np.array([bootstrap_intervals(DIVERGENCES[name], table, PAIR, 200, rng)[0] for table in tables])
    covered = np.mean((intervals[:, 0] <= truth) & (truth <= intervals[:, 1]))
    assert 0.90 <= covered <= 0.99


def test_an_interval_shrinks_with_rows(rng):
    few = np.array([[10, 20, 30], [30, 20, 10]])
    widths = [np.diff(bootstrap_intervals(wasserstein, few * n, PAIR, 200, rng)[0]) for n in (1, 100)]
    assert widths[1] < widths[0] / 5


def test_no_pairs(rng):
    none = np.zeros((0, 2), np.int64)
    assert bootstrap_intervals(jensen_shannon, np.ones((1, 3), np.int64), none, 10, rng).shape == (0, 2)
    assert [p.shape for p in permutation_p_values(jensen_shannon, [(np.ones((0, 3)), none)], 10, rng)] == [(0,)]


def test_permuted_tables_keep_both_margins_and_their_distribution(rng):
    seen = []

    def spy(p, q):
        seen.append((p[:, 0], q[:, 0]))
        return wasserstein(p, q)

    table = np.array([[30, 50, 20], [10, 0, 90], [5, 5, 5]])
    permutation_p_values(spy, [(table, PAIR)], 20_000, rng)
    p, q = (np.concatenate(parts)[1:] for parts in zip(*seen, strict=True))
    np.testing.assert_array_equal(p.sum(1), 100)
    assert (p + q <= table.sum(0)).all()
    expected = multivariate_hypergeom(table.sum(0), 100)
    np.testing.assert_allclose(p.mean(0), expected.mean(), rtol=0.01)
    np.testing.assert_allclose(np.cov(p.T), expected.cov(), rtol=0.1)


def test_a_large_difference_has_the_smallest_p_value(rng):
    table = np.array([[90, 10, 0], [0, 10, 90], [0, 10, 90]])
    pairs = np.array([[0, 1], [1, 2]])
    (p,) = permutation_p_values(jensen_shannon, [(table, pairs)], 99, rng)
    assert p.tolist() == [0.01, 1.0]


def test_p_values_are_uniform_for_one_pair(rng):
    rates = np.array([0.2, 0.3, 0.5])
    p_values = [
        permutation_p_values(
            wasserstein, [(np.array([rng.multinomial(300, rates), rng.multinomial(200, rates)]), PAIR)], 99, rng
        )[0][0]
        for _ in range(400)
    ]
    for level in (0.1, 0.3, 0.5):
        assert np.mean(np.array(p_values) <= level) == pytest.approx(level, abs=0.08)


def test_more_pairs_make_each_less_sure(rng):
    table = np.array([[60, 40], [40, 60]])
    decoys = [(rng.multinomial(100, [0.5, 0.5], 10), np.array([(i, j) for i in range(10) for j in range(i)]))] * 3
    alone = permutation_p_values(wasserstein, [(table, PAIR)], 999, rng)[0][0]
    among = permutation_p_values(wasserstein, [*decoys, (table, PAIR)], 999, rng)[-1][0]
    assert alone < 0.02
    assert among > 5 * alone


def test_equal_predictions_everywhere_explain_nothing(rng):
    table = np.array([[0, 100], [0, 50]])
    (p,) = permutation_p_values(jensen_shannon, [(table, PAIR)], 99, rng)
    assert p.tolist() == [1.0]


def test_more_rows_than_can_be_permuted(rng):
    table = np.array([[10**10, 1], [1, 1]])
    with pytest.raises(ValueError, match=r"at most 10,000,000,000 rows; count a sample. Received: 10,000,000,003"):
        permutation_p_values(jensen_shannon, [(table, PAIR)], 9, rng)
