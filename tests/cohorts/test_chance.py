import itertools

import numpy as np
import pytest
from scipy import stats

from c2al_tf.cohorts.chance import (
    FIT_DRAWS,
    SignedCohort,
    corrected_p_values,
    random_signs,
    rate_scores,
    signed_differences,
    studentized,
    surprise,
)
from c2al_tf.cohorts.divergence import pearson

BLOCKS, BUCKETS = 64, 12


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def two_cohorts(rng, rows=(900, 300), shift=0.0):
    """Counts (blocks, buckets) of independent rows of two cohorts."""
    rates = np.arange(1.0, BUCKETS + 1)
    laws = [rates / rates.sum(), rates ** (1 + shift) / (rates ** (1 + shift)).sum()]
    return [
        rng.multinomial(rng.multinomial(n, np.full(BLOCKS, 1 / BLOCKS)), law).astype(float)
        for n, law in zip(rows, laws, strict=True)
    ]


def pearson_statistics(first, second):
    return pearson(*signed_differences(first, second))


def test_the_statistic_by_hand():
    first, second = np.array([[3.0, 1.0], [1.0, 1.0]]), np.array([[0.0, 2.0], [1.0, 1.0]])
    signs = np.array([[1.0, 1.0], [1.0, -1.0]])
    statistics = pearson_statistics(SignedCohort.of(first, signs), SignedCohort.of(second, signs))
    # M = (5, 5) / 10. P_1 - P_2 = (4/6 - 1/4, ...) = (5/12, -5/12): X^2 = 2 (5/12)^2 / 0.5.
    assert statistics[0] == pytest.approx(4 * (5 / 12) ** 2)
    # Block 1 adds (3 - 4 M) / 6 - (0 - 2 M) / 4 = 1/6 + 1/4, block 2 adds 0 - 0: its sign changes nothing.
    assert statistics[1] == pytest.approx(statistics[0])


def test_of_all_rows_it_is_pearsons_statistic(rng):
    first, second = two_cohorts(rng, shift=0.2)
    ones = np.ones((1, BLOCKS))
    (statistic,) = pearson_statistics(SignedCohort.of(first, ones), SignedCohort.of(second, ones))
    table = np.stack([first.sum(0), second.sum(0)])
    n_1, n_2 = table.sum(1)
    expected = stats.chi2_contingency(table, correction=False).statistic
    assert statistic * n_1 * n_2 / (n_1 + n_2) == pytest.approx(expected)


def test_of_independent_rows_the_draws_follow_chi_squared(rng):
    signs = random_signs(4000, BLOCKS, rng)
    first, second = (SignedCohort.of(blocks, signs) for blocks in two_cohorts(rng))
    statistics = pearson_statistics(first, second)[1:] * 225  # n_1 n_2 / (n_1 + n_2)
    assert statistics.mean() == pytest.approx(BUCKETS - 1, rel=0.25)


def test_scores_of_blocks_add_up_to_the_difference_of_rates(rng):
    rows = rng.integers(1, 9, (3, BLOCKS))
    positives = rng.binomial(rows, 0.3)
    scores = rate_scores(positives, rows, np.array([[0, 1], [2, 0]]))
    rates = positives.sum(1) / rows.sum(1)
    np.testing.assert_allclose(scores.sum(1), [rates[0] - rates[1], rates[2] - rates[0]], atol=1e-12)
    z = studentized(scores, np.ones((1, BLOCKS)))[0]
    pooled = positives[:2].sum() / rows[:2].sum()
    expected = abs(rates[0] - rates[1]) / (pooled * (1 - pooled) * (1 / rows[0].sum() + 1 / rows[1].sum())) ** 0.5
    assert z[0] == pytest.approx(expected, rel=0.3)


def test_a_pair_without_spread_surprises_nobody():
    statistics = np.zeros((1 + FIT_DRAWS + 99, 2))
    assert (surprise(statistics) == surprise(statistics)[0, 0]).all()
    assert corrected_p_values(surprise(statistics)).tolist() == [1.0, 1.0]


def test_the_draws_that_fit_the_scale_do_not_count_for_the_p_value(rng):
    statistics = rng.chisquare(5, (1 + FIT_DRAWS + 99, 3))
    found = surprise(statistics)
    assert found.shape == (100, 3)
    # -log of the true chance, but for the fit.
    expected = -stats.chi2.logsf(np.delete(statistics, slice(1, 1 + FIT_DRAWS), axis=0), 5)
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.99


def test_p_values_are_uniform_and_corrected_for_all_pairs(rng):
    def p_values(num_pairs):
        statistics = rng.chisquare(5, (1 + FIT_DRAWS + 99, num_pairs)) * np.arange(1, num_pairs + 1)
        return corrected_p_values(surprise(statistics)).min()

    for num_pairs in (1, 20):
        smallest = np.array([p_values(num_pairs) for _ in range(400)])
        for level in (0.1, 0.3, 0.5):
            assert np.mean(smallest <= level) == pytest.approx(level, abs=0.08)


def test_no_pairs():
    assert corrected_p_values(surprise(np.zeros((1 + FIT_DRAWS + 99, 0)))).shape == (0,)


@pytest.mark.parametrize("sizes", [(400, 400), (100, 4000)])
def test_the_level_holds_for_small_and_unequal_cohorts(sizes, rng):
    """Many buckets with a row or none: where a bucket with one row has no mirror image."""
    law = np.full(200, 1 / 200)
    hits = 0
    for _ in range(200):
        signs = random_signs(FIT_DRAWS + 99, 256, rng)
        cohorts = [
            SignedCohort.of(rng.multinomial(rng.multinomial(n, np.full(256, 1 / 256)), law).astype(float), signs)
            for n in sizes
        ]
        hits += corrected_p_values(surprise(pearson_statistics(*cohorts)[:, None]))[0] <= 0.05
    assert hits <= 20  # 10 are expected, with standard deviation 3


def test_the_maximum_costs_nothing_for_pairs_that_are_alike(rng):
    one = rng.chisquare(5, (1 + FIT_DRAWS + 999, 1))
    one[0] = 15.0
    alone, copied = (corrected_p_values(surprise(np.repeat(one, n, axis=1))) for n in (1, 50))
    assert set(copied.tolist()) == set(alone.tolist())
    independent = rng.chisquare(5, (1 + FIT_DRAWS + 999, 50))
    independent[0, 0] = 15.0
    assert corrected_p_values(surprise(independent))[0] > 5 * alone[0]


def test_signs_begin_with_the_data(rng):
    signs = random_signs(10, 5, rng)
    assert signs.shape == (11, 5)
    assert (signs[0] == 1).all()
    assert set(itertools.chain(*signs.tolist())) == {-1.0, 1.0}
