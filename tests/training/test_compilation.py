"""Whether XLA compiles is measured, changes nothing but the rounding, and is kept by a resumed run."""

import functools
import logging
import types
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from c2al_tf.losses import weighted_sum_of_tasks
from c2al_tf.training import compilation, loop, train
from c2al_tf.training.batches import in_form
from c2al_tf.training.step import compile_step

from ..untuned import UNTUNED


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
    return tf.data.Dataset.from_tensor_slices((x, y)).batch(8).with_options(UNTUNED)


@pytest.mark.parametrize("worthwhile", [0.0, 1e9])
def test_trying_changes_no_variable(worthwhile: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights, moving statistics, the state of dropout, the optimizer's and the metrics'."""
    monkeypatch.setattr(compilation, "WORTHWHILE_SECONDS", worthwhile)

    def trained(jit_compile: bool | str) -> tuple[bool, list[np.ndarray]]:
        model = make_model()
        history = train(model, rows(), weighted_sum_of_tasks(), epochs=2, jit_compile=jit_compile)
        return history.jit_compile, [*model.get_weights(), np.array([epoch["mae"] for epoch in history.epochs])]

    chosen, ours = trained("auto")
    for value, expected in zip(ours, trained(chosen)[1], strict=True):
        np.testing.assert_array_equal(value, expected)


def choose(num_steps: int | None, seconds: dict[bool, float] | None = None) -> bool:
    model = make_model()
    compiled = functools.cache(functools.partial(compile_step, model, weighted_sum_of_tasks()))
    if seconds is not None:
        compiled = {jit: types.SimpleNamespace(seconds=value) for jit, value in seconds.items()}.__getitem__
    batch = next(iter(in_form(rows(), model)))
    return compilation.choose_compilation(model, compiled, batch, num_steps)


def test_a_short_run_is_not_worth_a_trial_and_the_log_says_so(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="c2al_tf")
    assert not choose(num_steps=1)
    assert " ms a step the run takes less time than trying it" in caplog.text


@pytest.mark.parametrize(
    ("with_xla", "num_steps", "used"), [(0.5, None, True), (2.0, None, False), (0.5, 100, True), (0.99, 40, False)]
)
def test_xla_is_used_if_it_saves_more_than_compiling_takes(
    with_xla: float,
    num_steps: int | None,
    used: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Compiling takes as long as the first step with XLA, here as long as any."""
    caplog.set_level(logging.INFO, logger="c2al_tf")
    monkeypatch.setattr(compilation, "_seconds", lambda step, batch: step.seconds)
    assert choose(num_steps, {False: 1.0, True: with_xla}) == used
    words = "used" if used else "not used"
    assert f"XLA: {words}, a step takes {1e3 * with_xla:.1f} ms with it and 1000.0 ms without" in caplog.text


def test_a_model_that_xla_cannot_compile_is_trained_without(caplog: pytest.LogCaptureFixture) -> None:
    class Text(keras.layers.Layer):
        def call(self, x: tf.Tensor) -> tf.Tensor:
            return x + tf.cast(tf.strings.length(tf.strings.as_string(x[:, :1])), tf.float32)

    caplog.set_level(logging.INFO, logger="c2al_tf")
    x = keras.Input((3,))
    model = keras.Model(x, keras.layers.Dense(1)(Text()(x)))
    model.compile("adam")
    stop = keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: setattr(model, "stop_training", True))
    endless = {"steps_per_epoch": 2, "epochs": 10**9, "callbacks": [stop]}
    history = train(model, rows().repeat(), weighted_sum_of_tasks(), jit_compile="auto", **endless)
    assert history.jit_compile is False
    assert "XLA: not used, it cannot compile this model: " in caplog.text


def test_variables_that_memory_cannot_hold_twice_are_compiled_without_a_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compilation, "MOST_BYTES", 0)
    monkeypatch.setattr(compilation, "_seconds", lambda *_: pytest.fail("measured"))
    assert choose(num_steps=1)


@pytest.mark.parametrize(("trainings", "steps"), [(1, 2 * 4), (5, 5 * 2 * 4)])
def test_what_compiling_takes_is_shared_by_the_trainings_to_come(
    monkeypatch: pytest.MonkeyPatch, trainings: int, steps: int
) -> None:
    asked = []
    monkeypatch.setattr(loop, "choose_compilation", lambda *_, num_steps, **__: asked.append(num_steps))
    train(make_model(), rows(), weighted_sum_of_tasks(), epochs=2, jit_compile="auto", trainings=trainings)
    assert asked[0] == steps


def test_a_resumed_run_keeps_the_choice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = {"objective": weighted_sum_of_tasks(), "checkpoints": tmp_path, "jit_compile": "auto"}
    first = train(make_model(), rows(), **arguments)
    assert first.jit_compile is False
    monkeypatch.setattr(loop, "choose_compilation", lambda *_, **__: pytest.fail("measured again"))
    assert train(make_model(), rows(), epochs=2, **arguments).jit_compile is False


@pytest.mark.parametrize(
    ("asked", "chosen", "known"),
    [(True, False, True), (False, True, False), ("auto", False, False), ("auto", None, None)],
)
def test_what_is_known_without_a_trial(asked: bool | str, chosen: bool | None, known: bool | None) -> None:
    assert compilation.without_trial(make_model(), asked, chosen) is known


def test_several_devices_compile_without_a_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    with tf.distribute.OneDeviceStrategy("CPU:0").scope():
        model = make_model()
    monkeypatch.setattr(type(model.distribute_strategy), "num_replicas_in_sync", 2)
    assert compilation.without_trial(model, "auto", None) is True
