"""I have CSV or Parquet files: does C2AL help on them?

    .venv/bin/python pipelines/examples/csv_files.py

It draws clicks, writes them as files, calls `c2al init` and `c2al run` on the folder, and reads the answer. On your own
files these two commands are all.
"""

import argparse
import shlex
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from c2al_pipelines import cli

from c2al_tf.files import read_json

CITIES = np.array(["bonn", "lima", "oslo", "rome"])
GENRES = np.array(["comedy", "crime", "drama", "family", "horror", "western"])


def draw_rows(number: int, seed: int) -> pa.Table:
    """Clicks: users from 60 years on like other genres than the others do, and click less. A tenth has no price."""
    rng = np.random.default_rng(seed)
    user = rng.integers(0, number // 4, number)
    age = 18 + user % 62
    city, genre = rng.integers(0, len(CITIES), number), rng.integers(0, len(GENRES), number)
    likes = np.where(age < 60, genre % 4 == city, genre % 3 == city % 3)
    rate = np.where(age < 60, 0.2, 0.05) * (1 + 2 * likes)
    return pa.table(
        {
            "clicked": (rng.random(number) < rate).astype(np.int64),
            "user_id": user,
            "age": age,
            "city": CITIES[city],
            "genre": GENRES[genre],
            "Price (EUR)": pa.array(rng.gamma(2.0, 20.0, number).round(2), mask=rng.random(number) < 0.1),
        }
    )


def write_files(folder: Path, number: int, form: str) -> None:
    """Two files to train on, one to test on: a null is an empty field in CSV."""
    for seed, (name, rows) in enumerate(
        {"train/0": number // 2, "train/1": number // 2, "test/0": number // 2}.items()
    ):
        path = folder / f"{name}.{form}"
        path.parent.mkdir(parents=True, exist_ok=True)
        write = pyarrow.csv.write_csv if form == "csv" else pyarrow.parquet.write_table
        write(draw_rows(rows, seed), path)


def c2al(*words: object) -> None:
    """Prints a command, and runs it in this process."""
    print("$ c2al", shlex.join(map(str, words)), flush=True)
    cli.main([str(word) for word in words])


def main() -> None:
    """Writes files, configures, runs, reads the answer."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=40_000, help="training rows")
    parser.add_argument("--seeds", type=int, default=2, help="paired seeds")
    parser.add_argument("--form", choices=["csv", "parquet"], default="csv", help="of the files")
    parser.add_argument("--output", type=Path, default=Path("runs/csv_files"), help="folder of all that is written")
    options, settings = parser.parse_known_args()

    data, config, run = (options.output / name for name in ("data", "clicks.yaml", "run"))
    write_files(data, options.rows, options.form)
    c2al("init", data, "--output", config, "--overwrite", "true")
    c2al("run", config, "--data", data, "--run-dir", run, "--seeds", options.seeds, *settings)

    metrics = read_json(run / "metrics.json")
    overall = metrics["ne_diff"]["all"]
    print(f"{overall['percent']:+.2f} % [{overall['low']:+.2f}, {overall['high']:+.2f}] of NE on all test rows")
    print(f"answer: {metrics['recommendation']['answer']}")
    print(f"for people: {run / 'report.html'}; to be served: c2al serve {run / 'export'}")


if __name__ == "__main__":
    main()
