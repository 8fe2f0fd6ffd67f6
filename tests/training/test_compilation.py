"""Whether XLA compiles is measured, changes nothing but the rounding, and is kept by a resumed run."""

import logging
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from c2al_tf.losses import weighted_sum_of_tasks
from c2al_tf.training import compilation, loop, train
from c2al_tf.training.batches import in_form


def make_model() -> keras.Model:
    keras.utils.set_random_seed(0)
    x = keras.Input((3,))
    h = keras.layers.Dropout(0.5)(keras.layers.BatchNormalization()(keras.layers.Dense(4, "relu")(x)))
    model = keras.Model(x, keras.layers.Dense(1)(h))
    model.compile("adam", weighted_metrics=["mae"])
    return model


def rows() -> tf.data.Dataset:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(32, 3)).astype("float32"), rng.integers(0, 2, 32)
    return tf.data.Dataset.from_tensor_slices((x, y)).batch(8)


@pytest.mark.parametrize("worthwhile", [0.0, 1e9])
def test_trying_changes_no_variable(worthwhile: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights, moving statistics, the state of dropout, the optimizer's and the metrics'."""
    monkeypatch.setattr(compilation, "WORTHWHILE_SECONDS", worthwhile)
    results = {}
    for jit_compile in ("auto", False, True):
        model = make_model()
        history = train(model, rows(), weighted_sum_of_tasks(), epochs=2, jit_compile=jit_compile)
        results[jit_compile] = [*model.get_weights(), np.array([epoch["mae"] for epoch in history.epochs])]
        if jit_compile == "auto":
            chosen = history.jit_compile
    for ours, expected in zip(results["auto"], results[chosen], strict=True):
        np.testing.assert_array_equal(ours, expected)


def test_a_short_run_is_not_worth_a_trial_and_the_log_says_so(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="c2al_tf")
    assert not compilation.choose_compilation(make_model(), weighted_sum_of_tasks(), _batch(), num_steps=1)
    assert "XLA: not used, 1 steps of " in caplog.text


def test_a_long_run_uses_the_faster_and_the_log_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="c2al_tf")
    for with_xla, used in ((0.5, True), (2.0, False)):
        seconds = iter([1.0, with_xla])
        monkeypatch.setattr(compilation, "_seconds", lambda *_: next(seconds))  # noqa: B023
        assert compilation.choose_compilation(make_model(), weighted_sum_of_tasks(), _batch(), None) == used
        words = "used" if used else "not used"
        assert f"XLA: {words}, a step takes {1e3 * with_xla:.1f} ms with it and 1000.0 ms without" in caplog.text


def test_a_resumed_run_keeps_the_choice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = {"objective": weighted_sum_of_tasks(), "checkpoints": tmp_path, "jit_compile": "auto"}
    first = train(make_model(), rows(), **arguments)
    assert first.jit_compile is False
    monkeypatch.setattr(loop, "choose_compilation", lambda *_: pytest.fail("measured again"))
    assert train(make_model(), rows(), epochs=2, **arguments).jit_compile is False


def test_several_devices_compile_without_a_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compilation, "_seconds", lambda *_: pytest.fail("measured"))
    with tf.distribute.OneDeviceStrategy("CPU:0").scope():
        model = make_model()
    monkeypatch.setattr(type(model.distribute_strategy), "num_replicas_in_sync", 2)
    assert compilation.choose_compilation(model, weighted_sum_of_tasks(), _batch(), None)


def _batch() -> tuple:
    return next(iter(in_form(rows(), make_model())))
