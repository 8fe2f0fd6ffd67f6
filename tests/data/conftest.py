"""Rows of every kind of column, and the writers of every format."""

import csv
import gzip
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from c2al_tf.data.columns.examples import write_tfrecord
from c2al_tf.data.columns.shards import write_parquet
from c2al_tf.data.inputs import stream
from c2al_tf.schema import CategoricalFeature, Column, NumericFeature, Schema
from c2al_tf.types import MISSING_INT, Columns

# A row's number is its id less 2.
NUMBERED = Schema((CategoricalFeature("row", "int64", vocabulary=tuple(range(10_000))),))

Write = Callable[[Path, Columns, Schema], Path]


@pytest.fixture
def schema() -> Schema:
    """One feature of every kind, each allowed to be missing."""
    return Schema(
        features=(
            CategoricalFeature("city", "string", vocabulary=("rome", 'öl, "x"', "bonn"), missing="slot"),
            CategoricalFeature("user", "int64", num_hash_buckets=7, missing="slot"),
            CategoricalFeature("genres", "string", vocabulary=("a", "b"), length=3, missing="slot"),
            CategoricalFeature("codes", "int64", vocabulary=(5, -1), length=2, missing="default", default=5),
            NumericFeature("age", "log", mean=1.5, std=0.5, boundaries=(0.1, 18.0, 65.0), missing="slot"),
        ),
        labels=("label",),
        axes=(("age",), ("surface",)),
        axis_columns=(Column("surface", "int64"),),
        weight="weight",
    )


@pytest.fixture
def rows() -> Callable[..., Columns]:
    def make(count: int, seed: int = 0) -> Columns:
        rng = np.random.default_rng(seed)
        genres = rng.choice(np.array(["a", "b", "unseen"], object), (count, 3))
        codes = rng.choice([5, -1, 77], (count, 2))
        lengths = rng.integers(0, 4, count)
        genres[np.arange(3) >= lengths[:, None]] = ""
        codes[np.arange(2) >= lengths[:, None]] = MISSING_INT
        age = np.round(rng.normal(30, 20, count), 3).astype(np.float32)
        age[rng.random(count) < 0.1] = np.nan
        return {
            "city": rng.choice(np.array(["rome", 'öl, "x"', "bonn", "oslo", ""], object), count),
            "user": rng.choice([3, 2**62, -9, MISSING_INT], count),
            "genres": genres,
            "codes": codes,
            "age": age,
            "surface": rng.integers(0, 3, count),
            "label": (rng.random(count) < 0.3).astype(np.float32),
            "weight": np.arange(1, count + 1, dtype=np.float32),
        }

    return make


@pytest.fixture
def write() -> Write:
    """Writes rows in the format that the path names, and returns the path."""

    def write_any(path: Path, batch: Columns, schema: Schema) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.name.endswith(".parquet"):
            write_parquet(path, [batch], schema.columns)
        elif ".csv" in path.name:
            _write_csv(path, batch)
        else:
            write_tfrecord(path, [batch], schema.columns)
        return path

    return write_any


@pytest.fixture
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes at which a few hundred rows are many chunks, windows and blocks."""
    monkeypatch.setattr(stream, "WINDOW_ROWS", 100)
    monkeypatch.setattr(stream, "_CHUNK_ROWS", 30)
    monkeypatch.setattr("c2al_tf.data.columns.shards.GROUP_ROWS", 30)
    monkeypatch.setattr("c2al_tf.data.inputs.dataset._BLOCK_ROWS", 64)


@pytest.fixture
def numbered(tmp_path: Path) -> list[Path]:
    """Three files with 230, 230 and 40 rows, in row groups of at most 30."""
    label = np.zeros(500, np.float32)
    for number, (start, stop) in enumerate([(0, 230), (230, 460), (460, 500)]):
        groups = ({"row": np.arange(i, min(i + 30, stop)), "label": label[i : i + 30]} for i in range(start, stop, 30))
        fitting = ({name: values[: len(group["row"])] for name, values in group.items()} for group in groups)
        write_parquet(tmp_path / f"{number}.parquet", fitting, NUMBERED.columns)
    return sorted(tmp_path.glob("*.parquet"))


def _write_csv(path: Path, batch: Columns) -> None:
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(batch)
    for row in zip(*batch.values(), strict=True):
        writer.writerow("|".join(_text(v) for v in np.atleast_1d(value) if _text(v)) for value in row)
    data = file.getvalue().encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


def _text(value: object) -> str:
    return "" if value in ("", MISSING_INT) or value != value else str(value)
