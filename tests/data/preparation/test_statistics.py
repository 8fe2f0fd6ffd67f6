import pickle

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from c2al_tf.data.preparation import statistics
from c2al_tf.data.preparation.statistics import Counts, Moments, Quantiles


def test_vocabulary_is_ordered_by_count_then_value():
    counts = Counts("x")
    counts.update(np.array(["b", "a", "c", "a", "b", "d"], object))
    counts.update(np.array(["d", "d"], object))
    assert counts.vocabulary(1, None) == ("d", "a", "b", "c")
    assert counts.vocabulary(2, None) == ("d", "a", "b")
    assert counts.vocabulary(1, 2) == ("d", "a")


def test_integers_are_counted_as_integers():
    counts = Counts("x")
    counts.update(np.array([10, 9, 10]))
    assert counts.vocabulary(1, None) == (10, 9)
    assert all(type(value) is int for value in counts.vocabulary(1, None))


def test_too_many_different_values_ask_for_hashing(monkeypatch):
    monkeypatch.setattr(statistics, "MAX_DISTINCT", 3)
    counts = Counts("user")
    counts.update(np.arange(3))
    with pytest.raises(ValueError, match=r"Feature `user` has more than 3 .*`num_hash_buckets`. Received: 4"):
        counts.update(np.array([7]))


@settings(max_examples=60)
@given(st.lists(st.lists(st.floats(-1e3, 1e3, width=32), max_size=20), max_size=6))
def test_merged_moments_are_those_of_all_values(batches):
    moments, merged = Moments(), Moments()
    for batch in batches:
        moments.update(np.float32(batch))
        part = Moments()
        part.update(np.float32(batch))
        merged.merge(part)
    assert vars(merged) == vars(moments)
    values = np.float64([value for batch in batches for value in batch])
    if len(values):
        np.testing.assert_allclose(moments.mean, values.mean(), rtol=1e-9, atol=1e-9)
        expected = values.std() if values.std() > 1e-5 else moments.std
        np.testing.assert_allclose(moments.std, expected, rtol=1e-6)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e6])
def test_std_of_a_constant_is_one(value):
    moments = Moments()
    for _ in range(3):
        moments.update(np.full(1000, value, np.float32))
    assert moments.std == 1.0
    assert Moments().std == 1.0


@settings(max_examples=60)
@given(st.lists(st.lists(st.integers(-5, 5), max_size=30), min_size=1, max_size=4), st.integers(2, 8))
def test_boundaries_are_exact_quantiles(batches, num_buckets):
    quantiles, merged = Quantiles(), Quantiles()
    for batch in batches:
        quantiles.update(np.float32(batch))
        part = Quantiles()
        part.update(np.float32(batch))
        merged.merge(pickle.loads(pickle.dumps(part)))
    assert merged.boundaries(num_buckets) == quantiles.boundaries(num_buckets)
    values = np.float32([value for batch in batches for value in batch])
    if not len(values):
        assert quantiles.boundaries(num_buckets) == ()
        return
    shares = np.arange(1, num_buckets) / num_buckets
    found = np.unique(np.quantile(values, shares, method="inverted_cdf"))
    assert quantiles.boundaries(num_buckets) == tuple(found[found > values.min()])


def test_boundaries_of_many_different_values_are_near_and_repeatable():
    values = np.random.default_rng(0).normal(size=300_000).astype(np.float32)

    def boundaries():
        quantiles = Quantiles()
        for batch in np.split(values, 10):
            quantiles.update(batch)
        assert quantiles.digest is not None
        return quantiles.boundaries(20)

    ranks = np.searchsorted(np.sort(values), boundaries()) / len(values)
    np.testing.assert_allclose(ranks, np.arange(1, 20) / 20, atol=1e-3)
    assert boundaries() == boundaries()


@pytest.mark.parametrize("sizes", [[100_000, 100_000], [100_000, 10], [10, 100_000], [40_000, 40_000]])
def test_merged_boundaries_of_many_different_values_are_near(sizes):
    rng = np.random.default_rng(0)
    parts = [rng.normal(number, 1, size).astype(np.float32) for number, size in enumerate(sizes)]
    merged = Quantiles()
    for values in parts:
        quantiles = Quantiles()
        quantiles.update(values)
        merged.merge(pickle.loads(pickle.dumps(quantiles)))
    assert merged.digest is not None
    every = np.sort(np.concatenate(parts))
    ranks = np.searchsorted(every, merged.boundaries(20)) / len(every)
    np.testing.assert_allclose(ranks, np.arange(1, 20) / 20, atol=1e-3)


def test_heavy_values_survive_the_change_to_a_digest(monkeypatch):
    monkeypatch.setattr(statistics, "_MAX_EXACT_QUANTILES", 10)
    quantiles = Quantiles()
    quantiles.update(np.repeat(np.float32([1, 2, 3]), [500, 300, 200]))
    quantiles.update(np.linspace(4, 5, 20, dtype=np.float32))
    quantiles.update(np.full(1000, 6, np.float32))
    assert quantiles.digest is not None
    low, high = quantiles.boundaries(3)
    assert 1 < low <= 3
    assert high == 6


def test_a_digest_of_billions_takes_no_time(monkeypatch):
    monkeypatch.setattr(statistics, "_MAX_EXACT_QUANTILES", 10)
    zeros, others = Quantiles(), Quantiles()
    zeros.values, zeros.counts = np.float64([0, 1]), np.int64([6 * 10**9, 3 * 10**9 + 1])
    others.update(np.linspace(2, 3, 1000))
    assert others.digest is not None
    zeros.merge(others)
    assert zeros.digest.get_total_weight() == 9 * 10**9 + 1001
    assert zeros.boundaries(10) == (1.0,)


def test_one_bucket_has_no_boundaries():
    quantiles = Quantiles()
    quantiles.update(np.float32([1, 2]))
    assert quantiles.boundaries(0) == quantiles.boundaries(1) == ()
