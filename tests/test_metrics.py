import keras
import numpy as np
import pytest

from c2al_tf.evaluation.scoring import slice_metrics
from c2al_tf.metrics import NormalizedEntropy

RNG = np.random.default_rng(0)
LABELS = (RNG.random(1000) < 0.1).astype(np.float32)
LOGITS = (RNG.normal(size=1000) - 2 + LABELS).astype(np.float32)


def ne(*batches: tuple, **kwargs) -> float:
    metric = NormalizedEntropy(**kwargs)
    for batch in batches:
        metric.update_state(*batch)
    return float(metric.result())


def test_predicting_the_base_rate_has_ne_1() -> None:
    """Property 2."""
    rate = LABELS.mean()
    assert ne((LABELS, np.full(1000, np.log(rate / (1 - rate))))) == pytest.approx(1, abs=1e-5)


def test_agrees_with_the_evaluation() -> None:
    batches = [(LABELS[i : i + 300][:, None], LOGITS[i : i + 300][:, None]) for i in range(0, 1000, 300)]
    assert ne(*batches) == pytest.approx(slice_metrics(LOGITS, LABELS)["ne"], rel=1e-5)


def test_probabilities() -> None:
    p = 1 / (1 + np.exp(-LOGITS))
    assert ne((LABELS, p), from_logits=False) == pytest.approx(ne((LABELS, LOGITS)), rel=1e-4)


def test_zero_weight_rows_change_nothing() -> None:
    """Property 8."""
    weights = (RNG.random(1000) < 0.5).astype(np.float32)
    kept = weights > 0
    assert ne((LABELS, LOGITS, weights)) == pytest.approx(ne((LABELS[kept], LOGITS[kept])), rel=1e-6)


def test_reset_and_round_trip() -> None:
    metric = NormalizedEntropy(from_logits=False, name="click_ne")
    metric.update_state(LABELS, np.full(1000, 0.1))
    metric.reset_state()
    assert np.isnan(metric.result())
    again = keras.metrics.deserialize(keras.metrics.serialize(metric))
    assert (again.from_logits, again.name) == (False, "click_ne")


def test_in_compile() -> None:
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(loss=keras.losses.BinaryCrossentropy(from_logits=True), weighted_metrics=[NormalizedEntropy()])
    weights = (RNG.random(1000) < 0.5).astype(np.float32)
    result = model.evaluate(LOGITS[:, None], LABELS[:, None], sample_weight=weights, verbose=0, return_dict=True)
    z = np.asarray(model(LOGITS[:, None]))
    assert result["ne"] == pytest.approx(slice_metrics(z, LABELS, weights)["ne"], rel=1e-4)
