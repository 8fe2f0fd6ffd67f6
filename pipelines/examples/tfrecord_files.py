"""I have TFRecords of tf.Examples: does C2AL help on them?

    .venv/bin/python pipelines/examples/tfrecord_files.py

It draws clicks, writes them as compressed shards, calls `c2al init` and `c2al run` on the folder, reads the answer, and
asks the export about two of the records. On your own shards the two commands are all. Arguments that it does not know
go to `c2al run`, as `--training.epochs 1`.
"""

import argparse
import shlex
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf
from c2al_pipelines import cli

from c2al_tf.files import read_json

CITIES = [b"bonn", b"lima", b"oslo", b"rome"]
TOPICS = np.array([b"art", b"cars", b"news", b"sports"], object)


def draw_records(number: int, seed: int) -> Iterator[bytes]:
    """Clicks: users from 60 years on like other cities than the others do, and click less.

    `topics` has none to three values; a null, as a tenth of `price` is, is absent from its record.
    """
    rng = np.random.default_rng(seed)
    for _ in range(number):
        user, city, price = int(rng.integers(0, number // 4)), int(rng.integers(0, len(CITIES))), rng.gamma(2.0, 20.0)
        age, topics = 18 + user % 62, rng.choice(TOPICS, rng.integers(0, 4), replace=False)
        likes = (b"cars" in topics) == (city < 2) if age < 60 else (b"art" in topics) == (city % 2 == 0)
        rate = (0.2 if age < 60 else 0.05) * (1 + 2 * likes)
        example = tf.train.Example()
        features = example.features.feature
        features["clicked"].int64_list.value.append(int(rng.random() < rate))
        features["user_id"].int64_list.value.append(user)
        features["age"].int64_list.value.append(age)
        features["city"].bytes_list.value.append(CITIES[city])
        features["topics"].bytes_list.value.extend(topics)
        if rng.random() < 0.9:
            features["price"].float_list.value.append(price)
        yield example.SerializeToString()


def write_shards(folder: Path, number: int) -> None:
    """Two shards to train on, one to test on."""
    names = ("train/clicks-00000-of-00002", "train/clicks-00001-of-00002", "test/clicks-00000-of-00001")
    for seed, name in enumerate(names):
        path = folder / f"{name}.tfrecord.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        with tf.io.TFRecordWriter(str(path), "GZIP") as writer:
            for record in draw_records(number // 2, seed):
                writer.write(record)


def c2al(*words: object) -> None:
    """Prints a command, and runs it in this process."""
    print("$ c2al", shlex.join(map(str, words)), flush=True)
    cli.main([str(word) for word in words])


def main() -> None:
    """Writes shards, configures, runs, reads the answer, asks the export."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=40_000, help="training rows")
    parser.add_argument("--seeds", type=int, default=2, help="paired seeds")
    parser.add_argument(
        "--output", type=Path, default=Path("runs/tfrecord_files"), help="folder of all that is written"
    )
    options, settings = parser.parse_known_args()

    data, config, run = (options.output / name for name in ("data", "clicks.yaml", "run"))
    write_shards(data, options.rows)
    c2al("init", data, "--output", config, "--overwrite", "true")
    c2al("run", config, "--data", data, "--run-dir", run, "--seeds", options.seeds, *settings)

    metrics = read_json(run / "metrics.json")
    overall = metrics["ne_diff"]["all"]
    print(f"{overall['percent']:+.2f} % [{overall['low']:+.2f}, {overall['high']:+.2f}] of NE on all test rows")
    print(f"answer: {metrics['recommendation']['answer']}")

    (version,) = (run / "export").iterdir()
    served = tf.saved_model.load(str(version)).signatures["serialized_examples"]
    shard = tf.data.TFRecordDataset(str(next((data / "test").iterdir())), "GZIP")
    answers = served(examples=next(iter(shard.batch(2))))
    print(f"click probabilities of two records: {answers['probabilities'].numpy()[:, 0]}")


if __name__ == "__main__":
    main()
