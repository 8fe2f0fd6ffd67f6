"""The embedded model server: TensorFlow Serving's gRPC and REST interfaces over base paths of version folders."""

import contextlib
import functools
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from .config.batching_parameters import BatchingParameters
from .config.model_config import ModelConfig
from .config.monitoring import PATH
from .interfaces import grpc_services
from .interfaces.event_loop import wait_for
from .interfaces.plain_services import PlainServices
from .interfaces.reflection import add_reflection
from .interfaces.rest import RestServer
from .lifecycle.models import Models
from .protocol import messages
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
        metrics_path: Where Prometheus reads on the REST port (`monitoring.read_metrics_path`); None: nowhere.
        reuse_port: Share the gRPC port with other processes that do: each gets some of the connections. Python answers
            on one core per process.

    Attributes:
        grpc_port: The port listened on.
        rest_port: The port listened on, if any.
        models: What answers.

    Raises:
        ValueError: If a model has no version folder, or none that can be loaded.
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
        metrics_path: str | None = PATH,
        reuse_port: bool = False,
    ) -> None:
        if max_requests < 1:
            raise ValueError(f"`max_requests` must be at least 1. Received: max_requests={max_requests}")
        self.host, self.grpc_port, self.rest_port = host, grpc_port, rest_port
        configs = [ModelConfig("default", Path(models))] if isinstance(models, str | os.PathLike) else models
        self.models = Models(configs, poll_seconds, functools.partial(load_servable, batching=batching)).start()
        try:
            self._listen(credentials, max_requests, metrics_path, reuse_port)
        except BaseException:
            self.models.close()
            raise

    def _listen(
        self,
        credentials: grpc.ServerCredentials | None,
        max_requests: int,
        metrics_path: str | None,
        reuse_port: bool,
    ) -> None:
        self._rest = None
        if self.rest_port is not None:
            self._rest = RestServer(self.host, self.rest_port, self.models, max_requests, metrics_path)
        try:
            wait_for(self._listen_to_grpc(credentials, max_requests, reuse_port))
        except RuntimeError as error:
            if self._rest is not None:
                self._rest.server_close()
            raise OSError(f"cannot listen on gRPC port {self.grpc_port} of {self.host}: {error}") from error

    async def _listen_to_grpc(
        self, credentials: grpc.ServerCredentials | None, max_requests: int, reuse_port: bool
    ) -> None:
        self._room = grpc_services.Room(max_requests)
        self._grpc = grpc.aio.server(
            handlers=grpc_services.handlers(self.models, self._room),
            # By default gRPC shares its port, and a second server would get half of the requests instead of an error.
            options=[*_OPTIONS, ("grpc.so_reuseport", int(reuse_port))],
        )
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, PlainServices(self._grpc))
        add_reflection(PlainServices(self._grpc))
        address = f"{self.host}:{self.grpc_port}"
        if credentials is None:
            self.grpc_port = self._grpc.add_insecure_port(address)
        else:
            self.grpc_port = self._grpc.add_secure_port(address, credentials)

    def start(self) -> Self:
        """Begins to answer; returns at once."""
        if self._rest is not None:
            self.rest_port = self._rest.server_port
            threading.Thread(target=self._rest.serve_forever, args=(0.1,), name="rest", daemon=True).start()
        wait_for(self._start_grpc())
        return self

    async def _start_grpc(self) -> None:
        for service in HEALTH_SERVICES:
            await self._health.set(service, health_pb2.HealthCheckResponse.SERVING)
        await self._grpc.start()

    def stop(self, grace: float = 10.0) -> None:
        """Takes no new requests, finishes those under way, releases the models. After `start`.

        Args:
            grace: Seconds that gRPC requests under way may still take; those left then are cancelled.
        """
        wait_for(self._stop_grpc(grace))
        if self._rest is not None:
            self._rest.shutdown()
            self._rest.server_close()
        self.models.close()

    async def _stop_grpc(self, grace: float) -> None:
        await self._health.enter_graceful_shutdown()
        await self._room.close(grace)
        await self._grpc.stop(_LAST_SECONDS)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def __str__(self) -> str:
        rest = "" if self.rest_port is None else f", REST on {self.host}:{self.rest_port}"
        served = "; ".join(f"model {name}, version {_listed(v)}" for name, v in self.models.available().items())
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
    with _stop_signals() as wait_for_one, Server(models, grpc_port=grpc_port, **options) as server:
        if on_ready is not None:
            on_ready(server)
        wait_for_one()


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers)) or "none"


@contextlib.contextmanager
def _stop_signals() -> Iterator[Callable[[], None]]:
    """Catches SIGTERM and SIGINT; yields a function that waits for one.

    The kernel may hand a signal to any thread, TensorFlow's and gRPC's too, and then nothing wakes a main thread that
    waits. So the wait is for the byte that Python's C handler writes, in whichever thread it runs.
    """
    receive, send = socket.socketpair()
    send.setblocking(False)
    stop = (signal.SIGTERM, signal.SIGINT)
    handlers = {number: signal.signal(number, lambda *_: None) for number in stop}
    descriptor = signal.set_wakeup_fd(send.fileno())

    def wait() -> None:
        while receive.recv(1)[0] not in stop:
            pass

    try:
        yield wait
    finally:
        signal.set_wakeup_fd(descriptor)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        receive.close()
        send.close()
