"""Loads a version of a model and replays its warm-up requests, so that the first client does not wait."""

import logging
import time
from pathlib import Path

from ..config.batching_parameters import BatchingParameters
from . import inference
from .servable import Servable
from .warmup import read_warmup_logs

_READERS = {
    "classify_log": inference.classify,
    "regress_log": inference.regress,
    "multi_inference_log": inference.multi_inference,
}
_log = logging.getLogger(__name__)


def load_servable(name: str, version: int, directory: Path, batching: BatchingParameters | None = None) -> Servable:
    """Loads a version folder and replays its `assets.extra/tf_serving_warmup_requests`.

    Args:
        name: Name that requests call it by.
        version: Its number.
        directory: The version folder.
        batching: How requests are merged; None: they are not.

    Raises:
        ValueError: If the model cannot be loaded, `read_warmup_logs` refuses the warm-up file, or the model refuses one
            of its requests.
    """
    started = time.monotonic()
    servable = Servable(name, version, directory, batching)
    try:
        num_requests = _warm_up(servable, directory)
    except BaseException:
        servable.close()
        raise
    seconds = time.monotonic() - started
    _log.info("loaded %s version %d in %.1f s, %d warm-up requests", name, version, seconds, num_requests)
    return servable


def _warm_up(servable: Servable, directory: Path) -> int:
    count = 0
    for log in read_warmup_logs(directory):
        kind = log.WhichOneof("log_type")
        request = getattr(log, kind).request
        if kind == "predict_log":
            servable.warm_up(request)
        else:
            # In this thread instead of the event loop: a model's first call takes long.
            inputs, outputs, respond = _READERS[kind](servable, request)
            respond(servable.model.run_together(inputs, outputs))
        count += 1
    return count
