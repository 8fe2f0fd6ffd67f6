"""A subclassed keras-rs model on Census-Income (KDD): the whole comparison, and its export served.

    pip install keras-rs
    python pipelines/examples/census_dcn.py --data FOLDER

FOLDER holds `train.parquet` and `test.parquet`, or the files of the UCI archive; without it they are downloaded. The
model is a DCN-V2 with lookups of its own: it reads the raw columns.
"""

import argparse
from pathlib import Path

import keras
import keras_rs
import numpy as np
import tensorflow as tf
from c2al_pipelines.datasets import census

import c2al_tf
from c2al_tf.data.columns.raw import concatenate
from c2al_tf.types import Columns

AMOUNTS = ("wage_per_hour", "capital_gains", "capital_losses", "stock_dividends")
AXES = (
    c2al_tf.Axis(("age",), edges={"age": (0, 18, 25, 35, 45, 55, 65, np.inf)}),
    c2al_tf.Axis(("weeks_worked",), edges={"weeks_worked": (0, 1, 26, 52, np.inf)}),
    *("class_worker", "sex", "race"),
)


class DCN(keras.Model):
    """Embeddings of all columns, two crosses, a deep part. Codes and counts are looked up, amounts are logarithms."""

    def __init__(self, rows: Columns) -> None:
        super().__init__()
        self.lookups, self.tables = {}, {}
        for name, column in rows.items():
            if name in AMOUNTS:
                continue
            kind = keras.layers.StringLookup if column.dtype == object else keras.layers.IntegerLookup
            self.lookups[name] = kind(vocabulary=np.unique(column[column != ""]))
            self.tables[name] = keras.layers.Embedding(self.lookups[name].vocabulary_size(), 8)
        self.crosses = [keras_rs.layers.FeatureCross(projection_dim=32) for _ in range(2)]
        self.deep = [keras.layers.Dense(units, "relu") for units in (128, 64)]
        self.score = keras.layers.Dense(1)

    def call(self, inputs: dict[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        """Maps raw columns (batch,) to logits (batch, 1)."""
        amounts = [keras.ops.log1p(inputs[name])[:, None] for name in AMOUNTS]
        x0 = keras.ops.concatenate(
            [*(self.tables[n](look(inputs[n])) for n, look in self.lookups.items()), *amounts], 1
        )
        h = x0
        for cross in self.crosses:
            h = cross(x0, h)
        for layer in self.deep:
            h = layer(h)
        return self.score(h)


def main() -> None:
    """Compares, prints the table, exports and asks the export."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of the data set")
    parser.add_argument("--seeds", type=int, default=5, help="paired seeds")
    parser.add_argument("--epochs", type=int, default=2, help="passes over the training rows")
    parser.add_argument("--output", type=Path, default=Path("runs/census_dcn"), help="what is trained, and the export")
    options = parser.parse_args()

    source = census.open_source(options.data)
    splits = {name: dict(concatenate(list(batches()))) for name, batches in source.splits.items()}
    counts = [feature.name for feature in source.features if feature.dtype != "string" and feature.name not in AMOUNTS]
    for rows in splits.values():
        rows |= {name: rows[name].astype(np.int64) for name in counts}
    labels = {name: rows.pop(census.LABEL) for name, rows in splits.items()}

    def dataset(split: str, seed: int | None = None) -> tf.data.Dataset:
        rows = tf.data.Dataset.from_tensor_slices((splits[split], labels[split]))
        return (rows if seed is None else rows.shuffle(len(labels[split]), seed=seed)).batch(1024)

    def make_model() -> keras.Model:
        model = DCN(splits["train"])
        model.compile("adam", keras.losses.BinaryCrossentropy(from_logits=True))
        return model

    trial = c2al_tf.compare(
        make_model,
        train=lambda seed: dataset("train", seed),
        validation=dataset("validation"),
        test=dataset("test"),
        columns=list(census.AXES),
        axes=AXES,
        seeds=options.seeds,
        epochs=options.epochs,
        directory=options.output / "trial",
    )
    print(trial)
    if trial.c2al is None:
        return
    sample = {name: column[:512] for name, column in splits["test"].items()}
    predictions = trial.c2al.predict(dataset("test").take(1), verbose=0)
    export = c2al_tf.export_for_serving(
        trial.c2al,
        options.output / "export",
        sample=sample,
        from_logits=True,
        reference=trial.baseline,
        expected=predictions[:512],
    )
    print(f"{export.directory}: proved against {export.proof}")


if __name__ == "__main__":
    main()
