"""Warm-up requests: a TFRecord file of PredictionLogs beside the model, replayed before it serves."""

import logging
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError

from .messages import PredictionLog

WARMUP_FILE = "assets.extra/tf_serving_warmup_requests"
MAX_REQUESTS = 1000
"""What tensorflow_model_server accepts."""

_log = logging.getLogger(__name__)


def read_warmup_requests(directory: Path) -> Iterator[Any]:
    """Yields the PredictRequests of a version folder's warm-up file, if it has one.

    Raises:
        ValueError: If the file is truncated, holds something else or too much; the message names the record.
    """
    path = directory / WARMUP_FILE
    if not path.is_file():
        return
    for number, record in enumerate(_read_records(path), start=1):
        try:
            log = PredictionLog.FromString(record)
        except DecodeError as error:
            raise ValueError(f"{path}: record {number}: not a PredictionLog: {error}") from error
        if number > MAX_REQUESTS:
            raise ValueError(f"{path}: at most {MAX_REQUESTS} warm-up requests are allowed.")
        if log.WhichOneof("log_type") != "predict_log":
            _log.warning("%s: record %d skipped: it has no predict_log", path, number)
            continue
        yield log.predict_log.request


def _read_records(path: Path) -> Iterator[bytes]:
    """TFRecord framing: length (8 bytes), its checksum (4), the record, its checksum (4)."""
    with path.open("rb") as file:
        number = 0
        while header := file.read(12):
            number += 1
            length = struct.unpack("<Q", header[:8])[0] if len(header) == 12 else 0
            body = file.read(length + 4)
            if len(header) < 12 or len(body) < length + 4:
                raise ValueError(f"{path}: record {number}: the file is truncated.")
            yield body[:length]
