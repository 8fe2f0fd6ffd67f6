import keras
import numpy as np
import pytest
import tensorflow as tf

from c2al_tf.diagnostics import AttentionDiagnostics, attention_gradients, measure_attention, read_diagnostics
from c2al_tf.losses import weighted_sum_of_tasks
from c2al_tf.training import train

from ..untuned import UNTUNED

OBJECTIVE = weighted_sum_of_tasks()


class Logs(keras.callbacks.Callback):
    """What a callback sees that follows."""

    def __init__(self) -> None:
        super().__init__()
        self.batches, self.epochs = [], []

    def on_train_batch_end(self, batch: int, logs=None) -> None:
        self.batches.append({name for name in logs if "/" in name})

    def on_epoch_end(self, epoch: int, logs=None) -> None:
        self.epochs.append({name: value for name, value in logs.items() if "/" in name})


def dataset(batch, number: int) -> tf.data.Dataset:
    return tf.data.Dataset.from_tensors(batch).repeat(number).with_options(UNTUNED)


def test_rows_and_logs(same_model, batch, tmp_path) -> None:
    objective = weighted_sum_of_tasks({"young": 0.3, "old": 0.3})
    diagnostics = AttentionDiagnostics(batch, every=3, terms=objective.terms)
    board = keras.callbacks.TensorBoard(str(tmp_path), write_graph=False)
    callbacks = [diagnostics, logs := Logs(), board]
    train(same_model, dataset(batch, 4), objective, epochs=2, callbacks=callbacks, jit_compile=False)
    assert [bool(names) for names in logs.batches] == [False, False, True, False, False, True, False, False]
    assert [row["step"] for row in diagnostics.gradients] == [3] * 6 + [6] * 6
    assert [row["step"] for row in diagnostics.attention] == [3] * 3 + [6] * 3
    last = [row for row in diagnostics.gradients if row["step"] == 6]
    for row in last:
        name = f"{row['layer']}/{row['task']}"
        for measure in ("cosine", "parallel", "orthogonal", "norm", "primary_norm"):
            assert logs.epochs[1][f"{name}/{measure}"] == row[measure]
        assert logs.epochs[1][f"{name}/conflict"] == (row["cosine"] < 0)
    assert logs.epochs[1]["fm:0/entropy"] == diagnostics.attention[3]["entropy"]
    assert diagnostics.conflicts() == {
        f"{row['layer']}/{row['task']}": np.mean(
            [r["cosine"] < 0 for r in diagnostics.gradients if (r["layer"], r["task"]) == (row["layer"], row["task"])]
        )
        for row in last
    }
    assert list(tmp_path.rglob("events*"))


def test_it_changes_no_bit_of_the_training(same_model, batch) -> None:
    variables = (*same_model.variables, *same_model.optimizer.variables)
    start, results = [np.array(variable) for variable in variables], []
    for callbacks in ([], [AttentionDiagnostics(batch, every=1)]):
        for variable, value in zip(variables, start, strict=True):
            variable.assign(value)
        train(same_model, dataset(batch, 3), OBJECTIVE, callbacks=callbacks, jit_compile=False)
        results.append(same_model.get_weights())
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)


def test_it_measures_the_model_as_it_is(same_model, batch) -> None:
    half = tuple(tf.nest.map_structure(lambda values: values[:16], each) for each in batch)
    diagnostics = AttentionDiagnostics(tf.data.Dataset.from_tensor_slices(batch).batch(16), every=4)
    train(same_model, dataset(batch, 4), OBJECTIVE, callbacks=[diagnostics], jit_compile=False)
    assert diagnostics.gradients == [{"step": 4, **row} for row in attention_gradients(same_model, half)]
    assert diagnostics.attention == [{"step": 4, **row} for row in measure_attention(same_model, half[0])]


def test_calls_of_several_steps(same_model, batch) -> None:
    """Steps 1-3, 4-6 and 7: 2, 4 and 6 are reached within the first two calls."""
    diagnostics = AttentionDiagnostics(batch, every=2)
    arguments = {"steps_per_execution": 3, "jit_compile": False}
    train(same_model, dataset(batch, 7), OBJECTIVE, callbacks=[diagnostics], **arguments)
    assert [row["step"] for row in diagnostics.attention] == [3] * 3 + [6] * 3


@pytest.mark.parametrize("given", ["a batch", "a dataset"])
def test_its_own_iterator_has_no_thread_that_tunes(same_model, batch, given, monkeypatch) -> None:
    """Closing such an iterator waits at times for as long as that thread sleeps."""
    opened: list[bool] = []
    iterate = tf.data.Dataset.__iter__

    def record(self: tf.data.Dataset):
        opened.append(self.options().autotune.enabled is False)
        return iterate(self)

    monkeypatch.setattr(tf.data.Dataset, "__iter__", record)
    rows = batch if given == "a batch" else tf.data.Dataset.from_tensors(batch)
    train(same_model, dataset(batch, 2), OBJECTIVE, callbacks=[AttentionDiagnostics(rows, 1)], jit_compile=False)
    assert opened == [True, True]  # its rows and those of training


def test_at_least_every_step(batch) -> None:
    with pytest.raises(ValueError, match=r"`every` must be at least 1\. Received: every=0"):
        AttentionDiagnostics(batch, every=0)


def test_rows_on_disk_go_on_from_the_step_of_a_resumed_training(same_model, batch, tmp_path) -> None:
    """Six steps at once, or three, then all of them with what a killed training measured after its checkpoint."""
    variables = (*same_model.variables, *same_model.optimizer.variables)
    start = [np.array(variable) for variable in variables]
    files = [tmp_path / "whole.jsonl", tmp_path / "resumed.jsonl"]

    def go(file, epochs, checkpoints):
        diagnostics = AttentionDiagnostics(batch, every=1, terms=OBJECTIVE.terms, file=file)
        arguments = {"epochs": epochs, "checkpoints": checkpoints, "jit_compile": False}
        train(same_model, dataset(batch, 3), OBJECTIVE, callbacks=[diagnostics], **arguments)
        return diagnostics

    whole = go(files[0], 2, None)
    for variable, value in zip(variables, start, strict=True):
        variable.assign(value)
    go(files[1], 1, tmp_path / "checkpoints")
    with files[1].open("a") as lines:
        lines.write('{"step": 4, "layer": "fm:0", "entropy": 0.5}\n{"step": 4, "lay')
    resumed = go(files[1], 2, tmp_path / "checkpoints")
    assert files[0].read_bytes() == files[1].read_bytes()
    assert (resumed.gradients, resumed.attention) == (whole.gradients, whole.attention)
    assert [row["step"] for row in whole.attention[::3]] == [1, 2, 3, 4, 5, 6]
    rows = read_diagnostics(files[1])
    assert [row for row in rows if "task" in row] == whole.gradients
    assert read_diagnostics(tmp_path / "absent.jsonl") == []


def test_what_is_not_finite_is_null_on_disk(model, batch, tmp_path) -> None:
    for weight in model.get_layer("tower").parts[0].weights:
        weight.assign(np.zeros(weight.shape))
    model.get_layer("tower").trainable = False
    file = tmp_path / "rows.jsonl"
    diagnostics = AttentionDiagnostics(batch, file=file, every=1)
    train(model, dataset(batch, 1), OBJECTIVE, callbacks=[diagnostics], jit_compile=False)
    assert '"entropy": null' in file.read_text()
    assert np.isnan([row["entropy"] for row in read_diagnostics(file) if row["layer"] == "inner"]).all()
