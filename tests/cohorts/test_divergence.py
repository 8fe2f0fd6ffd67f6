import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import arrays
from scipy.spatial.distance import cosine as scipy_cosine, jensenshannon
from scipy.stats import entropy, wasserstein_distance

from c2al_tf.cohorts.divergence import (
    DIVERGENCES,
    cosine,
    jensen_shannon,
    kl,
    log_normalized,
    prediction_buckets,
    prediction_histogram,
    symmetric_kl,
    wasserstein,
)

COUNTS = arrays(np.int64, 8, elements=st.integers(0, 1000)).filter(lambda counts: counts.sum() > 0)
BOUNDS = {"js": np.log(2), "kl": np.inf, "wasserstein": 1.0, "cosine": 1.0}


def test_log_normalized_by_hand():
    # A decade is a sixth of the scale.
    p = np.array([0, 1e-9, 1e-6, 1e-5, 1e-3, 0.1, 1])
    np.testing.assert_allclose(log_normalized(p), np.array([0, 0, 0, 1, 3, 5, 6]) / 6, atol=1e-12)


def test_histogram_by_hand():
    assert prediction_histogram([0.0, 1e-5, 1e-3, 1e-3, 0.5, 1.0], 2).tolist() == [2, 4]
    assert prediction_buckets(np.float32([0, 1]), 200).tolist() == [0, 199]


@given(st.lists(st.floats(0, 1), max_size=20), st.lists(st.floats(0, 1), max_size=20))
def test_histograms_add_up(a, b):
    np.testing.assert_array_equal(prediction_histogram(a) + prediction_histogram(b), prediction_histogram(a + b))


@pytest.mark.parametrize("bad", [-0.1, 1.1, np.nan, np.inf])
def test_predictions_that_are_no_probabilities(bad):
    with pytest.raises(ValueError, match=rf"in \[0, 1\].*Received: {bad} in row 1; 1 of 3 predictions"):
        prediction_histogram([0.5, bad, 0.5])


def test_too_few_buckets():
    with pytest.raises(ValueError, match="Received: num_buckets=1"):
        prediction_histogram([0.5], 1)


def test_by_hand():
    p, q = np.array([3, 1, 0, 0]), np.array([0, 0, 1, 1])
    # Nothing in common: the largest JS and cosine; mass travels (3/4 * (2 + 3) + 1/4 * (1 + 2)) / 2 buckets of 4.
    assert jensen_shannon(p, q) == pytest.approx(np.log(2))
    assert cosine(p, q) == 1
    assert wasserstein(p, q) == pytest.approx(4.5 / 2 / 4)
    p, q = np.array([1, 1]), np.array([3, 1])
    assert kl(p, q, smoothing=0) == pytest.approx(0.5 * np.log(0.5 / 0.75) + 0.5 * np.log(0.5 / 0.25))
    assert cosine(p, q) == pytest.approx(1 - 4 / np.sqrt(2 * 10))
    # Half a row more in each bucket: (1.5, 1.5) / 3 against (3.5, 1.5) / 5.
    assert kl(p, q) == pytest.approx(0.5 * np.log(0.5 / 0.7) + 0.5 * np.log(0.5 / 0.3))
    assert symmetric_kl(p, q) == pytest.approx((kl(p, q) + kl(q, p)) / 2)


@given(COUNTS, COUNTS)
def test_against_scipy(p, q):
    positions = np.arange(8) / 8
    assert kl(p, q, smoothing=1.0) == pytest.approx(entropy(p + 1, q + 1), abs=1e-12)
    assert jensen_shannon(p, q) == pytest.approx(jensenshannon(p, q) ** 2, abs=1e-9)
    assert wasserstein(p, q) == pytest.approx(wasserstein_distance(positions, positions, p, q), abs=1e-12)
    assert cosine(p, q) == pytest.approx(scipy_cosine(p, q), abs=1e-9)


@pytest.mark.parametrize("name", DIVERGENCES)
@given(p=COUNTS, q=COUNTS)
def test_properties(name, p, q):
    divergence = DIVERGENCES[name].measure
    assert divergence(p, p) == pytest.approx(0, abs=1e-12)
    assert divergence(p, q) == pytest.approx(divergence(q, p), abs=1e-12)
    assert 0 <= divergence(p, q) <= BOUNDS[name] + 1e-12
    if name != "kl":  # smoothing weighs less among more rows
        assert divergence(3 * p, q) == pytest.approx(divergence(p, q), abs=1e-12)


@pytest.mark.parametrize("name", DIVERGENCES)
def test_broadcasting(name):
    counts = np.random.default_rng(0).integers(1, 9, (3, 4, 5))
    table = DIVERGENCES[name].measure(counts[:, :, None], counts[:, None])
    assert table.shape == (3, 4, 4)
    assert table[2, 1, 3] == pytest.approx(DIVERGENCES[name].measure(counts[2, 1], counts[2, 3]))


@pytest.mark.parametrize("name", ["js", "wasserstein", "cosine"])
def test_an_empty_histogram_has_no_divergence(name):
    with pytest.raises(ValueError, match="at least one row"):
        DIVERGENCES[name].measure(np.zeros(3), np.ones(3))
