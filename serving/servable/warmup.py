"""Reads the warm-up requests of a model: a TFRecord file of PredictionLogs beside it."""

import logging
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError

from ..protocol.errors import UNIMPLEMENTED, RequestError
from ..protocol.messages import PredictionLog

WARMUP_FILE = "assets.extra/tf_serving_warmup_requests"
MAX_REQUESTS = 1000
"""The limit of tensorflow_model_server."""

_KINDS = ("predict_log", "classify_log", "regress_log", "multi_inference_log")
_log = logging.getLogger(__name__)


def read_warmup_logs(directory: Path) -> Iterator[Any]:
    """Yields the PredictionLogs of a version folder's warm-up file, if it has one; those without a request are skipped.

    Raises:
        ValueError: If the file is truncated or too long, or a record is not a PredictionLog of a Predict, Classify,
            Regress or MultiInference request; the message names the record.
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
        kind = log.WhichOneof("log_type")
        if kind is None:
            _log.warning("%s: record %d skipped: it has no request", path, number)
        elif kind in _KINDS:
            yield log
        else:
            raise RequestError(f"{path}: record {number}: Unsupported log_type for warmup: {kind}", UNIMPLEMENTED)


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
