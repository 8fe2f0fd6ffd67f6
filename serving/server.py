"""The embedded model server: TensorFlow Serving's gRPC and REST interfaces over base paths of version folders."""

import asyncio
import contextlib
import functools
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Self

import grpc.aio
from grpc_health.v1 import health, health_pb2

from c2al_tf.protocol import messages
from c2al_tf.storage import local_path

from .config.batching_parameters import BatchingParameters
from .config.model_config import ModelConfig
from .config.monitoring import PATH
from .interfaces import grpc_services
from .interfaces.event_loop import wait_for
from .interfaces.plain_services import add_plain_services
from .interfaces.rest_server import RestServer
from .interfaces.room import Room
from .lifecycle.models import Models
from .servable.loading import load_servable

MAX_REQUESTS = 1024
"""Requests under way or waiting, unless told otherwise."""

HEALTH_SERVICES = ("", "PredictionService", "ModelService", messages.PREDICTION_SERVICE, messages.MODEL_SERVICE)
"""What the health service is asked for: the short names are tensorflow_model_server's."""

_LAST_SECONDS = 1.0
"""For what is no inference, such as a client that watches the server's health."""

_OPTIONS = [
    ("grpc.max_receive_message_length", grpc_services.MAX_MESSAGE),
    # A compressed request of kilobytes could be gigabytes long: only uncompressed ones are taken.
    ("grpc.compression_enabled_algorithms_bitset", 1),
    ("grpc.max_send_message_length", -1),
    # What a connection has beyond this waits at its client, and costs nothing here if it is given up there.
    ("grpc.max_concurrent_streams", 256),
    # Else gRPC drops what waits beyond 1,000, and clients see CANCELLED; `max_requests` is what refuses here.
    ("grpc.server.max_pending_requests", 2**31 - 1),
    ("grpc.server.max_pending_requests_hard_limit", 2**31 - 1),
]


