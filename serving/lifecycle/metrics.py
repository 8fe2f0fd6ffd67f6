"""What a server counts, for Prometheus, under the names of tensorflow_model_server."""

import asyncio
import contextlib
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import grpc
from prometheus_client import CollectorRegistry, Histogram, Metric, generate_latest
from prometheus_client.registry import Collector

from ..protocol.errors import GRPC_STATUS, INTERNAL

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OTHER = "other"
"""Stands for the names of models that a server does not have: a client could send any number of them."""

# As in the real server: from 10 microseconds, each 1.8 times the one before, in six digits.
_BUCKETS = [float(f"{10 * 1.8**k:.6g}") for k in range(33)]


class Metrics:
    """Requests by model and status, how long those that succeeded took, and the versions that were loaded."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = self._counter(":tensorflow:serving:request_count", "Requests.", ("model_name", "status"))
        self._latency = Histogram(
            ":tensorflow:serving:request_latency",
            "Microseconds from a request's message to its answer, of the requests that succeeded.",
            ("model_name", "API", "entrypoint"),
            buckets=_BUCKETS,
            registry=self._registry,
        )
        self._loads = self._counter(
            ":tensorflow:cc:saved_model:load_attempt_count", "Versions loaded or not.", ("model_path", "status")
        )
        self._load_latency = self._counter(
            ":tensorflow:cc:saved_model:load_latency", "Microseconds to load and warm a version.", ("model_path",)
        )

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
            self._requests.add((model, status.name))
            raise
        except asyncio.CancelledError:  # its deadline has passed, or its client has gone
            self._requests.add((model, "CANCELLED"))
            raise
        self._requests.add((model, "OK"))
        self._latency.labels(model, api, entrypoint).observe(_microseconds_since(start))

    @contextlib.contextmanager
    def load(self, directory: Path) -> Iterator[None]:
        """Counts what is done meanwhile as an attempt to load a version folder, which fails with any exception."""
        start, path = time.perf_counter(), str(directory)
        try:
            yield
        except Exception:
            self._loads.add((path, "fail"))
            raise
        self._loads.add((path, "success"))
        self._load_latency.add((path,), round(_microseconds_since(start)))

    def text(self) -> bytes:
        """All figures in Prometheus's text format."""
        return generate_latest(self._registry)

    def _counter(self, name: str, what: str, labels: tuple[str, ...]) -> "_Counts":
        counts = _Counts(name, what, labels)
        self._registry.register(counts)
        return counts


def _microseconds_since(start: float) -> float:
    return (time.perf_counter() - start) * 1e6


class _Counts(Collector):
    """A counter by labels. prometheus_client's own would add `_total` to the name, which the real server has not."""

    def __init__(self, name: str, what: str, labels: tuple[str, ...]) -> None:
        self._name, self._what, self._labels = name, what, labels
        self._counts: Counter[tuple[str, ...]] = Counter()
        self._lock = threading.Lock()

    def add(self, values: tuple[str, ...], count: int = 1) -> None:
        """Counts, with these values of the labels."""
        with self._lock:
            self._counts[values] += count

    def collect(self) -> Iterable[Metric]:
        """The counts, as prometheus_client takes them."""
        metric = Metric(self._name, self._what, "unknown")
        with self._lock:
            for values, count in sorted(self._counts.items()):
                metric.add_sample(self._name, dict(zip(self._labels, values, strict=True)), count)
        return [metric]
