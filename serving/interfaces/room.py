"""The bound on what a server has under way at a time."""

import asyncio
import contextlib
import math
import time
from collections.abc import Iterator

from ..metrics import Metrics
from ..protocol.errors import RESOURCE_EXHAUSTED, UNAVAILABLE, RequestError

MAX_BYTES = 256 << 20
"""Bytes of all requests under way."""
_READING_SECONDS = 0.2


class Room:
    """For so many requests for inference at a time, until it is closed. For one event loop.

    The metrics are told how many are under way by an entrypoint, `GRPC` or `REST`.
    """

    def __init__(self, size: int, metrics: Metrics, entrypoint: str) -> None:
        self._size = size
        metrics.in_flight.labels(entrypoint).set_function(lambda: self._count)
        self._count = self._bytes = 0
        self._closed, self._last_exit = False, -math.inf

    @contextlib.contextmanager
    def enter(self, num_bytes: int) -> Iterator[None]:
        """Takes room for a request meanwhile.

        Raises:
            RequestError: If there is none, or the server is about to stop.
        """
        if self._closed:
            raise RequestError("The server is about to stop.", UNAVAILABLE)
        if self._count == self._size or (self._bytes + num_bytes > MAX_BYTES and self._count):
            received = f"{self._count} requests of {self._bytes} bytes are under way"
            bounds = f"{self._size} and {MAX_BYTES} bytes are the bounds"
            raise RequestError(f"{received}; {bounds}.", RESOURCE_EXHAUSTED)
        self._count, self._bytes = self._count + 1, self._bytes + num_bytes
        try:
            yield
        finally:
            self._count, self._bytes = self._count - 1, self._bytes - num_bytes
            self._last_exit = time.monotonic()

    async def close(self, seconds: float) -> None:
        """Lets no more in, and waits until all have left and their answers been read, so many seconds at most."""
        self._closed, end = True, time.monotonic() + seconds
        while self._count and time.monotonic() < end:
            await asyncio.sleep(0.01)
        # A connection that gRPC closes before its client has read it all may be reset.
        await asyncio.sleep(max(0.0, min(end, self._last_exit + _READING_SECONDS) - time.monotonic()))
