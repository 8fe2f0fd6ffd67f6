import math

import numpy as np
import pytest

from c2al_tf.diagnostics import measures

ONE_FIELD = np.array([[0.0, -3.0], [2.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
EQUAL = np.array([[1.0, 2.0], [-1.0, 2.0], [1.0, -2.0], [1.0, 2.0]])


@pytest.mark.parametrize(("Y", "entropy", "gini"), [(ONE_FIELD, 0.0, 0.75), (EQUAL, 1.0, 0.0)])
def test_extremes(Y, entropy: float, gini: float) -> None:
    for each in (Y, np.stack([Y, 5 * Y])):
        assert measures.entropy(each) == pytest.approx(entropy, abs=1e-12)
        assert measures.gini(each) == pytest.approx(gini, abs=1e-12)


def test_between_them() -> None:
    """Shares 1/4 and 3/4 of two fields: H = -1/4 log 1/4 - 3/4 log 3/4; Gini = (-1 * 1/4 + 1 * 3/4) / 2."""
    Y = np.array([[3.0], [-1.0]])
    expected = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75)) / math.log(2)
    assert measures.entropy(Y) == pytest.approx(expected)
    assert measures.gini(Y) == pytest.approx(0.25)
    with_zeros = np.concatenate([Y, np.zeros((2, 1))], axis=1)
    assert measures.entropy(with_zeros) == pytest.approx(expected)
    assert measures.gini(with_zeros) == pytest.approx(0.25)


def test_kurtosis() -> None:
    """Of -1 and 1 it is 1 - 3. Of a normal distribution it is 0."""
    assert measures.kurtosis(np.array([-1.0, 1.0, -1.0, 1.0])) == pytest.approx(-2)
    assert measures.kurtosis(np.random.default_rng(0).normal(size=200_000)) == pytest.approx(0, abs=0.05)
    assert math.isnan(measures.kurtosis(np.ones(4)))


def test_effective_rank() -> None:
    """Of singular values 3 and 1, exp(H(3/4, 1/4)); of an outer product 1; of the identity its size."""
    entropy = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))
    assert measures.effective_rank(np.array([[0, 3.0], [1, 0], [0, 0]])) == pytest.approx(math.exp(entropy))
    assert measures.effective_rank(np.outer([1.0, 2, 3], [4.0, 5])) == pytest.approx(1)
    assert measures.effective_rank(np.eye(3)) == pytest.approx(3)
    assert measures.effective_rank(np.stack([np.eye(2), np.ones((2, 2)), np.zeros((2, 2))])) == pytest.approx(1.5)


def test_share_near_zero() -> None:
    """The root mean square of (2, 0.001, 0, -2) is 1.41: 0.001 is less than a hundredth of it."""
    assert measures.share_near_zero(np.array([2.0, 0.001, 0.0, -2.0])) == 0.5
    assert measures.share_near_zero(np.array([2e-9, 0.001e-9, 0.0, -2e-9])) == 0.5
    assert measures.share_near_zero(np.zeros(3)) == 1
    assert measures.share_near_zero(np.full(3, 0.1)) == 0


def test_dead_units() -> None:
    assert measures.dead_units(np.array([[0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 2.0, 0.0]])) == 0.5


def test_all_of_them() -> None:
    found = measures.measures_of(EQUAL.astype("float32"))
    assert found == {
        "entropy": pytest.approx(1),
        "gini": pytest.approx(0, abs=1e-12),
        "kurtosis": measures.kurtosis(EQUAL),
        "effective_rank": measures.effective_rank(EQUAL),
        "near_zero": 0,
    }


def test_zeros_alone() -> None:
    found = measures.measures_of(np.zeros((5, 3, 2)))
    assert found.pop("near_zero") == 1
    assert all(math.isnan(value) for value in found.values())
