import math

import numpy as np
import pytest

from c2al_tf.entropy import log_loss, normalized_entropy
from c2al_tf.losses import binary_cross_entropy
from c2al_tf.metrics import NormalizedEntropy

RNG = np.random.default_rng(0)
LABELS = (RNG.random(1000) < 0.1).astype(np.float32)
LOGITS = (RNG.normal(size=1000) - 2 + LABELS).astype(np.float32)


def test_log_loss_by_hand() -> None:
    """Predictions 1/2 and 3/4; a label of 1/2 gives the mean of the losses of 0 and 1."""
    labels, logits = np.array([0.0, 1.0, 0.5]), np.array([0.0, math.log(3), math.log(3)])
    expected = [math.log(2), math.log(4 / 3), (math.log(4 / 3) + math.log(4)) / 2]
    np.testing.assert_allclose(log_loss(labels, logits), expected, rtol=1e-15)


def test_large_logits_do_not_overflow() -> None:
    assert log_loss(np.array([0, 0, 1, 1]), np.array([-800.0, 800.0, -800.0, 800.0])).tolist() == [0, 800, 800, 0]


def test_predicting_the_base_rate_has_ne_1() -> None:
    """Property 2."""
    logits = np.full(10, math.log(3 / 7))
    labels = np.arange(10) < 3
    assert normalized_entropy(log_loss(labels, logits).sum(), labels.sum(), 10) == pytest.approx(1, abs=1e-15)


@pytest.mark.parametrize("sums", [(0.5, 0, 2), (0.5, 2, 2), (0.0, 0, 0)])
def test_equal_labels_have_no_ne(sums: tuple[float, float, float]) -> None:
    assert math.isnan(normalized_entropy(*sums))


def test_agrees_with_loss_and_metric() -> None:
    losses = log_loss(LABELS, LOGITS)
    np.testing.assert_allclose(binary_cross_entropy(LABELS, LOGITS), losses, rtol=1e-5)
    metric = NormalizedEntropy()
    metric.update_state(LABELS, LOGITS)
    assert normalized_entropy(losses.sum(), LABELS.sum(), 1000) == pytest.approx(float(metric.result()), rel=1e-5)
