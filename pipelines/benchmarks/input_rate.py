"""From files to model inputs, and from files to trained rows: Parquet and TFRecord.

Rows have 26 integers, hashed into 100,000 buckets each, 13 floats, cut into 10 buckets and scaled, and a label; they
are in eight files, read in batches of 4,096 from the page cache. Ours includes reading, checking every row, encoding,
shuffling over half a million rows and one tensor per input; the time to the first batch counts. The peers use
TensorFlow alone; they check nothing, and their names say what else they leave out. The labels of two cohorts are added
to the plainest of them, as a team's own pipeline may be. The end-to-end rate is compared with
`1 / (1 / train + 1 / input)`, the limit if training and input share the processors; it trains one DHEN block of
dimension 8 with row-wise Adagrad.
"""

import itertools
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pyarrow.parquet as pq
import tensorflow as tf

from c2al_tf.cohorts import Cohort, Interval
from c2al_tf.config import ModelConfig
from c2al_tf.data.columns.examples import write_tfrecord
from c2al_tf.data.columns.shards import write_parquet
from c2al_tf.data.inputs.dataset import make_dataset
from c2al_tf.data.inputs.features import FeatureEncoder
from c2al_tf.data.inputs.labelled_dataset import add_cohort_labels
from c2al_tf.losses import weighted_sum_of_tasks
from c2al_tf.model import build_model
from c2al_tf.optimizers import RowWiseAdagrad
from c2al_tf.schema import CategoricalFeature, NumericFeature, Schema
from c2al_tf.training import compile_step
from c2al_tf.types import Columns

from .results import Result, alternate

NAME = "input_rate"
NUM_FILES = 8
FORMATS = ("parquet", "tfrecord")
GOAL = 0.95
LABELS_GOAL = 0.98

_BUFFER_ROWS = 100_000
_INTEGERS = [f"c{i}" for i in range(26)]
_FLOATS = [f"n{i}" for i in range(13)]
_COHORTS = (Cohort("low", (Interval("c0", high=10_000),)), Cohort("high", (Interval("n0", low=1.0),)))
SCHEMA = Schema(
    (
        *(CategoricalFeature(name, "int64", num_hash_buckets=100_000) for name in _INTEGERS),
        *(NumericFeature(name, "standard", boundaries=tuple(np.linspace(-2, 2, 9).tolist())) for name in _FLOATS),
    )
)


def run(quick: bool) -> Iterator[Result]:
    """Rows per second of reading beside the peers', and of reading and training beside what the two allow."""
    rows, batch, rounds = (20_000, 512, 1) if quick else (2_000_000, 4096, 3)
    encoder = FeatureEncoder(SCHEMA)
    train = _trainer(batch)
    with tempfile.TemporaryDirectory() as folder:
        for suffix in FORMATS:
            files = write_rows(Path(folder), suffix, rows)
            ours = partial(_epochs(files, encoder, batch).__next__)
            peers = {"parquet": _parquet_peers, "tfrecord": _tfrecord_peers}[suffix](files, encoder, batch)
            yield from _input_results(suffix, ours, peers, rows, rounds)
            if suffix == "tfrecord":
                yield _label_result(files, batch, rows, rounds, None if quick else LABELS_GOAL)
            yield _end_to_end(suffix, ours, train, rows, batch, rounds, None if quick else GOAL)


def _epochs(files: list[Path], encoder: FeatureEncoder, batch: int) -> Iterator[tf.data.Dataset]:
    for epoch in itertools.count():
        yield make_dataset(files, SCHEMA, batch, encoder=encoder, shuffle=True, epoch=epoch)


def _input_results(
    suffix: str,
    ours: Callable[[], tf.data.Dataset],
    peers: dict[str, Callable[[], tf.data.Dataset]],
    rows: int,
    rounds: int,
) -> Iterator[Result]:
    def rate(dataset: Callable[[], tf.data.Dataset]) -> float:
        return rows / seconds(dataset(), lambda *batch: None)

    measured = {name: partial(rate, dataset) for name, dataset in {"ours": ours, **peers}.items()}
    alternate(measured, 1)
    measurements = alternate(measured, rounds)
    for peer in peers:
        case = f"{suffix} to inputs, {rows / 1e6:g} M rows"
        yield Result.of(NAME, case, measurements["ours"], measurements[peer], peer_name=peer, unit="rows/s")


def _label_result(files: list[Path], batch: int, rows: int, rounds: int, goal: float | None) -> Result:
    """A pipeline of TensorFlow with the labels of cohorts against the same without."""

    def rate(cohorts: tuple[Cohort, ...]) -> float:
        dataset = _parsed(_records(files), batch).map(lambda x: (x, x.pop("label")))
        dataset = add_cohort_labels(dataset, cohorts) if cohorts else dataset
        return rows / seconds(dataset.prefetch(tf.data.AUTOTUNE), lambda *batch: None)

    measured = {"with": partial(rate, _COHORTS), "without": partial(rate, ())}
    alternate(measured, 1)
    measurements = alternate(measured, 3 * rounds)  # two rates that differ little
    return Result.of(
        NAME,
        f"tfrecord with labels of 2 cohorts, {rows / 1e6:g} M rows",
        measurements["with"],
        measurements["without"],
        peer_name="batch, parse_example",
        unit="rows/s",
        goal=goal,
    )


