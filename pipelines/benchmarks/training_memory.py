"""Peak memory of training on generated TFRecord files in one pass; it does not depend on the number of rows.

The model is the demo's; rows have further ids, so that a row takes about half a kilobyte. A process of its own trains,
shuffled and with checkpoints. Its peak is VmHWM, the largest resident memory of that process alone.

Example: python -m c2al_pipelines.benchmarks.training_memory --rows 20000000 --jobs 2 --folder /tmp
"""

import dataclasses
import logging
import multiprocessing
import shutil
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import jsonargparse

from c2al_tf.schema import Schema

from ..datasets.ads_world import SyntheticAds
from ..datasets.generate import Plan, generate_files
from ..native_log import hide_native_notes
from ..run.config import load_config
from .machine import process_mb
from .results import Result

NAME = "training_memory"
ROWS = 20_000_000
QUICK_ROWS = 140_000
GOAL_MB = 3000

_ROWS_PER_FILE = 1_000_000
_NUM_EXTRA_IDS = 8
# Bytes of a row in TFRecord, rounded up, which the disk must have free.
_BYTES_PER_ROW = 600
_DEMO = Path(__file__).parents[1] / "configs" / "demo.yaml"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Trained:
    """Measurements of one pass of training.

    Args:
        rows: Rows trained on.
        seconds: From opening the files to the last step, compilation included.
        start_mb: Resident memory with the libraries loaded, before anything is built.
        peak_mb: Peak of the resident memory.
    """

    rows: int
    seconds: float
    start_mb: float
    peak_mb: float


def run(quick: bool) -> Iterator[Result]:
    """Peak memory beside the limit, and the rate."""
    yield from measure(QUICK_ROWS if quick else ROWS)


def measure(rows: int, jobs: int = 2, folder: Path | None = None) -> Iterator[Result]:
    """Generates `rows` into a folder within `folder`, trains on them once, and removes them.

    Raises:
        ValueError: If the disk has no room for the rows.
    """
    free = shutil.disk_usage(folder or tempfile.gettempdir()).free
    if free < rows * _BYTES_PER_ROW:
        raise ValueError(
            f"`rows` must be at most {free // _BYTES_PER_ROW:,}, for which the disk has room. Received: rows={rows:,}"
        )
    with tempfile.TemporaryDirectory(dir=folder, prefix="training_memory-") as made:
        parameters = SyntheticAds(num_rows=rows, validation_rows=1, test_rows=1, num_extra_ids=_NUM_EXTRA_IDS)
        plan = Plan(parameters, Path(made), "tfrecord", num_shards=max(1, rows // _ROWS_PER_FILE))
        _log.info(f"writing {rows:,} rows")
        generate_files(plan, jobs=jobs, progress=sys.stderr.isatty())
        size = sum(file.stat().st_size for file in (plan.output / "train").iterdir())
        _log.info(f"training on {size / 1e9:.1f} GB")
        # A spawned process does not inherit this one's memory.
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            trained = pool.submit(train_once, plan.output, rows).result()
    yield from _results(trained, size)


def _results(trained: Trained, size: int) -> Iterator[Result]:
    case = f"{trained.rows / 1e6:g} M rows, {size / 1e9:.1f} GB of TFRecord, one pass"
    note = f"{trained.start_mb:.0f} MB with the libraries loaded"
    yield Result(NAME, case, trained.peak_mb, GOAL_MB, "the limit", "MB", goal=1.0, note=note)
    yield Result(NAME, case, trained.rows / trained.seconds, None, "none", "rows/s", note="compilation included")


def train_once(folder: Path, rows: int) -> Trained:
    """Trains the demo's model on the files of `folder`, in this process."""
    import time

    import keras
    import tensorflow as tf

    from c2al_tf.data.inputs.dataset import make_dataset
    from c2al_tf.data.inputs.features import FeatureEncoder
    from c2al_tf.losses import weighted_sum_of_tasks
    from c2al_tf.model import build_model
    from c2al_tf.training import make_optimizer, train

    start_mb = process_mb("VmRSS")
    config = load_config(_DEMO)
    training = dataclasses.replace(config.training, epochs=1)
    schema = Schema.load(folder / "schema.json")
    files = sorted((folder / "train").iterdir())
    encoder = FeatureEncoder(schema)
    steps = -(-rows // training.batch_size)
    keras.utils.set_random_seed(0)
    model = build_model(schema, config.model)
    model.compile(optimizer=make_optimizer(training, steps))

    def batches(epoch: int, skip: int) -> tf.data.Dataset:
        return make_dataset(
            files, schema, training.batch_size, encoder=encoder, shuffle=True, epoch=epoch, skip_batches=skip
        )

    start = time.perf_counter()
    train(
        model,
        batches,
        weighted_sum_of_tasks({}),
        steps_per_epoch=steps,
        jit_compile=training.jit_compile,
        checkpoints=folder / "checkpoints",
        checkpoint_steps=training.checkpoint_steps,
    )
    return Trained(rows, time.perf_counter() - start, start_mb, process_mb("VmHWM"))


def main(rows: int = ROWS, jobs: int = 2, folder: Path | None = None) -> None:
    """Prints the peak memory and the rate.

    Args:
        rows: Training rows.
        jobs: Processes that generate them.
        folder: Folder for the files, which are removed at the end; by default the system's temporary folder.
    """
    for result in measure(rows, jobs, folder):
        print(f"{result.case}: {result.ours:,.0f} {result.unit} ({result.note})")


if __name__ == "__main__":
    hide_native_notes()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        jsonargparse.auto_cli(main, as_positional=False)
    except ValueError as error:
        sys.exit(f"{NAME}: {error}")
