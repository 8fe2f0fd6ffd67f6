"""A file's rows through a model server, and the predictions into a file."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from c2al_serving.client import PredictClient
from tqdm import tqdm

from c2al_tf.data.raw import num_rows
from c2al_tf.data.readers import count_rows, read_columns
from c2al_tf.files import replace_file
from c2al_tf.schema import Column
from c2al_tf.types import Columns


def predict_file(path: Path, client: PredictClient, output: Path) -> int:
    """Sends every row of a Parquet, CSV or TFRecord file to a model server; returns the number of rows.

    `output`, Parquet or CSV by its suffix, gets a row with the model's outputs for each row of the file, in order.

    Raises:
        ValueError: If the suffix is unknown, the file lacks a column of the model, or the server refuses.
    """
    if output.suffix not in (".parquet", ".csv"):
        raise ValueError(f"`--output` must end in .parquet or .csv. Received: {output}")
    with (
        replace_file(output) as temporary,
        tqdm(total=count_rows(path), desc="predicting", unit=" rows", unit_scale=True) as bar,
    ):
        batches = _predictions(client, path, client.max_rows)
        first = next(batches)
        writer = pa.parquet.ParquetWriter if output.suffix == ".parquet" else pa.csv.CSVWriter
        with writer(str(temporary), first.schema) as file:
            file.write_table(first)
            bar.update(len(first))
            for table in batches:
                file.write_table(table)
                bar.update(len(table))
        return int(bar.n)


def compare_served(server: str, model: str, columns: Columns, logits: np.ndarray) -> dict[str, float]:
    """Asks a server for the rows' logits; returns the largest difference to `logits` (rows,), and the rate."""
    with PredictClient(server, model) as client:
        start = time.perf_counter()
        served = client.predict(columns)
        seconds = time.perf_counter() - start
    error = float(np.max(np.abs(served["logits"][:, 0] - logits)))
    return {"rows": len(logits), "max_logit_difference": error, "rows_per_second": len(logits) / seconds}


def _predictions(client: PredictClient, path: Path, batch_size: int) -> Iterator[pa.Table]:
    inputs = client.metadata()["serving_default"].inputs
    columns = {
        name: Column(name, _dtype(spec.dtype), None if len(spec.shape) == 1 else spec.shape[1])
        for name, spec in inputs.items()
    }
    for batch in read_columns(path, columns, batch_size):
        outputs = client.predict(batch)
        yield pa.table({name: values.reshape(num_rows(batch)) for name, values in outputs.items()})


def _dtype(dtype: np.dtype[Any]) -> Any:
    return "string" if dtype.kind == "O" else dtype.name
