import keras
import numpy as np
import pytest
import tensorflow as tf

from c2al_tf.entropy import log_loss, normalized_entropy
from c2al_tf.evaluation.scoring import slice_metrics
from c2al_tf.metrics import NormalizedEntropy

from .untuned import UNTUNED

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


def compiled(*metrics: NormalizedEntropy, jit_compile: bool = False) -> keras.Model:
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    model.compile(loss=loss, weighted_metrics=[*metrics], jit_compile=jit_compile)
    return model


def test_in_compile() -> None:
    model = compiled(NormalizedEntropy())
    weights = (RNG.random(1000) < 0.5).astype(np.float32)
    result = model.evaluate(LOGITS[:, None], LABELS[:, None], sample_weight=weights, verbose=0, return_dict=True)
    z = np.asarray(model(LOGITS[:, None]))
    assert result["ne"] == pytest.approx(slice_metrics(z, LABELS, weights)["ne"], rel=1e-4)


def many_single_rows(metric: NormalizedEntropy, mode: str, num_rows: int) -> None:
    """Adds a row of weight 1e9, then single rows of weight 1; Grappler or XLA rewrites the graph."""
    label, logit, weight = (tf.constant([value]) for value in (1.0, -8.0, 1.0))

    def update() -> None:
        metric.update_state(tf.constant([0.0]), tf.constant([-1.0]), tf.constant([1e9]))
        for _ in tf.range(num_rows):
            metric.update_state(label, logit, weight)

    update() if mode == "eager" else tf.function(update, jit_compile=mode == "xla")()


def totals(metric: NormalizedEntropy) -> np.ndarray:
    return np.asarray(metric.sums, np.float64) + np.asarray(metric.remainders, np.float64)


@pytest.mark.tensorflow
@pytest.mark.parametrize(("mode", "num_rows"), [("eager", 100), ("grappler", 20_000), ("xla", 20_000)])
def test_rows_beyond_2_to_the_24_count(mode: str, num_rows: int) -> None:
    """A float32 of 1e9 plus 1 is 1e9."""
    metric = NormalizedEntropy()
    many_single_rows(metric, mode, num_rows)
    losses = log_loss(np.array([0.0, 1.0]), np.array([-1.0, -8.0])) * [1e9, num_rows]
    expected = [losses.sum(), num_rows, 1e9 + num_rows]
    assert totals(metric)[1:].tolist() == expected[1:]
    assert float(metric.result()) == pytest.approx(normalized_entropy(*expected), rel=1e-6)


@pytest.mark.tensorflow
@pytest.mark.parametrize("jit_compile", [False, True])
def test_1e9_weighted_rows(jit_compile: bool) -> None:
    """64 batches whose weights sum to 1e9, as 1e9 rows do."""
    rng = np.random.default_rng(0)
    shape = (64, 16_384)
    labels = rng.random(shape) < 0.1
    logits = (rng.normal(size=shape) - 2 + labels).astype(np.float32)
    weights = rng.exponential(size=shape).astype(np.float32)
    weights *= np.float32(1e9 / weights.sum(dtype=np.float64))
    metric = NormalizedEntropy()
    update = tf.function(metric.update_state, jit_compile=jit_compile)
    for batch in zip(labels, logits, weights, strict=True):
        update(*map(tf.constant, batch))
    y, z, w = (x.astype(np.float64) for x in (labels, logits, weights))
    expected = ((w * log_loss(y, z)).sum(), (w * y).sum(), w.sum())
    np.testing.assert_allclose(totals(metric), expected, rtol=1e-7)
    assert float(metric.result()) == pytest.approx(normalized_entropy(*expected), rel=1e-6)


@pytest.mark.tensorflow
@pytest.mark.parametrize("jit_compile", [False, True])
def test_equal_rows_add_no_rounding_errors(jit_compile: bool) -> None:
    """Adding equal numbers one by one rounds each time in the same direction."""
    metric = NormalizedEntropy()
    update = tf.function(metric.update_state, jit_compile=jit_compile)
    update(tf.ones(16_384), tf.fill(16_384, -2.2), tf.fill(16_384, 0.1))
    weight = 16_384 * float(np.float32(0.1))
    np.testing.assert_allclose(totals(metric), [weight * log_loss(1, np.float32(-2.2)), weight, weight], rtol=1e-7)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_in_fit(jit_compile: bool) -> None:
    """A row of weight 1e9, then 300 of weight 1, each a batch."""
    rows = tf.data.Dataset.from_tensors(([-1.0], [0.0], [1e9]))
    rows = rows.concatenate(tf.data.Dataset.from_tensors(([-8.0], [1.0], [1.0])).repeat(300))
    metric = NormalizedEntropy()
    compiled(metric, jit_compile=jit_compile).fit(rows.with_options(UNTUNED), shuffle=False, verbose=0)
    assert totals(metric)[1:].tolist() == [300, 1e9 + 300]


class WithMetric(keras.layers.Layer):
    """Adds its inputs to a metric, as labels."""

    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        self.ne = NormalizedEntropy()

    def call(self, x):
        self.ne.update_state(x, x)
        return x


def test_a_layer_of_mixed_precision_keeps_float32() -> None:
    """A bfloat16 counts to 256 rows."""
    layer = WithMetric(dtype="mixed_bfloat16")
    for _ in range(3):
        layer(np.ones(301, np.float32))
    assert totals(layer.ne)[1:].tolist() == [903, 903]


def test_a_saved_model_keeps_the_metric(tmp_path) -> None:
    model = compiled(NormalizedEntropy())
    model.fit(LOGITS[:, None], LABELS[:, None], verbose=0)
    before = model.evaluate(LOGITS[:, None], LABELS[:, None], verbose=0, return_dict=True)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.evaluate(LOGITS[:, None], LABELS[:, None], verbose=0, return_dict=True) == before
