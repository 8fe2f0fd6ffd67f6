"""A file's rows through a model server, and the predictions into a file."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import grpc
import numpy as np
import pyarrow as pa
from c2al_serving.client import PredictClient, PredictError
from tqdm import tqdm

from c2al_tf.data.columns.formats import as_paths
from c2al_tf.data.columns.raw import num_rows
from c2al_tf.data.columns.readers import count_rows, read_columns
from c2al_tf.saved_model.conformance import difference
from c2al_tf.storage import local_path
from c2al_tf.types import Columns

from .inputs import input_column
from .parts import Job, Parts, open_parts

_PART_SECONDS, _PART_ROWS = 1.0, 1 << 20
"""What a killed run loses at most, and what is held in memory."""
T = TypeVar("T")
U = TypeVar("U")


def predict_file(
    path: Path, client: PredictClient, output: Path, *, concurrency: int = 4, restart: bool = False
) -> int:
    """Sends every row of Parquet, CSV or TFRecord files to a model server; returns the number of rows.

    `output`, Parquet or CSV by its suffix, gets a row with the model's outputs for each row, in order. All
    come from one version, the one that answers first. Whatever ends a call, the same call goes on where the finished
    parts beside `output` end.

    Args:
        path: A file, a folder of them or a pattern; see `as_paths`.
        client: Whom to ask; it is pinned to the version that answers.
        output: File to be written.
        concurrency: Requests under way at a time.
        restart: Drop the finished parts of an earlier call.

    Raises:
        ValueError: If a name's suffix is unknown, the file lacks a column of the model, the server refuses, or an
            earlier call's parts are of something else.
    """
    output = local_path(output)
    if output.suffix not in (".parquet", ".csv"):
        raise ValueError(f"`--output` must end in .parquet or .csv. Received: {output}")
    if concurrency < 1:
        raise ValueError(f"`--concurrency` must be at least 1. Received: {concurrency}")
    # Listed once: the finished parts may come to lie among them.
    files = as_paths(path)
    rows, job = count_rows(files), Job.of(path, files, client)
    with open_parts(output) as parts:
        if restart or not parts.rows:
            parts.clear()
        else:
            client.version, client.label = parts.resume(job), None
        if not parts.rows or parts.rows < rows:
            _predict_rest(files, client, parts, job, rows, concurrency)
        if not job.has_read(files):
            raise ValueError(f"{path} has changed while it was read; begin anew with --restart")
        parts.combine(output)
        parts.clear()
    return rows


def compare_served(server: str, model: str, columns: Columns, logits: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Asks a server for the rows' logits; returns the largest difference to `logits`, (rows,) by output, and the rate.

    `max_error` is the difference relative to logits above 1, `max_logit_difference` the absolute one.
    """
    with PredictClient(server, model, timeout=600) as client:
        start = time.perf_counter()
        served = client.predict(columns)
        seconds = time.perf_counter() - start
    got, wanted = np.stack([served[name][:, 0] for name in logits]), np.stack(list(logits.values()))
    return {
        "rows": wanted.shape[1],
        "max_logit_difference": float(np.max(np.abs(got - wanted))),
        "max_error": difference(got, wanted),
        "rows_per_second": wanted.shape[1] / seconds,
    }


def _predict_rest(
    files: Sequence[Path], client: PredictClient, parts: Parts, job: Job, rows: int, concurrency: int
) -> None:
    bar = tqdm(total=rows, initial=parts.rows, desc="predicting", unit=" rows", unit_scale=True)
    try:
        with bar:
            if not parts.rows:
                parts.begin(job, client.pin())
            columns = {
                name: input_column(name, spec) for name, spec in client.metadata()["serving_default"].inputs.items()
            }
            batches = read_columns(files, columns, client.max_rows, first_row=parts.rows)

            def predict(batch: Columns) -> pa.Table:
                outputs = client.predict(batch)
                return pa.table({name: values.reshape(num_rows(batch)) for name, values in outputs.items()})

            for part in _in_parts(_in_order(predict, batches, concurrency), bar.update):
                parts.append(part)
    except PredictError as error:
        if not parts.rows:
            raise
        hint = f"{parts.rows:,} of {rows:,} rows are done: the same command goes on there."
        if error.code is grpc.StatusCode.NOT_FOUND:
            hint = (
                f"{parts.rows:,} of {rows:,} rows are done, by version {client.version}: with that version served, the "
                "same command goes on there; --restart begins anew with the version that is served now."
            )
        raise PredictError(f"{error}\n{hint}", error.code, error.details, error.trailing_metadata) from error


def _in_order(function: Callable[[T], U], items: Iterable[T], at_a_time: int) -> Iterator[U]:
    """Yields the results of calls in threads, and takes an item when there is a thread for it."""
    waiting: deque[Future[U]] = deque()
    with ThreadPoolExecutor(at_a_time) as pool:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) == at_a_time:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _in_parts(tables: Iterable[pa.Table], on_rows: Callable[[int], Any]) -> Iterator[pa.Table]:
    held: list[pa.Table] = []
    began = time.monotonic()
    for table in tables:
        held.append(table)
        on_rows(len(table))
        if time.monotonic() - began >= _PART_SECONDS or sum(map(len, held)) >= _PART_ROWS:
            yield pa.concat_tables(held)
            held, began = [], time.monotonic()
    if held:
        yield pa.concat_tables(held)
