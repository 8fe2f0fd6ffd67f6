import dataclasses
import math

import keras
import numpy as np
import pytest

from c2al_tf.config import ModelConfig
from c2al_tf.data.inputs.dataset import make_dataset
from c2al_tf.losses import weighted_sum_of_tasks
from c2al_tf.model import build_model
from c2al_tf.training import evaluate, predict, train

from .killed import KillAt, KilledError

DHEN = ModelConfig(embedding_dim=4, num_blocks=1, num_outputs=2, attention_units=4, shared_units=(8,), head_units=(5,))
BATCH, STEPS = 64, 16


@pytest.fixture(scope="module", params=["no XLA", pytest.param("XLA", marks=pytest.mark.slow)])
def whole(request):
    """Arguments of `fit` for a training that has all of it: heads, dropout, several epochs."""
    arms = {"model": DHEN, "lambdas": {"young": 0.3, "old": 0.3}, "dropout": 0.2, "epochs": 3}
    return arms | {"jit_compile": request.param == "XLA"}


@pytest.fixture(scope="module")
def trained(fit, rows_in_order, whole):
    return fit(validation=rows_in_order, **whole)


@pytest.fixture(scope="module")
def baseline(fit) -> keras.Model:
    return fit()[0]


def test_learns_and_reports(trained) -> None:
    _, history = trained
    assert len(history.epochs) == 3
    last = history.epochs[-1]
    tasks = ("primary", "young", "old")
    assert set(last) == {"loss", "val_primary_loss", "val_primary_ne"} | {
        f"{t}_{m}" for t in tasks for m in ("loss", "ne")
    }
    assert last["val_primary_ne"] < 0.98 < history.epochs[0]["primary_ne"]
    expected = last["primary_loss"] + 0.3 * (last["young_loss"] + last["old_loss"])
    assert last["loss"] == pytest.approx(expected, rel=0.05)  # the last batch is smaller: means of batches and of rows


def test_same_seed_same_weights_to_the_bit(fit, trained, whole, digest) -> None:
    """Whether or not validation rows are scored between the epochs."""
    assert digest(fit(**whole)[0]) == digest(trained[0])


def test_another_seed_other_weights(fit, baseline, digest) -> None:
    assert digest(fit(seed=1)[0]) != digest(baseline)


def test_mixed_precision_learns_with_float32_weights_and_logits(fit, rows_in_order) -> None:
    model = dataclasses.replace(DHEN, mixed_precision=True)
    model, history = fit(model=model, epochs=3, validation=rows_in_order)
    assert history.epochs[-1]["val_primary_ne"] < 0.99
    assert {weight.dtype for weight in model.weights} == {"float32"}
    assert {output.dtype for output in model.output.values()} == {"float32"}
    assert model.get_layer("block_0").compute_dtype == "bfloat16"


def test_auxiliary_weights_0_change_no_bit_of_the_primary(fit, baseline, rows_in_order) -> None:
    """Property 5."""
    zero, _ = fit(lambdas={"young": 0.0, "old": 0.0})
    some, _ = fit(lambdas={"young": 0.3, "old": 0.3})
    logits = [predict(model, rows_in_order(), 1000, jit_compile=False) for model in (baseline, zero, some)]
    np.testing.assert_array_equal(logits[0], logits[1])
    assert np.abs(logits[0] - logits[2]).max() > 1e-2


@pytest.mark.slow
def test_auxiliary_weights_0_with_xla_and_dropout(fit, rows_in_order) -> None:
    """Property 5: within rounding after a step."""
    arms = {"epochs": 1, "dropout": 0.2, "jit_compile": True}
    logits = []
    for lambdas in (None, {"young": 0.0, "old": 0.0}):
        with pytest.raises(KilledError):
            fit(lambdas=lambdas, callbacks=[keep := Keep(), KillAt(0, 0)], **arms)
        logits.append(predict(keep.model, rows_in_order(), 1000, jit_compile=False))
    np.testing.assert_allclose(logits[0], logits[1], rtol=1e-5, atol=1e-6)


class Keep(keras.callbacks.Callback):
    """Keeps the model within reach."""


def test_resumed_training_ends_where_the_uninterrupted_one_does(fit, tmp_path, rows_in_order, digest) -> None:
    """Property 10."""
    arguments = {"lambdas": {"young": 0.3, "old": 0.3}, "dropout": 0.2, "epochs": 3}
    whole, expected = fit(**arguments)
    resumable = arguments | {"checkpoints": tmp_path, "checkpoint_steps": 5}
    for place in ((0, 14), (2, 12)):
        with pytest.raises(KilledError):
            fit(callbacks=[KillAt(*place)], **resumable)
    resumed, history = fit(**resumable)
    assert digest(resumed) == digest(whole)
    assert history.epochs == expected.epochs
    again, _ = fit(**resumable)
    assert digest(again) == digest(whole)


