"""The ranking model of TFRS's tutorial, plain and with cohort heads: does anyone like a film, by age of the user?

    TF_USE_LEGACY_KERAS=1 .venv/bin/python pipelines/examples/tfrs_ranking.py

The lines that a team changes in its own script end in `# C2AL`. Without `--data` ratings are made up, in which the old
and the young like other films. The tutorial predicts the rating; here the label is whether it is 4 or 5, since cohorts
are found and compared by probabilities.
"""

import argparse
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs
import tf_keras

from c2al_tf import Axis, Cohort, discover_cohorts, evaluate_by_cohort
from c2al_tf.integrations.tfrs import add_cohort_labels, with_cohort_heads  # C2AL

IDS = ("user_id", "movie_id")
Rows = Mapping[str, np.ndarray]


class RankingModel(tfrs.Model):
    """The tutorial's: a table of users, one of films, three dense layers."""

    def __init__(self, user_ids: np.ndarray, movie_ids: np.ndarray) -> None:
        super().__init__()
        self.users = tf_keras.Sequential(
            [
                tf_keras.layers.StringLookup(vocabulary=user_ids, mask_token=None),
                tf_keras.layers.Embedding(len(user_ids) + 1, 32),
            ]
        )
        self.movies = tf_keras.Sequential(
            [
                tf_keras.layers.StringLookup(vocabulary=movie_ids, mask_token=None),
                tf_keras.layers.Embedding(len(movie_ids) + 1, 32),
            ]
        )
        self.score = tf_keras.Sequential(
            [
                tf_keras.layers.Dense(256, "relu"),
                tf_keras.layers.Dense(64, "relu"),
                tf_keras.layers.Dense(1),
            ]
        )
        self.task = tfrs.tasks.Ranking(loss=tf_keras.losses.BinaryCrossentropy(from_logits=True))

    def call(self, features: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Maps ids (batch,) to logits (batch, 1)."""
        return self.score(tf.concat([self.users(features["user_id"]), self.movies(features["movie_id"])], axis=1))

    def compute_loss(self, features: dict[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        """The mean cross entropy of a batch."""
        labels = features.pop("liked")
        return self.task(labels=labels[:, tf.newaxis], predictions=self(features))


def fit(rows: Rows, seed: int, cohorts: Sequence[Cohort] = ()) -> RankingModel:
    """The trained model of a seed; with cohort heads beside it if there are cohorts."""
    tf_keras.utils.set_random_seed(seed)
    model = training = RankingModel(np.unique(rows["user_id"]), np.unique(rows["movie_id"]))
    dataset = tf.data.Dataset.from_tensor_slices(dict(rows)).shuffle(100_000, seed=seed).batch(256)
    if cohorts:  # C2AL
        dataset = add_cohort_labels(dataset, cohorts, label_key="liked")  # C2AL
        names = [cohort.name for cohort in cohorts]  # C2AL
        training = with_cohort_heads(model, None, names, label_key="liked", weight=0.1)  # C2AL
    training.compile(optimizer=tf_keras.optimizers.Adagrad(0.1))
    training.fit(dataset.cache(), epochs=3, verbose=0)
    return model


def logits(models: Sequence[RankingModel], rows: Rows) -> np.ndarray:
    """Maps rows to logits (models, rows)."""
    return np.stack([model({name: tf.constant(rows[name]) for name in IDS})[:, 0].numpy() for model in models])


def main(data: Path | None, rows: int, seeds: int, output: Path) -> None:
    """Trains the baseline, finds cohorts, trains with heads, compares, exports."""
    train, validation, test = split(synthetic_ratings(rows) if data is None else movielens_ratings(data))
    axes = [name for name in train if name not in (*IDS, "liked")]
    baseline = [fit(train, seed) for seed in range(seeds)]
    found = discover_cohorts(
        tf.sigmoid(logits(baseline, validation)).numpy(),
        {name: validation[name] for name in axes},
        [Axis((name,), categories=(name,) if name == "age" else ()) for name in axes],
        labels=validation["liked"],
        units=validation["user_id"],
        training_columns={name: train[name] for name in axes},
        training_labels=train["liked"],
    )
    cohorts = found.best.cohorts
    print("cohorts:", *cohorts, sep="\n- ")
    with_heads = [fit(train, seed, cohorts) for seed in range(seeds)]
    compared = evaluate_by_cohort(
        {"baseline": logits(baseline, test), "c2al": logits(with_heads, test)},
        test["liked"],
        {str(cohort): cohort.contains(test) for cohort in cohorts},
        named=[str(cohort) for cohort in cohorts],
        units=test["user_id"],
    )
    for name, difference in compared.ne_diff["c2al"].items():
        print(f"NE_diff, {name}: {difference.percent:+.2f} % [{difference.low:+.2f}, {difference.high:+.2f}]")
    tf.saved_model.save(with_heads[0], str(output))
    print("variables of the export:", *sorted(v.name for v in tf.saved_model.load(str(output)).variables), sep="\n- ")


def split(rows: Rows) -> list[Rows]:
    """The first 70 % to train on, 15 % to find cohorts on, 15 % to compare on."""
    count = len(rows["liked"])
    edges = [0, round(0.7 * count), round(0.85 * count), count]
    return [{name: values[a:b] for name, values in rows.items()} for a, b in itertools.pairwise(edges)]


def synthetic_ratings(count: int) -> Rows:
    """What 300 users think of a hundred films; those from 50 on like others than the young do, and fewer."""
    rng = np.random.default_rng(0)
    ages = rng.choice([18, 25, 35, 50, 56], size=300, p=[0.2, 0.3, 0.2, 0.2, 0.1])
    taste = {age: rng.normal(1.0 - 2 * (age >= 50), 1.0, 100) for age in (18, 50)}
    user, movie = rng.integers(0, len(ages), count), rng.integers(0, 100, count)
    score = np.where(ages[user] >= 50, taste[50][movie], taste[18][movie])
    return {
        "user_id": user.astype(str).astype(object),
        "movie_id": movie.astype(str).astype(object),
        "age": ages[user],
        "liked": (rng.random(count) < 1 / (1 + np.exp(-score))).astype(np.float32),
    }


def movielens_ratings(folder: Path) -> Rows:
    """The ratings of a MovieLens-1M folder in order of time; films also by how many of the first 70 % are theirs."""
    from c2al_pipelines.datasets.movielens import open_source

    source = open_source(folder)
    parts = [batch for name in ("train", "validation", "test") for batch in source.splits[name]()]
    rows = {name: np.concatenate([part[name] for part in parts]) for name in (*IDS, "age", "item_popularity", "label")}
    return {name: rows[name].astype(str).astype(object) for name in IDS} | {
        "age": rows["age"],
        "popularity": rows["item_popularity"],
        "liked": rows["label"],
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder with ratings.dat, users.dat and movies.dat of MovieLens-1M")
    parser.add_argument("--rows", type=int, default=40_000, help="ratings that are made up without --data")
    parser.add_argument("--seeds", type=int, default=3, help="models of each kind")
    parser.add_argument("--output", type=Path, default=Path("runs/tfrs_export"), help="folder of the SavedModel")
    main(**vars(parser.parse_args()))
