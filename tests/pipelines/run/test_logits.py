"""Models of one architecture share a compiled program, and each predicts with its own weights."""

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from c2al_pipelines.run import logits
from c2al_pipelines.run.config import DataConfig, RunConfig
from c2al_pipelines.run.folder import RunFolder

from c2al_tf.config import ModelConfig, TrainingConfig
from c2al_tf.files import write_json
from c2al_tf.model import build_model
from c2al_tf.schema import CategoricalFeature, Schema

SCHEMA = Schema((CategoricalFeature("f", "int64", num_hash_buckets=5),))


def save_model(file: Path, seed: int, cohorts: tuple[str, ...] = (), **sizes: int) -> keras.Model:
    keras.utils.set_random_seed(seed)
    model = build_model(SCHEMA, ModelConfig(embedding_dim=2, num_blocks=1, **sizes), cohorts=cohorts)
    file.parent.mkdir(parents=True, exist_ok=True)
    model.save(file)
    return model


def test_both_arms_and_all_seeds_share_a_program(tmp_path: Path) -> None:
    models = {name: save_model(tmp_path / f"{name}.keras", seed, cohorts) for seed, (name, cohorts) in enumerate(
        [("baseline", ()), ("c2al", ("head", "tail"))]
    )}  # fmt: skip
    other = save_model(tmp_path / "other.keras", 2, num_outputs=3)
    x = {"f": tf.constant([0, 3, 4])}
    loaded = []
    for name in ("baseline", "c2al", "baseline"):
        loaded.append(logits._load_primary(tmp_path / f"{name}.keras"))
        np.testing.assert_array_equal(loaded[-1](x)["primary"], models[name](x)["primary"])
    assert loaded[0] is loaded[1] is loaded[2]
    different = logits._load_primary(tmp_path / "other.keras")
    assert different is not loaded[0]
    np.testing.assert_array_equal(different(x)["primary"], other(x)["primary"])


@pytest.mark.parametrize(
    ("configured", "found", "expected"), [("auto", None, "auto"), ("auto", True, True), (False, True, False)]
)
def test_a_run_compiles_as_its_first_training_found(tmp_path: Path, configured, found, expected) -> None:
    run = RunFolder(tmp_path, RunConfig("a run", DataConfig("census"), training=TrainingConfig(jit_compile=configured)))
    if found is not None:
        write_json(tmp_path / "compilation.json", {"jit_compile": found})
    assert run.jit_compile is expected or run.jit_compile == expected
