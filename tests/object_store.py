"""An S3 server of its own on the loopback address, and between it and us what a network does."""

import asyncio
import socket
import sys
import threading
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from aiohttp import ClientSession, ClientTimeout, web

from c2al_tf.storage import objects


class Network:
    """Passes requests on to an S3 server, and keeps them in `requests`.

    `meddle(method, path)` may return what becomes of one: a status that it is answered with, or how many bytes of the
    answer arrive before the connection is cut.
    """

    def __init__(self, target: str) -> None:
        self.target, self.requests = target, list[tuple[str, str]]()
        self.meddle: Callable[[str, str], dict[str, int] | None] = lambda method, path: None
        self.delay = 0.0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.url = asyncio.run_coroutine_threadsafe(self._start(), self._loop).result()

    async def _start(self) -> str:
        self._session = ClientSession(auto_decompress=False, timeout=ClientTimeout(300))
        app = web.Application(client_max_size=1 << 32)
        app.router.add_route("*", "/{path:.*}", self._pass_on)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        return f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def _pass_on(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((request.method, request.path))
        await asyncio.sleep(self.delay)
        fate = self.meddle(request.method, request.path) or {}
        if "status" in fate:
            return web.Response(status=fate["status"])
        headers = {name: value for name, value in request.headers.items() if name.lower() != "transfer-encoding"}
        sent = self._session.request(
            request.method, f"{self.target}{request.raw_path}", headers=headers, data=await request.read()
        )
        async with sent as answer:
            body = await answer.read()
            kept = {k: v for k, v in answer.headers.items() if k.lower() not in ("transfer-encoding", "connection")}
            if "bytes" in fate:
                begun = web.StreamResponse(status=answer.status, headers=kept)
                await begun.prepare(request)
                await begun.write(body[: fate["bytes"]])
                request.transport.abort()
                return begun
            if request.method != "HEAD":
                kept["Content-Length"] = str(len(body))
            return web.Response(status=answer.status, body=body, headers=kept)

    def close(self) -> None:
        async def stop() -> None:
            await self._runner.cleanup()
            await self._session.close()

        asyncio.run_coroutine_threadsafe(stop(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@pytest.fixture(scope="session")
def s3_server(start_process, until) -> Iterator[str]:
    """moto's server, in a process of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def answers() -> bool:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/moto-api/", timeout=10).close()
        except OSError:
            return False
        return True

    code = "import sys; from moto.server import main; main(sys.argv[1:])"
    with start_process([sys.executable, "-c", code, "-H", "127.0.0.1", "-p", port], stdout=-3, stderr=-3):
        until(answers)
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def network(s3_server: str) -> Iterator[Network]:
    network = Network(s3_server)
    yield network
    network.close()


@pytest.fixture
def bucket(network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of an empty bucket; copies are in a folder of the test's."""
    from pyarrow.fs import S3FileSystem

    for name, value in {
        "AWS_ACCESS_KEY_ID": "any",
        "AWS_SECRET_ACCESS_KEY": "any",
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": network.url,
        "AWS_EC2_METADATA_DISABLED": "true",
        "C2AL_CACHE": str(tmp_path / "cache"),
    }.items():
        monkeypatch.setenv(name, value)
    objects._file_system.cache_clear()
    name = f"bucket-{uuid.uuid4().hex[:12]}"
    S3FileSystem(endpoint_override=network.url, allow_bucket_creation=True).create_dir(name)
    return f"s3://{name}"


@pytest.fixture
def another_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From now on copies are elsewhere: none is there."""

    def move() -> None:
        monkeypatch.setenv("C2AL_CACHE", str(tmp_path / f"cache-{uuid.uuid4().hex[:6]}"))

    return move


@pytest.fixture
def upload(bucket: str, s3_server: str) -> Callable[[Path, str], str]:
    """Puts a file or folder under a name into the bucket, as another tool would; returns its URL."""

    def put(path: Path, name: str) -> str:
        files = [each for each in sorted(path.rglob("*")) if each.is_file()] if path.is_dir() else [path]
        url = f"{bucket}/{name}"
        for file in files:
            key = f"{url}/{file.relative_to(path).as_posix()}" if path.is_dir() else url
            place = f"{s3_server}/{urllib.parse.quote(key.removeprefix('s3://'))}"
            # By this moto knows which of Amazon's services is meant; it checks no signature.
            signed = {
                "Authorization": "AWS4-HMAC-SHA256 Credential=any/20261128/us-east-1/s3/aws4_request",
                "Content-Type": "application/octet-stream",
            }
            request = urllib.request.Request(place, file.read_bytes(), signed, method="PUT")
            urllib.request.urlopen(request, timeout=60).close()
        return url

    return put