def test_a_damaged_checkpoint_is_passed_over(fit, tmp_path, rows_in_order, digest) -> None:
    arguments = {"epochs": 3, "dropout": 0.2, "validation": rows_in_order, "patience": 1}
    whole, expected = fit(**arguments)
    resumable = arguments | {"checkpoints": tmp_path, "checkpoint_steps": 5}
    with pytest.raises(KilledError):
        fit(callbacks=[KillAt(2, 9)], **resumable)
    newest = max(tmp_path.iterdir())
    data = bytearray(newest.read_bytes())
    data[len(data) // 2] ^= 0xFF
    newest.write_bytes(data)
    with pytest.warns(UserWarning, match=rf"{newest.name}: the checkpoint is damaged .* The run goes on from"):
        resumed, history = fit(**resumable)
    assert digest(resumed) == digest(whole)
    assert history.epochs == expected.epochs
    with pytest.raises(ValueError, match=r"the checkpoint is of another model, optimizer or objective"):
        fit(checkpoints=tmp_path, lambdas={"young": 0.3, "old": 0.3})


@pytest.mark.slow
def test_steps_per_execution_change_nothing(fit, digest, tmp_path, rows_in_order) -> None:
    """5 steps an epoch: two at a time and the one that is left; resumed, all that are left at once."""
    arguments = {"lambdas": {"young": 0.3, "old": 0.3}, "dropout": 0.2, "validation": rows_in_order}
    arguments |= {"steps_per_epoch": 5}  # compiling several steps takes as many times as long
    whole, expected = fit(**arguments)
    seen: list[int] = []
    record = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: seen.append(batch))
    arguments |= {"checkpoints": tmp_path / "c", "checkpoint_steps": 1}
    with pytest.raises(KilledError):
        fit(callbacks=[record, KillAt(1, 4)], steps_per_execution=2, **arguments)
    assert seen == [1, 3, 4] * 2
    model, history = fit(steps_per_execution=40, **arguments)
    assert digest(model) == digest(whole)
    assert history.epochs == expected.epochs


def test_patience_returns_to_the_best_epoch(fit, rows_in_order, tmp_path) -> None:
    arguments = {"epochs": 40, "validation": rows_in_order, "patience": 2, "checkpoints": tmp_path}
    model, history = fit(callbacks=[Spoil(at_epoch=3)], **arguments)
    values = [epoch["val_primary_ne"] for epoch in history.epochs]
    best = int(np.argmin(values))
    assert len(values) == best + 3 < 40
    assert evaluate(model, rows_in_order())["primary_ne"] == pytest.approx(values[best], rel=1e-6)


class Spoil(keras.callbacks.Callback):
    """From an epoch on, shifts every weight of the primary head, so that later epochs are worse."""

    def __init__(self, at_epoch: int) -> None:
        super().__init__()
        self.at_epoch = at_epoch
        self.epoch = 0

    def on_epoch_begin(self, epoch: int, logs=None) -> None:
        self.epoch = epoch

    def on_train_batch_end(self, batch: int, logs=None) -> None:
        if self.epoch >= self.at_epoch and batch == STEPS - 1:
            weight = self.model.get_layer("task_primary").logit.bias
            weight.assign(weight + 5.0)


def test_callbacks_are_driven(fit, rows_in_order, tmp_path) -> None:
    seen: list[str] = []
    record = keras.callbacks.LambdaCallback(
        on_train_begin=lambda logs: seen.append("begin"),
        on_epoch_end=lambda epoch, logs: seen.append(f"epoch {epoch} {'val_primary_ne' in logs}"),
        on_train_end=lambda logs: seen.append("end"),
    )
    board = keras.callbacks.TensorBoard(str(tmp_path / "board"), write_graph=False)
    stop = keras.callbacks.EarlyStopping("val_primary_ne", mode="min", patience=0, min_delta=10.0)
    fit(epochs=5, validation=rows_in_order, callbacks=[record, board, stop])
    assert seen == ["begin", "epoch 0 True", "epoch 1 True", "end"]
    assert list((tmp_path / "board").rglob("events*"))


def test_too_few_batches(fit, small_schema, small_file) -> None:
    model = build_model(small_schema, DHEN)
    model.compile(optimizer="adam")
    with pytest.raises(ValueError, match=r"Epoch 0 must have `steps_per_epoch` batches. Received: 16 of 20"):
        train(
            model,
            lambda epoch, skip: make_dataset(small_file, small_schema, BATCH),
            weighted_sum_of_tasks(),
            steps_per_epoch=20,
            jit_compile=False,
        )


def test_a_loss_that_is_not_finite(small_schema, small_file) -> None:
    model = build_model(small_schema, DHEN)
    model.compile(optimizer="adam")
    model.get_layer("task_primary").logit.bias.assign([math.nan])
    with pytest.raises(
        ValueError, match=r"The loss must be finite\. Received: nan at epoch 0, step 0. Lower the learning"
    ):
        train(
            model,
            lambda epoch, skip: make_dataset(small_file, small_schema, BATCH),
            weighted_sum_of_tasks(),
            steps_per_epoch=16,
            jit_compile=False,
        )


def test_patience_without_validation(fit) -> None:
    with pytest.raises(ValueError, match="`patience` needs `validation` rows, for `val_primary_ne`"):
        fit(patience=1)
