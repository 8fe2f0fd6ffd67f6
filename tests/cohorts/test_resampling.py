import numpy as np
import pytest
from scipy.stats import multivariate_hypergeom

from c2al_tf.cohorts import resampling
from c2al_tf.cohorts.chance import SignedCohort, random_signs, signed_noise
from c2al_tf.cohorts.divergence import DIVERGENCES
from c2al_tf.cohorts.resampling import (
    beyond_chance,
    design_effect,
    independent_noise,
    null_tables,
    pair_divergences,
    resampled_histograms,
)

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


def effect_of(divergence, blocks, signs, rng):
    noise = signed_noise(*(SignedCohort.of(b.astype(float), signs) for b in blocks), len(signs) - 1)
    first, second = (b.sum(0) for b in blocks)
    m = first / first.sum() / 2 + second / second.sum() / 2
    return design_effect(divergence, noise, independent_noise(first, second, rng), m[m > 0])


@pytest.mark.parametrize("name", DIVERGENCES)
@pytest.mark.parametrize("across", [False, True])
def test_without_a_difference_nothing_is_left_of_a_divergence(name, across, rng):
    """Rows of a user resemble each other: the divergence is larger, or smaller where users are in both cohorts."""
    divergence, laws = DIVERGENCES[name], rng.dirichlet(np.full(40, 0.5), 200)
    left = []
    for _ in range(60):
        law = laws[rng.integers(200, size=64)]
        second_law = law if across else laws[rng.integers(200, size=64)]
        blocks = [np.stack([rng.multinomial(30, row) for row in rows]) for rows in (law, second_law)]
        signs = random_signs(300, 64, rng)
        first, second = (b.sum(0) for b in blocks)
        tables = null_tables(first, second, rng)
        effect = effect_of(divergence, blocks, signs, rng)
        plain = float(divergence.measure(first, second))
        left.append((plain, beyond_chance(divergence, plain, tables, effect), effect))
    plain, debiased, effect = np.mean(left, axis=0)
    assert effect < 1.1 if across else effect > 1.5
    # A mean of roots is no root of means, and smoothing, which the symmetric KL needs, makes a difference of its own.
    assert abs(debiased) < {"kl": 0.2, "wasserstein": 0.35}.get(name, 0.12) * plain


@pytest.mark.parametrize("name", DIVERGENCES)
def test_independent_rows_have_no_design_effect_also_where_cohorts_differ(name, rng):
    laws = [np.arange(1.0, 41) ** power for power in (1.0, 6.0)]
    blocks = [rng.multinomial(n, law / law.sum(), 256) for n, law in zip((400, 4), laws, strict=True)]
    assert effect_of(DIVERGENCES[name], blocks, random_signs(2000, 256, rng), rng) == pytest.approx(1, abs=0.45)


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
