"""I have a Keras model: does C2AL help it, and can today's server take the new weights?

    python pipelines/examples/keras_model.py

It draws clicks, takes `Ranker` for your model, compares it with and without cohort heads over paired seeds, and exports
it over today's signature. In your own script `Ranker`, `rows` and the axes are yours; all else is two calls.
"""

import argparse
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

import c2al_tf

CITIES = ["bonn", "lima", "oslo", "rome"]


class Ranker(keras.Model):
    """Stands for your model: any class with layers of its own, lookups included."""

    def __init__(self) -> None:
        super().__init__()
        self.lookup = keras.layers.StringLookup(vocabulary=CITIES)
        self.cities = keras.layers.Embedding(len(CITIES) + 1, 8)
        self.items = keras.layers.Embedding(1000, 8)
        self.hidden = keras.layers.Dense(32, "relu")
        self.score = keras.layers.Dense(1)

    def call(self, inputs: dict[str, tf.Tensor]) -> tf.Tensor:
        """Maps columns (batch,) to logits (batch, 1)."""
        age = inputs["age"][:, None] / 50
        city, item = self.cities(self.lookup(inputs["city"])), self.items(inputs["item"])
        return self.score(self.hidden(keras.ops.concatenate([age, city, item, city * item], axis=1)))


def make_model() -> keras.Model:
    """A new model, compiled as you compile it."""
    model = Ranker()
    model.compile(
        "adam", keras.losses.BinaryCrossentropy(from_logits=True), metrics=[keras.metrics.AUC(from_logits=True)]
    )
    return model


def rows(seed: int, number: int, shuffle_seed: int | None = None) -> tf.data.Dataset:
    """Stands for your rows, batches of (features, label): old users like other items, and few of them click."""
    rng = np.random.default_rng(seed)
    age, city, item = rng.uniform(18, 80, number), rng.integers(0, len(CITIES), number), rng.integers(0, 1000, number)
    taste = np.where(age < 65, item % 7 == city, item % 5 == city)
    clicks = rng.random(number) < np.where(age < 65, 0.08, 0.02) * (1 + 4 * taste)
    features = {
        "age": age.astype(np.float32),
        "city": np.array(CITIES)[city],
        "item": item,
        "user": np.arange(number) // 4,
    }
    dataset = tf.data.Dataset.from_tensor_slices((features, clicks.astype(np.float32)))
    if shuffle_seed is not None:
        dataset = dataset.shuffle(number, seed=shuffle_seed)
    return dataset.batch(512)


def main() -> None:
    """Compares, prints the table, and exports."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000, help="training rows")
    parser.add_argument("--seeds", type=int, default=3, help="paired seeds")
    parser.add_argument(
        "--output", type=Path, default=Path("runs/keras_model"), help="folder of what is trained, and of the export"
    )
    options = parser.parse_args()

    trial = c2al_tf.compare(
        make_model,
        train=lambda seed: rows(0, options.rows, shuffle_seed=seed),
        validation=rows(1, options.rows // 2),
        test=rows(2, options.rows // 2),
        columns=["age", "city", "user"],
        axes=["age", "city"],
        units="user",
        seeds=options.seeds,
        directory=options.output / "trial",
    )
    print(trial)
    if trial.c2al is None:
        return
    # What today's service reads, and what it says: your own files, and your own predictions for them.
    features, _ = next(iter(rows(2, 512)))
    sample = {name: features[name].numpy() for name in ("age", "city", "item")}
    export = c2al_tf.export_for_serving(
        trial.c2al, options.output / "export", sample=sample, from_logits=True, reference=trial.baseline
    )
    print(f"{export.directory}: c2al serve {options.output / 'export'} --model-name ranker")


if __name__ == "__main__":
    main()
