"""The ranking and the DCN model of TFRS's tutorials, with cohort heads or without, as `tfrs.Model` trains them.

Sizes, optimizers, metrics, lookups of ids and cached batches are the tutorials', on MovieLens-100K; rows are drawn.
Runs with TF_USE_LEGACY_KERAS=1 in the environment.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs
import tf_keras

from c2al_tf.cohorts import Cohort, Interval
from c2al_tf.integrations.tfrs import add_cohort_labels, with_cohort_heads

from .serving import Built, Steps, serve

_IDS = {"movie_id": 1682, "user_id": 943, "user_zip_code": 795, "user_occupation": 21, "user_gender": 2, "age": 7}
_COHORTS = (Cohort("young", (Interval("years", high=25.0),)), Cohort("old", (Interval("years", low=50.0),)))


def build(spec: Mapping[str, Any]) -> Built:
    """One model with its optimizer.

    Args:
        spec: `model`, `"ranking"` or `"DCN"`; `batch_size`; `hidden_units` of each of two cohort heads, or None.
    """
    tf_keras.utils.set_random_seed(0)
    if spec["model"] == "DCN":
        model, optimizer = _Tutorial(list(_IDS), (192, 192), cross=True), tf_keras.optimizers.Adam(0.01)
    else:
        model, optimizer = _Tutorial(["user_id", "movie_id"], (256, 64)), tf_keras.optimizers.Adagrad(0.1)
    rows = _rows(spec["batch_size"])
    if (hidden_units := spec["hidden_units"]) is not None:
        names = [cohort.name for cohort in _COHORTS]
        rows = add_cohort_labels(rows, _COHORTS, label_key="liked")
        model = with_cohort_heads(model, None, names, label_key="liked", hidden_units=hidden_units)
    model.compile(optimizer=optimizer)
    steps = _steps(model, rows)
    steps(1)  # creates the variables
    return Built(steps, sum(variable.shape.num_elements() for variable in model.trainable_variables))


class _Tutorial(tfrs.Model):
    """Embeddings of ids, a cross layer or none, dense layers, a score."""

    def __init__(self, names: list[str], units: tuple[int, ...], cross: bool = False) -> None:
        super().__init__()
        self.tables = {name: _table(_IDS[name]) for name in names}
        self.cross = tfrs.layers.dcn.Cross(kernel_initializer="glorot_uniform") if cross else tf.identity
        self.dense = tf_keras.Sequential([tf_keras.layers.Dense(each, "relu") for each in units])
        self.score = tf_keras.layers.Dense(1)
        self.task = tfrs.tasks.Ranking(
            loss=tf_keras.losses.MeanSquaredError(), metrics=[tf_keras.metrics.RootMeanSquaredError()]
        )

    def call(self, features: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Maps ids (batch,) to scores (batch, 1)."""
        x = tf.concat([table(features[name]) for name, table in self.tables.items()], axis=1)
        return self.score(self.dense(self.cross(x)))

    def compute_loss(self, features: dict[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        """The mean squared error of a batch."""
        return self.task(labels=features.pop("liked")[:, tf.newaxis], predictions=self(features))


def _table(size: int) -> tf_keras.Sequential:
    lookup = tf_keras.layers.StringLookup(vocabulary=[str(i) for i in range(size)], mask_token=None)
    return tf_keras.Sequential([lookup, tf_keras.layers.Embedding(size + 1, 32)])


def _rows(batch_size: int) -> tf.data.Dataset:
    rng, count = np.random.default_rng(0), 4 * batch_size
    ids = {name: rng.integers(0, size, count).astype(str) for name, size in _IDS.items()}
    others = {"years": rng.integers(7, 74, count), "liked": rng.integers(0, 2, count).astype("float32")}
    return tf.data.Dataset.from_tensor_slices({**ids, **others}).batch(batch_size)


def _steps(model: tfrs.Model, rows: tf.data.Dataset) -> Steps:
    """What `fit` calls for each batch. `fit` itself starts and ends tf.data's threads, whose time varies."""
    step, batches = model.make_train_function(), iter(rows.cache().repeat())

    def run(count: int) -> float:
        for _ in range(count):
            loss = step(batches)["loss"]
        return float(loss)

    return run


if __name__ == "__main__":
    serve(build)
