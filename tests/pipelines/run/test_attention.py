"""Which rows the attention is measured on, and what a run leaves of the measurements."""

import dataclasses
import shutil

import keras
import numpy as np
import pytest
from c2al_pipelines.run import attention, training
from c2al_pipelines.run.attention import draw_rows
from c2al_pipelines.run.folder import RunFolder, read_config

from c2al_tf.diagnostics import read_diagnostics


def rows(number, positives):
    y = np.zeros((number, 1), np.float32)
    y[np.random.default_rng(0).choice(number, positives, replace=False)] = 1
    x = {"id": np.arange(number)}
    return x, {"primary": y, "young": y * (np.arange(number) % 4 == 0)[:, None]}, np.ones(number, np.float32)


@pytest.mark.parametrize(("positives", "kept"), [(0, 0), (3, 3), (20, 20), (500, 20), (1000, 20)])
def test_positives_are_kept_and_weighed_for_what_they_stand_for(positives, kept) -> None:
    x, y, weight = draw_rows(rows(1000, positives), 40)
    labels = np.ravel(y["primary"])
    assert labels.sum() == kept
    assert len(labels) == (20 if positives == 1000 else 40)
    assert weight.numpy().sum() == pytest.approx(1000)
    assert (labels * weight).numpy().sum() == pytest.approx(positives)
    assert len(np.unique(x["id"])) == len(labels)
    np.testing.assert_array_equal(x["id"], draw_rows(rows(1000, positives), 40)[0]["id"])


def test_few_rows_and_weights_by_task() -> None:
    x, y, weight = rows(10, 2)
    drawn = draw_rows((x, y, {"primary": weight, "young": 2 * weight}), 512)
    assert sorted(drawn[0]["id"].numpy()) == list(range(10))
    assert drawn[2]["young"].numpy().tolist() == [2] * 10


def test_every_model_of_a_run_is_measured(finished) -> None:
    """A training of 60 steps four times, the last time at its end."""
    for seed in (0, 1):
        for arm, tasks in (("baseline", 0), ("c2al", 2)):
            found = read_diagnostics(finished.path / "seeds" / str(seed) / arm / "diagnostics.jsonl")
            measured = [(step, task) for step in range(15, 61, 15) for task in [True] * tasks + [False]]
            assert [(row["step"], "task" in row) for row in found] == measured


@pytest.mark.slow
def test_measuring_changes_no_bit_of_a_training(finished, tmp_path, monkeypatch) -> None:
    """With dropout, which draws random numbers, and without XLA."""
    config = read_config(finished.path / "config.json")
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, dropout=0.3))
    monkeypatch.setattr(training, "try_export_of", lambda run: None)
    weights, measured = [], []
    for name in ("measured", "not"):
        path = tmp_path / name
        path.mkdir()
        for file in ("schema.json", "cohorts.json"):
            shutil.copy2(finished.path / file, path)
        for folder in ("data", "encoded"):
            shutil.copytree(finished.path / folder, path / folder)
        monkeypatch.setattr(attention, "interval", lambda steps: 7)
        if name == "not":
            monkeypatch.setattr(training, "watch_attention", lambda *_: keras.callbacks.Callback())
        run = RunFolder(path, config)
        training.train_arm(run, 0, "c2al")
        weights.append(keras.saving.load_model(run.model_file(0, "c2al"), compile=False).get_weights())
        measured.append(len(read_diagnostics(run.model_folder(0, "c2al") / "diagnostics.jsonl")))
    assert measured == [60 // 7 * 3, 0]
    for a, b in zip(*weights, strict=True):
        np.testing.assert_array_equal(a, b)
