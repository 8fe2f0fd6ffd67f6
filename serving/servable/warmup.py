"""Warm-up requests: a TFRecord file of PredictionLogs beside the model, replayed before it serves."""

import logging
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from google.protobuf.message import DecodeError

from ..protocol.errors import UNIMPLEMENTED, RequestError
from ..protocol.messages import PredictionLog
from . import inference

if TYPE_CHECKING:
    from .servable import Servable

WARMUP_FILE = "assets.extra/tf_serving_warmup_requests"
MAX_REQUESTS = 1000
"""What tensorflow_model_server accepts."""

_READERS = {
    "classify_log": inference.classify,
    "regress_log": inference.regress,
    "multi_inference_log": inference.multi_inference,
}
_log = logging.getLogger(__name__)


def warm_up(servable: "Servable", directory: Path) -> int:
    """Replays the warm-up file of a version folder; returns the number of requests.

    Raises:
        ValueError: What `read_warmup_logs` raises, and what the model says of a request.
    """
    count = 0
    for log in read_warmup_logs(directory):
        kind = log.WhichOneof("log_type")
        request = getattr(log, kind).request
        if kind == "predict_log":
            servable.warm_up(request)
        else:
            # Here, and not in the event loop: the first call takes long.
            inputs, outputs, response = _READERS[kind](servable, request)
            response(servable.model.run_together(inputs, outputs))
        count += 1
    return count


def read_warmup_logs(directory: Path) -> Iterator[Any]:
    """Yields the PredictionLogs of a version folder's warm-up file, if it has one; those without a request are skipped.

    Raises:
        ValueError: If the file is truncated, holds something else or too much, or a request that is not replayed
            (Predict, Classify, Regress and MultiInference are); the message names the record.
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
        elif kind == "predict_log" or kind in _READERS:
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
