"""What a server counts, for Prometheus, under the names of tensorflow_model_server where it has them."""

import asyncio
import contextlib
import functools
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import grpc
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from .protocol.errors import GRPC_STATUS, INTERNAL

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OTHER = "other"
"""Stands for the names of models that a server does not have: a client could send any number of them."""

# The real server's: the first limit, the factor from each to the next, their number; in six digits.
_MICROSECONDS = [float(f"{10 * 1.8**k:.6g}") for k in range(33)]
_QUEUING = [float(f"{100 * 1.2**k:.6g}") for k in range(52)]
_ROWS = [float(2**k) for k in range(14)]
_SUFFIX = re.compile(rb"^((?:# \w+ )?[\w:]+)_total\b", re.MULTILINE)
_CREATED = re.compile(rb"^(?:# \w+ )?[\w:]+_created\b.*\n", re.MULTILINE)


class Metrics:
    """Requests by model, version and status, their times, batches, and the versions that were loaded.

    Attributes:
        in_flight: Requests under way, by interface.
        queued_rows: Rows that wait to be merged.
    """

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        serving = ":tensorflow:serving:"
        by_api = ("model_name", "API", "entrypoint")
        self._requests = Counter(f"{serving}request_count", "Requests.", ("model_name", "status"), registry=registry)
        self._latency = Histogram(
            f"{serving}request_latency",
            "Microseconds from a request's message to its answer, of the requests that succeeded.",
            by_api,
            buckets=_MICROSECONDS,
            registry=registry,
        )
        self._runtime = Histogram(
            f"{serving}runtime_latency",
            "Microseconds that the model took for a request, its wait in a queue included.",
            ("model_name", "API", "runtime"),
            buckets=_MICROSECONDS,
            registry=registry,
        )
        self._queuing = Histogram(
            f"{serving}batching_session:queuing_latency",
            "Microseconds that a request waited to be merged.",
            buckets=_QUEUING,
            registry=registry,
        )
        self._batches = Histogram(
            f"{serving}batching_session:processed_batch_size",
            "Rows of a batch, padding included.",
            buckets=_ROWS,
            registry=registry,
        )
        loading = ":tensorflow:cc:saved_model:"
        self._loads = Counter(
            f"{loading}load_attempt_count", "Versions loaded or not.", ("model_path", "status"), registry=registry
        )
        self._load_latency = Counter(
            f"{loading}load_latency", "Microseconds to load and warm a version.", ("model_path",), registry=registry
        )
        self._versions = Counter(
            ":c2al:serving:version_request_count",
            "Inferences that succeeded, by the version that answered.",
            ("model_name", "version", "API"),
            registry=registry,
        )
        self.in_flight = Gauge(
            ":c2al:serving:requests_in_flight", "Inferences under way.", ("entrypoint",), registry=registry
        )
        self.queued_rows = Gauge(":c2al:serving:queued_rows", "Rows that wait to be merged.", registry=registry)

        self._of = functools.lru_cache(4096)(lambda metric, *labels: metric.labels(*labels))

    @contextlib.contextmanager
    def request(self, model: str, api: str, entrypoint: str) -> Iterator[None]:
        """Counts what is done meanwhile as one request, with the status of the ValueError that it ends in, if any.

        Args:
            model: The model's name.
            api: The method, such as `Predict`.
            entrypoint: `GRPC` or `REST`.
        """
        start = time.perf_counter()
        try:
            yield
        except ValueError as error:
            status = GRPC_STATUS.get(getattr(error, "code", INTERNAL), grpc.StatusCode.UNKNOWN)
            self._of(self._requests, model, status.name).inc()
            raise
        except asyncio.CancelledError:  # its deadline has passed, or its client has gone
            self._of(self._requests, model, "CANCELLED").inc()
            raise
        self._of(self._requests, model, "OK").inc()
        self._of(self._latency, model, api, entrypoint).observe(_microseconds_since(start))

    @contextlib.contextmanager
    def inference(self, model: str, version: int, api: str) -> Iterator[None]:
        """Counts what is done meanwhile as the model's part of a request, unless it fails."""
        start = time.perf_counter()
        yield
        self._of(self._runtime, model, api, "TF1").observe(_microseconds_since(start))
        self._of(self._versions, model, version, api).inc()

    def batch(self, size: int, waits: Sequence[float]) -> None:
        """Counts a batch of so many rows, for requests that waited so many seconds each."""
        self._batches.observe(size)
        for wait in waits:
            self._queuing.observe(1e6 * wait)

    @contextlib.contextmanager
    def load(self, directory: Path) -> Iterator[None]:
        """Counts what is done meanwhile as an attempt to load a version folder, which fails with any exception."""
        start, path = time.perf_counter(), str(directory)
        try:
            yield
        except Exception:
            self._loads.labels(path, "fail").inc()
            raise
        self._loads.labels(path, "success").inc()
        self._load_latency.labels(path).inc(round(_microseconds_since(start)))

    def text(self) -> bytes:
        """All metrics in Prometheus's text format. Counters have no suffix, as in the real server."""
        return _SUFFIX.sub(rb"\1", _CREATED.sub(b"", generate_latest(self._registry)))


def _microseconds_since(start: float) -> float:
    return (time.perf_counter() - start) * 1e6
