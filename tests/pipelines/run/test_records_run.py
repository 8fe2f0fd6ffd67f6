"""A run on TFRecords as others write them, with two labels, in half precision: their own records prove the export."""

import json

import numpy as np
import pytest
import tensorflow as tf

from c2al_tf.data.columns.examples import read_serialized
from c2al_tf.saved_model import SavedModel

ROWS = 4000
CONFIG = """
title: Records
data:
  name: files
  files:
    train: train.tfrecord
    validation: validation.tfrecord
    test: test.tfrecord
    label: clicked
    more_labels: [Bought (EUR)]
    features:
      - {name: city, kind: categorical}
      - {name: tags, kind: categorical, length: 2, missing: slot}
      - {name: visits, kind: numeric, scaling: log, num_buckets: 5}
      - {name: price, kind: numeric, missing: slot}
    axes: [[city]]
model: {embedding_dim: 4, num_blocks: 1, num_outputs: 2, attention_units: 4, mixing_outputs: 2, shared_units: [8],
  head_units: [8], mixed_precision: true}
training: {batch_size: 500, learning_rate: 0.03, epochs: 3, jit_compile: false}
seeds: 1
"""


def record(row: int, rng: np.random.Generator) -> bytes:
    """Whole numbers in float columns: `visits` always, `price` in every other row; a null feature is left out."""
    example = tf.train.Example()
    features = example.features.feature
    city = "ABC"[row % 3]
    features["city"].bytes_list.value.append(city.encode())
    features["tags"].bytes_list.value.extend(rng.choice([b"new", b"sale"], row % 4))
    features["visits"].int64_list.value.append(int(rng.integers(0, 50)))
    if row % 5:
        price = int(rng.integers(1, 9))
        if row % 2:
            features["price"].int64_list.value.append(price)
        else:
            features["price"].float_list.value.append(price + 0.25)
    rate = {"A": 0.8, "B": 0.4, "C": 0.1}[city]
    clicked = int(rng.random() < rate)
    features["clicked"].int64_list.value.append(clicked)
    features["Bought (EUR)"].int64_list.value.append(clicked * int(rng.random() < rate))
    return example.SerializeToString()


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    folder = tmp_path_factory.mktemp("records")
    rng = np.random.default_rng(0)
    for split in ("train", "validation", "test"):
        with tf.io.TFRecordWriter(str(folder / f"{split}.tfrecord")) as writer:
            for row in range(ROWS):
                writer.write(record(row, rng))
    (folder / "config.yaml").write_text(CONFIG)
    return folder


TASKS = {"clicked": "logits", "Bought_EUR": "Bought_EUR_logits"}
"""Of each task the name of its predictions in a model's folder."""


@pytest.mark.slow
def test_the_files_own_records_are_answered_as_they_were_trained_on(c2al, records, tmp_path) -> None:
    run = tmp_path / "run"
    outcome = c2al("run", records / "config.yaml", "--data", records, "--run-dir", run)
    assert outcome.status == 0, outcome.error[-3000:]
    exported = json.loads((run / "export.json").read_text())
    assert exported["records"] == str(records / "validation.tfrecord")
    assert exported["proof"] == "the caller's predictions on raw rows and the model behind the encoder of training"
    assert exported["facts"]["precision"] == "bfloat16"
    assert json.loads((run / "served.json").read_text())["max_error"] <= 16 * 2**-7
    examples = next(iter(read_serialized(records / "test.tfrecord", ROWS))).numpy()
    with SavedModel(run / "export" / "1") as served:
        outputs = served.run({"examples": examples}, "serialized_examples")
    assert {*outputs} == {f"{task}_{kind}" for task in TASKS for kind in ("logits", "probabilities")}
    for task, name in TASKS.items():
        expected = np.load(run / "seeds" / "0" / "c2al" / f"test_{name}.npy")
        assert np.ptp(expected) > 1
        np.testing.assert_allclose(outputs[f"{task}_logits"][:, 0], expected, rtol=0.02, atol=0.02)
    metrics = json.loads((run / "metrics.json").read_text())
    names = [name for name in metrics["ne_diff"] if name.startswith("label ")]
    tasks = json.loads((run / "details.json").read_text())["positives"]
    cohorts = [task for task in tasks if task not in TASKS]
    assert len(cohorts) == 2
    assert names == ["label Bought_EUR", *(f"label Bought_EUR, {cohort}" for cohort in (*cohorts, "rest"))]
    assert metrics["baseline"]["label Bought_EUR"]["positives"] < metrics["baseline"]["all"]["positives"]
    assert "label Bought_EUR" in outcome.output
    assert "label Bought_EUR" in (run / "report.html").read_text()


def test_what_cannot_be_exported_fails_before_training(c2al, records, tmp_path, monkeypatch) -> None:
    from c2al_tf.export import ExportError, publish

    def refuse(*arguments: object) -> None:
        raise ExportError("No node may carry `_XlaMustCompile`")

    monkeypatch.setattr(publish, "check_facts", refuse)
    run = tmp_path / "run"
    outcome = c2al("run", records / "config.yaml", "--data", records, "--run-dir", run)
    assert outcome.status == 1
    assert "No node may carry `_XlaMustCompile`" in outcome.error
    assert not (run / "seeds").exists()
    assert not list(run.glob(".export-trial-*"))


@pytest.mark.parametrize(
    ("label", "kept", "said"),
    [("clicked", 1, "label `clicked` 0 and 1. Received: 1,743 rows, all 1"), ("Bought (EUR)", 0, "label `Bought_EUR`")],
)
def test_a_split_of_one_label_fails_before_training(c2al, records, tmp_path, label, kept, said) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for split in ("train", "test"):
        (data / f"{split}.tfrecord").symlink_to(records / f"{split}.tfrecord")
    with tf.io.TFRecordWriter(str(data / "validation.tfrecord")) as writer:
        for serialized in next(iter(read_serialized(records / "validation.tfrecord", ROWS))).numpy():
            if tf.train.Example.FromString(serialized).features.feature[label].int64_list.value[0] == kept:
                writer.write(serialized)
    outcome = c2al("prepare", records / "config.yaml", "--data", data, "--run-dir", tmp_path / "run")
    assert outcome.status == 1
    assert f"The split 'validation' must have rows with {said}" in outcome.error
