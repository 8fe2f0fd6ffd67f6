"""The HTTP of the REST interface, by aiohttp in the event loop: bodies, limits, connections."""

import asyncio
import contextlib
import json
import logging
import socket
import time
import zlib
from typing import Any

from aiohttp import web

from .. import metrics
from ..lifecycle.models import Models
from ..protocol.errors import HTTP_STATUS, INTERNAL, RequestError
from ..protocol.memory import MAX_MEMORY
from ..servable.batching import deadline
from .rest import answer
from .room import Room

ANSWER_SECONDS = 30.0
"""How long the model may take for a request, its wait included: the real server's default."""
_MAX_BODY, _MAX_UNZIPPED = MAX_MEMORY // 2, MAX_MEMORY // 3  # zlib has twice what it unzips
_MAX_MESSAGE = 2000
_SECONDS, _LAST_SECONDS = 60.0, 1.0
_SPARE_CONNECTIONS = 128
_log = logging.getLogger(__name__)
_http_log = _log.getChild("http")
_http_log.setLevel(logging.CRITICAL)  # anybody can send what is no HTTP


class RestServer:
    """Answers requests over HTTP. Made and closed in any thread; started and stopped in the event loop.

    Head and body of a request may take a minute each, and so may a client that reads nothing of its answer.

    Beyond `max_requests` under way POST requests are refused (429), and their bodies not kept. There may be 128 more
    connections than that, for status, metadata and metrics; those beyond get a 503. The other arguments are `Server`'s.

    Raises:
        OSError: If the port is taken.
    """

    def __init__(self, host: str, port: int, models: Models, max_requests: int, metrics_path: str | None) -> None:
        self._models, self._metrics_path, self._room = models, metrics_path, Room(max_requests, models.metrics, "REST")
        self._max_connections = max_requests + _SPARE_CONNECTIONS
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.create_server((host, port), family=family, dualstack_ipv6=":" in host, backlog=128)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # the kernel ends a connection whose client does not read
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(_SECONDS * 1000))
        self.port: int = self._socket.getsockname()[1]

    async def start(self) -> None:
        """Begins to answer."""
        app = web.Application(client_max_size=_MAX_BODY)
        app.router.add_route("*", "/{path:.*}", self._respond)
        self._runner = web.AppRunner(
            app,
            access_log=None,
            auto_decompress=False,  # it would be the loop that unzips
            keepalive_timeout=_SECONDS,
            lingering_time=_SECONDS,
            logger=_http_log,
            shutdown_timeout=_LAST_SECONDS,
        )
        await self._runner.setup()
        self._server: Any = self._runner.server
        self._listener = await asyncio.get_running_loop().create_server(self._connect, sock=self._socket)

    async def stop(self, grace: float) -> None:
        """Takes no new requests, and finishes those under way within so many seconds."""
        self._listener.close()
        end = time.monotonic() + grace
        await self._room.close(grace)
        transports = [each.transport for each in self._server.connections if each.transport]
        await self._runner.cleanup()
        while any(each.get_write_buffer_size() for each in transports) and time.monotonic() < end:
            await asyncio.sleep(0.01)

    def close(self) -> None:
        """Gives the port back. Instead of `start`."""
        self._socket.close()

    def _connect(self) -> asyncio.Protocol:
        is_full = len(self._server.connections) >= self._max_connections
        return _Full() if is_full else self._server()

    async def _respond(self, request: web.Request) -> web.Response:
        url = request.rel_url
        deadline.set(time.monotonic() + ANSWER_SECONDS)
        if url.raw_path == self._metrics_path:
            return web.Response(body=self._models.metrics.text(), headers={"Content-Type": metrics.CONTENT_TYPE})
        with contextlib.ExitStack() as stack:
            body, room = await self._read(request, stack) if request.method == "POST" else (b"", MAX_MEMORY)
            try:
                status, content = 200, await answer(self._models, request.method, url.raw_path_qs, body, room)
            except Exception as error:
                if not hasattr(error, "code"):
                    _log.exception("a request failed")
                status = HTTP_STATUS.get(getattr(error, "code", INTERNAL), 500)
                content = json.dumps({"error": str(error)[:_MAX_MESSAGE]}).encode()
        return web.Response(body=content, status=status, content_type="application/json")

    async def _read(self, request: web.Request, stack: contextlib.ExitStack) -> tuple[bytes | RequestError, int]:
        """The body, or why it is refused, and the memory left beside it; it is under way until `stack` is closed."""
        try:
            stack.enter_context(self._room.enter(request.content_length or 0))
            async with asyncio.timeout(_SECONDS):
                body = await request.read()
            if "gzip" not in request.headers.get("Content-Encoding", ""):
                return body, MAX_MEMORY
            body = await asyncio.to_thread(_unzip, body)
            return body, MAX_MEMORY - len(body)
        except RequestError as error:
            return error, 0
        except TimeoutError as error:
            raise web.HTTPRequestTimeout from error


class _Full(asyncio.Protocol):
    """What a connection beyond the bound gets."""

    def connection_made(self, transport: Any) -> None:
        transport.write(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        transport.close()


def _unzip(body: bytes) -> bytes:
    unzip = zlib.decompressobj(wbits=31)
    with contextlib.suppress(zlib.error):
        content = unzip.decompress(body, _MAX_UNZIPPED)
        if unzip.eof:
            return content
    raise RequestError(f"The body is not in gzip's format, or has more than {_MAX_UNZIPPED} bytes once it is unzipped.")