class Server:
    """Serves models, and the versions of them that come and go. A context manager.

    Ports open after every model has a version that is loaded and warmed.

    Args:
        models: A base path, a folder with version folders (`1`, `2`, ...) whose largest number is served as `default`;
            or models with names, policies and labels (`read_model_configs` reads files in tensorflow_model_server's
            format).
        grpc_port: Port of the gRPC interface; 0 for a free one.
        rest_port: Port of the REST interface; 0 for a free one, none for no such interface.
        host: Address to listen on; `0.0.0.0` for all.
        poll_seconds: Seconds between two looks at the base paths. None: versions change by requests alone.
        credentials: TLS of the gRPC interface (`tls.read_server_credentials`); none for plain text.
        max_requests: Requests for inference under way or waiting, of gRPC and again of REST; beyond it they are refused
            (RESOURCE_EXHAUSTED, 429).
        batching: How requests are merged (`batching_parameters.read_batching_parameters`); None: they are not.
        num_threads: Threads that work on one call of a model: more are faster for large batches.
        metrics_path: Where Prometheus reads on the REST port (`monitoring.read_metrics_path`); None: nowhere.
        reuse_port: Share the gRPC port with other processes that do: each gets some of the connections. Python answers
            on one core per process.
        reloads: Whether requests may change the models.
        channel_arguments: Further arguments of gRPC's core, such as `grpc.max_connection_age_ms`.
        lifecycle: What else `Models` takes: `retries`, `retry_seconds`, `allow_unavailable_labels`, `stopping`.

    Attributes:
        grpc_port: The port listened on.
        rest_port: The port listened on, if any.
        models: What answers.

    Raises:
        ValueError: If a version cannot be loaded, or a label may not be set.
        OSError: If a port is taken.
    """

    def __init__(
        self,
        models: str | os.PathLike[str] | Sequence[ModelConfig],
        *,
        grpc_port: int = 0,
        rest_port: int | None = None,
        host: str = "127.0.0.1",
        poll_seconds: float | None = 1.0,
        credentials: grpc.ServerCredentials | None = None,
        max_requests: int = MAX_REQUESTS,
        batching: BatchingParameters | None = None,
        num_threads: int = 1,
        metrics_path: str | None = PATH,
        reuse_port: bool = False,
        reloads: bool = True,
        channel_arguments: Mapping[str, int | str] = MappingProxyType({}),
        **lifecycle: Any,
    ) -> None:
        if max_requests < 1:
            raise ValueError(f"`max_requests` must be at least 1. Received: max_requests={max_requests}")
        self.host, self.grpc_port, self.rest_port = host, grpc_port, rest_port
        configs = [ModelConfig("default", local_path(models))] if isinstance(models, str | os.PathLike) else models
        load = functools.partial(load_servable, batching=batching, num_threads=num_threads)
        self.models = Models(configs, poll_seconds, load, **lifecycle).start()
        # By default gRPC shares its port, and a second server would get half of the requests instead of an error.
        options = [*_OPTIONS, ("grpc.so_reuseport", int(reuse_port)), *channel_arguments.items()]
        self._room = Room(max_requests, self.models.metrics, "GRPC")
        self._rest = None
        with contextlib.ExitStack() as undo:
            undo.callback(self.models.close)
            if rest_port is not None:
                self._rest = RestServer(host, rest_port, self.models, max_requests, metrics_path)
                self.rest_port = undo.enter_context(contextlib.closing(self._rest)).port
            try:
                wait_for(self._listen(options, credentials, reloads))
            except RuntimeError as error:
                raise OSError(f"cannot listen on gRPC port {grpc_port} of {host}: {error}") from error
            undo.pop_all()

    async def _listen(
        self, options: Sequence[tuple[str, Any]], credentials: grpc.ServerCredentials | None, reloads: bool
    ) -> None:
        handlers = grpc_services.handlers(self.models, self._room, reloads)
        self._grpc = grpc.aio.server(handlers=handlers, options=options)
        self._health = health.aio.HealthServicer()
        add_plain_services(self._grpc, self._health)
        address = f"[{self.host}]:{self.grpc_port}" if ":" in self.host else f"{self.host}:{self.grpc_port}"
        if credentials is None:
            self.grpc_port = self._grpc.add_insecure_port(address)
        else:
            self.grpc_port = self._grpc.add_secure_port(address, credentials)

    def start(self) -> Self:
        """Begins to answer; returns at once."""
        wait_for(self._start())
        return self

    async def _start(self) -> None:
        if self._rest is not None:
            await self._rest.start()
        for service in HEALTH_SERVICES:
            await self._health.set(service, health_pb2.HealthCheckResponse.SERVING)
        await self._grpc.start()

    def stop(self, grace: float = 10.0) -> None:
        """Takes no new requests, finishes those under way, releases the models. After `start`.

        Args:
            grace: Seconds that requests under way may still take; those left then are cancelled.
        """
        wait_for(self._stop(grace))
        self.models.close()

    async def _stop(self, grace: float) -> None:
        await self._health.enter_graceful_shutdown()
        await asyncio.gather(self._stop_grpc(grace), *([self._rest.stop(grace)] if self._rest is not None else []))

    async def _stop_grpc(self, grace: float) -> None:
        await self._room.close(grace)
        await self._grpc.stop(_LAST_SECONDS)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *error: object) -> None:
        self.stop()

    def __str__(self) -> str:
        rest = "" if self.rest_port is None else f", REST on {self.host}:{self.rest_port}"
        listed = ((name, ", ".join(map(str, numbers)) or "none") for name, numbers in self.models.available().items())
        served = "; ".join(f"model {name}, version {numbers}" for name, numbers in listed)
        return f"{served}: gRPC on {self.host}:{self.grpc_port}{rest}"


def serve(
    models: str | os.PathLike[str] | Sequence[ModelConfig],
    *,
    grpc_port: int = 8500,
    on_ready: Callable[[Server], None] | None = None,
    **options: Any,
) -> None:
    """Serves until SIGTERM or SIGINT, then finishes the requests under way. For the main thread.

    Args:
        models: As `Server` takes them.
        grpc_port: Port of the gRPC interface; 0 for a free one.
        on_ready: Called once requests are answered.
        options: What else `Server` takes.
    """
    with (
        _stop_signals() as stopping,
        contextlib.suppress(InterruptedError),
        Server(models, grpc_port=grpc_port, stopping=stopping, **options) as server,
    ):
        if on_ready is not None:
            on_ready(server)
        stopping.wait()


@contextlib.contextmanager
def _stop_signals() -> Iterator[threading.Event]:
    """Catches SIGTERM and SIGINT: the event is set when one has come.

    The kernel may hand a signal to any thread, TensorFlow's and gRPC's too, and then nothing wakes a main thread that
    waits. So a thread waits for the byte that Python's C handler writes, in whichever thread it runs.
    """
    stop, stopping = (signal.SIGTERM, signal.SIGINT), threading.Event()
    receive, send = socket.socketpair()
    send.setblocking(False)
    handlers = {number: signal.signal(number, lambda *_: None) for number in stop}
    descriptor = signal.set_wakeup_fd(send.fileno())

    def watch() -> None:
        while (byte := receive.recv(1)) and byte[0] not in stop:
            pass
        stopping.set()

    watcher = threading.Thread(target=watch, name="signals", daemon=True)
    watcher.start()
    try:
        yield stopping
    finally:
        signal.set_wakeup_fd(descriptor)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        send.close()
        watcher.join()
        receive.close()
