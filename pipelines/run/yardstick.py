"""Gradient boosting on the run's rows: a baseline that it beats proves nothing by getting better."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from c2al_tf.blocks import draw_rows
from c2al_tf.data.columns.raw import num_rows
from c2al_tf.data.columns.readers import count_rows, read_columns
from c2al_tf.data.columns.shards import split_files
from c2al_tf.data.inputs.features import FeatureEncoder
from c2al_tf.evaluation import ALL, REST
from c2al_tf.evaluation.scoring import slice_metrics
from c2al_tf.files import read_json, write_json
from c2al_tf.schema import CategoricalFeature, Schema
from c2al_tf.types import Array, Columns

from .evaluation import read_test_rows
from .folder import RunFolder

MOST_ROWS = 1_000_000
"""Training rows of the boosting, which holds them all in memory."""

_MOST_CATEGORIES = 255
# Another seed than those of blocks and of sampled negatives.
_SEED = 2


def measure_yardstick(run: RunFolder) -> dict[str, Any]:
    """Writes `yardstick.json`: scikit-learn's gradient boosting on all test rows, the targeted cohorts and the rest.

    It has as many trees as improve it on a tenth of its training rows. Kept if it is there for the same cohorts.
    """
    file = run.path / "yardstick.json"
    cohorts = {cohort.name: str(cohort) for cohort in run.cohorts}
    if file.exists() and read_json(file)["cohorts"] == cohorts:
        return dict(read_json(file))
    encoder, total = FeatureEncoder(run.schema), count_rows(split_files(run.path, "train"))
    x, y, weights = map(np.concatenate, zip(*_sampled(run, encoder, total), strict=True))
    model = _train(run.schema, x[:MOST_ROWS], y[:MOST_ROWS], weights[:MOST_ROWS])
    test = read_columns(split_files(run.path, "test"), run.schema.columns)
    logits = [model.decision_function(encode(batch, encoder)) for batch in test]
    yardstick = {
        "model": "scikit-learn's HistGradientBoostingClassifier",
        "trees": model.n_iter_,
        "rows": min(len(y), MOST_ROWS),
        "total_rows": total,
        "cohorts": cohorts,
        "metrics": _metrics(run, np.concatenate(logits)),
    }
    write_json(file, yardstick)
    return yardstick


def encode(columns: Columns, encoder: FeatureEncoder) -> Array:
    """Maps raw columns to (rows, columns) float64: ids of categories, numbers as they are, NaN where there is none.

    A multi-valued feature has a column per place.
    """
    ids = encoder({name: tf.constant(columns[name]) for name in encoder.columns})
    parts = [
        ids[feature.name].numpy() if isinstance(feature, CategoricalFeature) else columns[feature.name]
        for feature in encoder.schema.features
    ]
    return np.concatenate([part.reshape(len(part), -1) for part in parts], axis=1).astype(np.float64)


def categorical_columns(schema: Schema) -> Array:
    """Which columns of `encode` are categories to scikit-learn: those of at most 255 ids; more ids count as numbers."""
    few = [isinstance(f, CategoricalFeature) and f.num_ids <= _MOST_CATEGORIES for f in schema.features]
    return np.repeat(few, [f.column.length or 1 for f in schema.features])


def _train(schema: Schema, x: Array, y: Array, weights: Array) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier  # takes a second, and most runs do without it

    # Half of scikit-learn's rate: on Census NE 0.473, at its own 0.477.
    arguments = {"learning_rate": 0.05, "categorical_features": categorical_columns(schema), "random_state": 0}
    stopped = HistGradientBoostingClassifier(max_iter=2000, early_stopping=True, **arguments)
    trees = stopped.fit(x, y, sample_weight=weights).n_iter_
    # It has set a tenth of the rows aside: as many trees learn from all.
    model = HistGradientBoostingClassifier(max_iter=trees, early_stopping=False, **arguments)
    return model.fit(x, y, sample_weight=weights)


def _sampled(run: RunFolder, encoder: FeatureEncoder, total: int) -> Iterator[tuple[Array, Array, Array]]:
    """Yields about `MOST_ROWS` training rows of a weight above 0, always the same: encoded, with labels and weights."""
    first_row = 0
    for batch in read_columns(split_files(run.path, "train"), run.schema.columns):
        kept = draw_rows(np.arange(first_row, first_row + num_rows(batch)), _SEED) * total < MOST_ROWS
        kept &= _weights(run, batch) > 0
        first_row += num_rows(batch)
        rows = {name: values[kept] for name, values in batch.items()}
        yield encode(rows, encoder), rows[run.schema.labels[0]], _weights(run, rows)


def _weights(run: RunFolder, columns: Columns) -> Array:
    return columns[run.schema.weight] if run.schema.weight else np.ones(num_rows(columns), np.float32)


def _metrics(run: RunFolder, logits: Array) -> dict[str, Any]:
    """The figures on all test rows, the targeted cohorts and the rest."""
    rows = read_test_rows(run)
    masks = {ALL: np.ones(len(logits), bool)} | {
        name: rows.slices[name] for name in (*(cohort.name for cohort in run.cohorts), REST)
    }
    weights = np.ones(len(logits), np.float32) if rows.weights is None else rows.weights
    return {name: slice_metrics(logits[mask], rows.labels[mask], weights[mask]) for name, mask in masks.items()}
