"""What a server counts, for Prometheus, under the names of tensorflow_model_server where it has them."""

import asyncio
import bisect
import contextlib
import functools
import re
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from pathlib import Path

import grpc
from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.utils import floatToGoString

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


class Histogram:
    """Values by labels, for Prometheus, whose own compares a value with one bucket after another: this one bisects.

    `limits` are the largest values of each bucket but the last.
    """

    def __init__(
        self, name: str, help: str, limits: Sequence[float], labels: Sequence[str], registry: CollectorRegistry
    ) -> None:
        self._family, self._limits = (name, help, labels), limits
        self._counts: dict[tuple[str, ...], list[int]] = {} if labels else {(): [0] * (len(limits) + 1)}
        self._sums: dict[tuple[str, ...], float] = {} if labels else {(): 0.0}
        self._lock = threading.Lock()
        registry.register(self)

    def observe(self, value: float, *labels: str) -> None:
        """Counts a value."""
        with self._lock:
            if labels not in self._counts:
                self._counts[labels], self._sums[labels] = [0] * (len(self._limits) + 1), 0.0
            self._counts[labels][bisect.bisect_left(self._limits, value)] += 1
            self._sums[labels] += value

    def collect(self) -> Iterable[HistogramMetricFamily]:
        """What `CollectorRegistry` asks for."""
        name, help, labels = self._family
        family = HistogramMetricFamily(name, help, labels=labels)
        limits = [*map(floatToGoString, self._limits), "+Inf"]
        with self._lock:
            for key, counts in self._counts.items():
                family.add_metric(key, list(zip(limits, accumulate(counts), strict=True)), self._sums[key])
        return [family]


class Metrics:
    """Requests by model, version and status, their times, batches, and the versions that were loaded.

    Attributes:
        in_flight: Requests under way, by interface.
        queued_rows: Rows that wait to be merged.
    """

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        serving, loading, own = ":tensorflow:serving:", ":tensorflow:cc:saved_model:", ":c2al:serving:"
        counter, gauge = functools.partial(Counter, registry=registry), functools.partial(Gauge, registry=registry)
        histogram = functools.partial(Histogram, registry=registry)
        self._requests = counter(f"{serving}request_count", "Requests.", ("model_name", "status"))
        help = "Microseconds from a request's message to its answer, of the requests that succeeded."
        method = ("model_name", "API")
        self._latency = histogram(f"{serving}request_latency", help, _MICROSECONDS, (*method, "entrypoint"))
        help = "Microseconds that the model took for a request, its wait in a queue included."
        self._runtime = histogram(f"{serving}runtime_latency", help, _MICROSECONDS, (*method, "runtime"))
        help, batching = "Microseconds that a request waited to be merged.", f"{serving}batching_session:"
        self._queuing = histogram(f"{batching}queuing_latency", help, _QUEUING, ())
        self._batches = histogram(f"{batching}processed_batch_size", "Rows of a batch, padding included.", _ROWS, ())
        self._loads = counter(f"{loading}load_attempt_count", "Versions loaded or not.", ("model_path", "status"))
        help = "Microseconds to load and warm a version."
        self._load_latency = counter(f"{loading}load_latency", help, ("model_path",))
        help = "Inferences that succeeded, by the version that answered."
        self._versions = counter(f"{own}version_request_count", help, ("model_name", "version", "API"))
        self.in_flight = gauge(f"{own}requests_in_flight", "Inferences under way.", ("entrypoint",))
        self.queued_rows = gauge(f"{own}queued_rows", "Rows that wait to be merged.")
        self._of = functools.lru_cache(4096)(lambda metric, *labels: metric.labels(*labels))

    @contextlib.contextmanager
    def request(self, model: str, api: str, entrypoint: str) -> Iterator[None]:
        """Counts what is done meanwhile as one request, with the status of the ValueError that it ends in, if any.

        Its `api` is a method, such as `Predict`, its `entrypoint` `GRPC` or `REST`.
        """
        start, status = time.perf_counter(), "UNKNOWN"
        try:
            yield
            status = "OK"
        except ValueError as error:
            status = GRPC_STATUS.get(getattr(error, "code", INTERNAL), grpc.StatusCode.UNKNOWN).name
            raise
        except asyncio.CancelledError:  # its deadline has passed, or its client has gone
            status = "CANCELLED"
            raise
        finally:
            self._of(self._requests, model, status).inc()
        self._latency.observe(_microseconds_since(start), model, api, entrypoint)

    def inference(self, model: str, version: int, api: str, start: float) -> None:
        """Counts the model's part of a request, which began at a time of `time.perf_counter`."""
        self._runtime.observe(_microseconds_since(start), model, api, "TF1")
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
