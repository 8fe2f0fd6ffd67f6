"""Publishes exports of a small model with features of every kind; a process of its own where it is killed.

Run with a base path, it reads seeds, one per line, and prints the number of each version that it has published.
"""

import sys
from pathlib import Path

import keras
import numpy as np

from c2al_tf.config import ModelConfig
from c2al_tf.data.inputs.features import FeatureEncoder
from c2al_tf.export import export_for_serving
from c2al_tf.model import build_model
from c2al_tf.schema import CategoricalFeature, NumericFeature, Schema

SCHEMA = Schema(
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


def publish_small(base_path: Path, seed: int) -> int:
    """Exports a fresh model whose weights are drawn from a seed; returns the version's number."""
    keras.utils.set_random_seed(seed)
    sizes = ModelConfig(embedding_dim=4, num_blocks=1)
    model, reference = (build_model(SCHEMA, sizes, cohorts=cohorts) for cohorts in (("head", "tail"), ()))
    encoder = FeatureEncoder(SCHEMA)
    export = export_for_serving(
        model, base_path, schema=SCHEMA, sample=draw_rows(64), reference=reference, encoder=encoder
    )
    keras.backend.clear_session()
    return int(export.directory.name)


def draw_rows(count: int) -> dict[str, np.ndarray]:
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


if __name__ == "__main__":
    for line in sys.stdin:
        print(publish_small(Path(sys.argv[1]), int(line)), flush=True)
