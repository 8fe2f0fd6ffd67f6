"""Exports to be served: a small one with features of every kind, and the larger one of the load benchmark."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from c2al_tf.files import replace_directory
from c2al_tf.types import Columns

if TYPE_CHECKING:  # TensorFlow takes seconds, and what only sends requests needs none
    from c2al_tf.schema import Schema


def publish_small(base_path: Path, seed: int) -> int:
    """Exports a fresh model of seven features, whose weights are drawn from a seed; returns the version's number."""
    import keras

    from c2al_tf.config import ModelConfig
    from c2al_tf.export import export_for_serving
    from c2al_tf.model import build_model

    keras.utils.set_random_seed(seed)
    sizes = ModelConfig(embedding_dim=4, num_blocks=1)
    model, reference = (build_model(_schema(), sizes, cohorts=cohorts) for cohorts in (("head", "tail"), ()))
    export = export_for_serving(model, _schema(), base_path, sample=_rows(64), reference=reference)
    keras.backend.clear_session()
    return int(export.directory.name)


def prepare_base_path(folder: Path, export: Path | None) -> Path:
    """A base path in `folder` with a version 1: the latest of an export, or the load benchmark's fresh one."""
    if export is None:
        from ..serving_models import write_exports

        return write_exports(folder)["c2al"]
    latest = max((path for path in export.iterdir() if path.name.isdecimal()), key=lambda path: int(path.name))
    copy_version(latest, folder / "served" / "1")
    return folder / "served"


def copy_version(version: Path, target: Path) -> None:
    """Publishes a version again under another number, whole or not at all."""
    with replace_directory(target) as directory:
        shutil.copytree(version, directory, dirs_exist_ok=True)


def _schema() -> "Schema":
    from c2al_tf.schema import CategoricalFeature, NumericFeature, Schema

    return Schema(
        (
            CategoricalFeature("city", "string", vocabulary=("Oslo", "Lima", "Łódź")),
            CategoricalFeature("user", "int64", num_hash_buckets=100),
            CategoricalFeature("word", "string", num_hash_buckets=50, missing="slot"),
            CategoricalFeature("tags", "string", vocabulary=("new", "sale"), length=3),
            CategoricalFeature("seen", "int64", num_hash_buckets=100, length=4),
            NumericFeature("price", "standard", boundaries=(-1.0, 0.0, 1.0)),
            NumericFeature("age", "none"),
        )
    )


def _rows(count: int) -> Columns:
    rng = np.random.default_rng(0)
    return {
        "city": rng.choice(np.array(["Oslo", "Lima", "Łódź", "a town of more than twenty-two bytes"], object), count),
        "user": rng.integers(-20, 20, count),
        "word": rng.choice(np.array(["", "a", "b"], object), count),
        "tags": rng.choice(np.array(["new", "sale", "old"], object), (count, 3)),
        "seen": rng.integers(0, 50, (count, 4)),
        "price": rng.normal(size=count).astype(np.float32),
        "age": rng.uniform(0, 90, count).astype(np.float32),
    }
