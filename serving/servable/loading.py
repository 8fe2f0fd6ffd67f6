"""Loads a version of a model and replays its warm-up requests, so that the first client does not wait."""

import functools
import logging
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError

from c2al_tf.protocol.messages import PredictionLog
from c2al_tf.protocol.tensors import from_proto
from c2al_tf.saved_model import DEFAULT_SIGNATURE
from c2al_tf.storage import drop_copies, pull

from ..protocol.errors import UNIMPLEMENTED, RequestError
from .inference import READERS
from .servable import Servable

WARMUP_FILE = "assets.extra/tf_serving_warmup_requests"
MAX_REQUESTS = 1000
"""The limit of tensorflow_model_server."""

_log = logging.getLogger(__name__)


def load_servable(name: str, version: int, directory: Path, **options: Any) -> Servable:
    """Loads a version folder and replays its `assets.extra/tf_serving_warmup_requests`; the arguments are `Servable`'s.

    Raises:
        ValueError: If the model cannot be loaded, `read_warmup_logs` refuses the warm-up file, or the model refuses one
            of its requests.
    """
    started = time.monotonic()
    drop_copies(pull(directory).parent, before=version)
    servable = Servable(name, version, directory, **options)
    try:
        num_requests = 0
        for log in read_warmup_logs(directory):
            _replay(servable, log)
            num_requests += 1
    except BaseException:
        servable.close()
        raise
    seconds = time.monotonic() - started
    _log.info("loaded %s version %d in %.1f s, %d warm-up requests", name, version, seconds, num_requests)
    return servable


def _replay(servable: Servable, log: Any) -> None:
    """Answers a request in this thread instead of the event loop: a model's first call takes long."""
    kind = log.WhichOneof("log_type")
    request = getattr(log, kind).request
    if kind in READERS:
        inputs, outputs, respond = READERS[kind](servable, request)
        respond(servable.model.run_together(inputs, outputs))
    else:
        signature = request.model_spec.signature_name or DEFAULT_SIGNATURE
        # All outputs, as the batcher asks for: TensorFlow prepares each set of outputs separately.
        servable.model.run({name: from_proto(tensor) for name, tensor in request.inputs.items()}, signature)


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
        elif kind == "predict_log" or kind in READERS:
            yield log
        else:
            raise RequestError(f"{path}: record {number}: Unsupported log_type for warmup: {kind}", UNIMPLEMENTED)


def _read_records(path: Path) -> Iterator[bytes]:
    """TFRecord framing: length (8 bytes), its checksum (4), the record, its checksum (4)."""
    with path.open("rb") as file:
        for number, header in enumerate(iter(functools.partial(file.read, 12), b""), start=1):
            length = struct.unpack("<Q", header[:8])[0] if len(header) == 12 else 0
            body = file.read(length + 4)
            if len(header) < 12 or len(body) < length + 4:
                raise ValueError(f"{path}: record {number}: the file is truncated.")
            yield body[:length]
