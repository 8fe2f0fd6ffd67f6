"""The models that are served under load, and questions to them."""

from pathlib import Path

import keras
import numpy as np

from c2al_tf.config import ModelConfig
from c2al_tf.data.columns.wire import to_examples
from c2al_tf.data.inputs.features import FeatureEncoder
from c2al_tf.export import export_for_serving
from c2al_tf.model import build_model
from c2al_tf.saved_model import DEFAULT_SIGNATURE
from c2al_tf.schema import CategoricalFeature, NumericFeature, Schema
from c2al_tf.types import Columns

from .questions import Question

LARGE = Schema(
    (
        *(CategoricalFeature(f"c{i}", "int64", num_hash_buckets=1000) for i in range(26)),
        *(NumericFeature(f"n{i}", "standard", boundaries=(-1.0, 0.0, 1.0)) for i in range(13)),
    )
)
"""26 categorical features, hashed, and 13 numeric ones."""

SMALL = Schema(
    (
        *(CategoricalFeature(f"c{i}", "int64", num_hash_buckets=16_384) for i in range(4)),
        *(NumericFeature(f"n{i}", "standard", boundaries=(-1.0, 0.0, 1.0)) for i in range(2)),
    )
)
"""Six features; with an embedding dimension of 16 a model of it has a million parameters."""

_COHORTS = ("head", "tail")


def write_exports(folder: Path, schema: Schema = LARGE, embedding_dim: int = 8) -> dict[str, Path]:
    """Base paths of the exports of a model trained with cohort heads and of one without, by name."""
    sizes = ModelConfig(embedding_dim=embedding_dim)
    models = {"c2al": build_model(schema, sizes, cohorts=_COHORTS), "baseline": build_model(schema, sizes)}
    reference = build_model(schema, sizes)
    for name, model in models.items():
        rows, encoder = draw_rows(64, schema), FeatureEncoder(schema)
        export_for_serving(model, folder / name, schema=schema, sample=rows, reference=reference, encoder=encoder)
    keras.backend.clear_session()
    return {name: folder / name for name in models}


def draw_rows(count: int, schema: Schema = LARGE) -> Columns:
    """Raw columns of random rows."""
    rng = np.random.default_rng(0)
    return {
        f.name: rng.integers(0, 10_000, count)
        if isinstance(f, CategoricalFeature)
        else rng.normal(size=count).astype(np.float32)
        for f in schema.features
    }


def question(model: str, rows: int, *, examples: bool, schema: Schema = LARGE) -> Question:
    """Asks about random rows, as named columns or as serialized tf.Examples; no answer is expected."""
    columns = draw_rows(rows, schema)
    if not examples:
        return Question(DEFAULT_SIGNATURE, columns, model=model)
    serialized = np.array(to_examples(columns, {f.name: f.column for f in schema.features}), object)
    return Question("serialized_examples", {"examples": serialized}, model=model)
