"""The event loop of all servers of this process, in a thread of its own: grpc.aio wants one loop."""

import asyncio
import functools
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def wait_for(coroutine: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine in the loop and waits for what it returns. For all other threads."""
    with _starting:
        loop = _loop()
    return asyncio.run_coroutine_threadsafe(coroutine, loop).result()


_starting = threading.Lock()


@functools.cache
def _loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="event-loop", daemon=True).start()
    return loop
