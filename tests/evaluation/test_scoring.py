import json
import math

import numpy as np
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from c2al_tf.evaluation.scoring import NUM_SCORES, auc, histogram_auc, score_buckets, slice_metrics


@pytest.fixture
def rows():
    rng = np.random.default_rng(0)
    labels = (rng.random(500) < 0.3).astype(np.float32)
    # Rounded, so that logits tie.
    logits = np.round(rng.normal(size=500) + labels, 1).astype(np.float32)
    weights = rng.random(500).astype(np.float32)
    return logits, labels, weights


def test_hand_worked():
    # Predictions 1/2 and 3/4, labels 0 and 1: losses log 2 and log 4/3; the mean label's entropy is log 2.
    figures = slice_metrics(np.array([0.0, math.log(3)]), np.array([0, 1]))
    expected = (math.log(2) + math.log(4 / 3)) / 2
    assert figures == pytest.approx(
        {
            "rows": 2,
            "positives": 1,
            "ne": expected / math.log(2),
            "log_loss": expected,
            "auc": 1.0,
            "calibration": 1.25,
        }
    )


@pytest.mark.parametrize("weighted", [False, True])
def test_agrees_with_scikit_learn(rows, weighted):
    logits, labels, weights = rows
    w = weights if weighted else None
    figures = slice_metrics(logits, labels, w)
    p = 1 / (1 + np.exp(-logits.astype(np.float64)))
    assert figures["log_loss"] == pytest.approx(log_loss(labels, p, sample_weight=w), rel=1e-12)
    assert figures["auc"] == pytest.approx(roc_auc_score(labels, logits, sample_weight=w), rel=1e-12)
    assert figures["calibration"] == pytest.approx(np.average(p, weights=w) / np.average(labels, weights=w), rel=1e-6)


def score_histograms(logits, labels, weights):
    buckets = score_buckets(logits)
    return [np.bincount(buckets[labels == y], weights[labels == y], minlength=NUM_SCORES) for y in (0, 1)]


@pytest.mark.parametrize("spread", [1e-4, 0.01, 1.0, 30.0])
def test_auc_of_a_histogram_is_within_its_bound(spread):
    rng = np.random.default_rng(0)
    labels, weights = rng.random(20_000) < 0.02, rng.random(20_000)
    logits = spread * (rng.normal(size=20_000) + labels)
    exact = auc(logits, labels, weights)
    found, error = histogram_auc(*score_histograms(logits, labels, weights))
    assert abs(found - exact) <= error
    if spread == 1:
        assert error < 5e-4
        assert found == pytest.approx(exact, abs=error / 2)


def test_auc_of_a_histogram_by_hand():
    # Negatives 1, 2, positives 2, 1: of 9 pairs 4 + 1/2 (2 + 2) are in order, 4 are within a bucket.
    assert histogram_auc(np.array([1.0, 2.0, 0.0]), np.array([0.0, 2.0, 1.0])) == (
        pytest.approx((2 * (1 + 1) + 3) / 9),
        pytest.approx(2 / 9),
    )
    assert histogram_auc(np.zeros(3), np.ones(3)) == (None, 0.0)


def test_score_buckets_rise_and_hold_every_logit():
    logits = np.array([-1e9, -16.0, -15.999, 0.0, 1 / 512, 15.999, 16.0, 1e9])
    assert score_buckets(logits).tolist() == [0, 0, 0, NUM_SCORES // 2, NUM_SCORES // 2 + 1] + [NUM_SCORES - 1] * 3


@pytest.mark.parametrize("rate", [0.004, 0.5, 0.97])
def test_ne_of_the_base_rate_is_one(rate):
    labels = np.arange(1000) < 1000 * rate
    logits = np.full(1000, math.log(rate / (1 - rate)))
    weights = np.where(labels, 2.0, 1.0)
    assert slice_metrics(logits, labels)["ne"] == pytest.approx(1.0, rel=1e-12)
    weighted_rate = 2 * rate / (1 + rate)
    weighted = slice_metrics(np.full(1000, math.log(weighted_rate / (1 - weighted_rate))), labels, weights)
    assert weighted["ne"] == pytest.approx(1.0, rel=1e-12)


def test_zero_weight_rows_change_nothing(rows):
    logits, labels, weights = rows
    weights = np.where(np.arange(500) % 3 == 0, 0.0, weights)
    junk = np.where(weights == 0, np.nan, logits)
    kept = weights > 0
    assert slice_metrics(junk, labels, weights) == slice_metrics(logits[kept], labels[kept], weights[kept])


def test_extreme_logits_lose_nothing():
    figures = slice_metrics(np.array([-800.0, 800.0, 800.0]), np.array([1, 0, 1]))
    assert figures["log_loss"] == pytest.approx(1600 / 3)
    tiny = slice_metrics(np.array([-40.0, 40.0]), np.array([0, 1]))
    assert tiny["log_loss"] == pytest.approx(math.exp(-40), rel=1e-9)


@pytest.mark.parametrize(
    ("labels", "undefined"),
    [([0, 0], {"ne", "auc", "calibration"}), ([1, 1], {"ne", "auc"}), ([], {"ne", "log_loss", "auc", "calibration"})],
)
def test_undefined_figures_are_null(labels, undefined):
    figures = slice_metrics(np.zeros(len(labels)), np.array(labels))
    assert {name for name, value in figures.items() if value is None} == undefined
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures


@pytest.mark.parametrize(
    ("logits", "labels", "weights", "message"),
    [
        ([0.0, np.nan], [0, 1], None, r"`logits` must be finite. Received: nan in row 1"),
        ([0.0, 0.0], [0, 2], None, r"`labels` must be 0 or 1. Received: 2.0 in row 1"),
        ([0.0, 0.0], [0, 1], [1, -1], r"`weights` must be finite and at least 0. Received: -1.0 in row 1"),
        ([0.0], [0, 1], None, r"one value per label. Received: 1 for 2"),
        ([0.0, 0.0], [0, 1], [1], r"one value per label. Received: 1 for 2"),
        ([[0.0, 0.0]], [0, 1], None, r"must have shape \(rows,\) or \(rows, 1\). Received: \(1, 2\)"),
    ],
)
def test_bad_input(logits, labels, weights, message):
    with pytest.raises(ValueError, match=message):
        slice_metrics(np.array(logits), np.array(labels), None if weights is None else np.array(weights))