def _end_to_end(
    suffix: str,
    ours: Callable[[], tf.data.Dataset],
    train: Callable[..., Any],
    rows: int,
    batch: int,
    rounds: int,
    goal: float | None,
) -> Result:
    cached = list(ours().take(16))
    steps = -(-rows // batch)
    measured = {
        "train": lambda: rows / seconds(itertools.islice(itertools.cycle(cached), steps), train),
        "input": lambda: rows / seconds(ours(), lambda *batch: None),
        "both": lambda: rows / seconds(ours(), train),
    }
    seconds(cached[:1], train)
    measurements = alternate(measured, rounds)
    bound = [1 / (1 / t + 1 / i) for t, i in zip(measurements["train"], measurements["input"], strict=True)]
    alone = {name: np.median(measurements[name]) for name in ("train", "input")}
    return Result.of(
        NAME,
        f"{suffix} to trained rows, {rows / 1e6:g} M rows",
        measurements["both"],
        bound,
        peer_name="1 / (1 / train + 1 / input)",
        unit="rows/s",
        goal=goal,
        note=f"alone: train {alone['train']:,.0f}, input {alone['input']:,.0f} rows/s",
    )


def seconds(batches: Iterable[Any], use: Callable[..., Any]) -> float:
    """How long it takes to use every batch."""
    start = time.perf_counter()
    result = None
    iterator = iter(batches)
    for batch in iterator:
        result = use(*batch)
    if result is not None:
        # Reading the loss waits for the last step.
        result[0].numpy()
    # `iterator` is still referenced: closing a dataset with autotuning can take seconds.
    return time.perf_counter() - start


def _trainer(batch: int) -> Callable[..., Any]:
    keras.utils.set_random_seed(0)
    model = build_model(SCHEMA, ModelConfig(embedding_dim=8, num_blocks=1))
    model.compile(optimizer=RowWiseAdagrad(0.01))
    return compile_step(model, weighted_sum_of_tasks())


def write_rows(folder: Path, suffix: str, rows: int) -> list[Path]:
    """Writes rows into files of a format, always the same ones, and returns the files."""
    files = [folder / f"{number}.{suffix}" for number in range(NUM_FILES)]
    write = {"parquet": write_parquet, "tfrecord": write_tfrecord}[suffix]
    for number, file in enumerate(files):
        # Both formats get the same rows in the same pieces, which are row groups in Parquet.
        pieces = (_rows(rows // NUM_FILES // 4, seed=4 * number + piece) for piece in range(4))
        write(file, pieces, SCHEMA.columns)
    return files


def _rows(count: int, seed: int) -> Columns:
    rng = np.random.default_rng(seed)
    columns = {name: rng.integers(0, 100_000, count) for name in _INTEGERS}
    floats = {name: rng.normal(size=count).astype(np.float32) for name in _FLOATS}
    return {**columns, **floats, "label": (rng.random(count) < 0.03).astype(np.float32)}


# The peers.


def _tfrecord_peers(files: list[Path], encoder: FeatureEncoder, batch: int) -> dict[str, Callable[[], tf.data.Dataset]]:
    records = _records(files)
    return {
        "batch, parse_example": lambda: _parsed(records, batch).map(lambda x: (x,)).prefetch(tf.data.AUTOTUNE),
        "shuffle (100,000 rows), batch, parse_example, encode": lambda: _encoded(
            _parsed(records.shuffle(_BUFFER_ROWS), batch), encoder
        ),
    }


def _records(files: list[Path]) -> tf.data.Dataset:
    return tf.data.TFRecordDataset([str(file) for file in files])


def _parsed(records: tf.data.Dataset, batch: int) -> tf.data.Dataset:
    types = {"int64": tf.int64, "float32": tf.float32}
    spec = {name: tf.io.FixedLenFeature([], types[column.dtype]) for name, column in SCHEMA.columns.items()}
    return records.batch(batch).map(lambda x: tf.io.parse_example(x, spec), num_parallel_calls=tf.data.AUTOTUNE)


def _parquet_peers(files: list[Path], encoder: FeatureEncoder, batch: int) -> dict[str, Callable[[], tf.data.Dataset]]:
    names = (_INTEGERS, [*_FLOATS, "label"])

    def blocks() -> Iterator[tuple[np.ndarray, ...]]:
        for file in files:
            for block in pq.ParquetFile(file).iter_batches(65_536):
                yield tuple(np.stack([block[name].to_numpy() for name in part], axis=1) for part in names)

    def columns(*stacked: tf.Tensor) -> dict[str, tf.Tensor]:
        unstacked = (zip(part, tf.unstack(x, axis=1), strict=True) for part, x in zip(names, stacked, strict=True))
        return dict(itertools.chain(*unstacked))

    def read() -> tf.data.Dataset:
        specs = (tf.TensorSpec((None, 26), tf.int64), tf.TensorSpec((None, 14), tf.float32))
        read = tf.data.Dataset.from_generator(blocks, output_signature=specs).rebatch(batch)
        return read.map(columns, num_parallel_calls=tf.data.AUTOTUNE)

    return {
        "pyarrow, from_generator, no shuffle": lambda: read().map(lambda x: (x,)).prefetch(tf.data.AUTOTUNE),
        "pyarrow, from_generator, encode, no shuffle": lambda: _encoded(read(), encoder),
    }


def _encoded(dataset: tf.data.Dataset, encoder: FeatureEncoder) -> tf.data.Dataset:
    encoded = dataset.map(lambda x: (encoder(x), x["label"]), num_parallel_calls=tf.data.AUTOTUNE)
    return encoded.prefetch(tf.data.AUTOTUNE)
