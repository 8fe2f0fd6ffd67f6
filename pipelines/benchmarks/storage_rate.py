"""From files in an object store to model inputs, beside the same files on the disk.

moto's S3 server answers on the loopback address, 20 ms after each request. Rows and files are those of `input_rate`.
No copy is there at the start of a pass. Server, network and reader share the processors: the store that answers at once
says how much of the figure is theirs.
"""

import asyncio
import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from c2al_tf.data.inputs.dataset import make_dataset
from c2al_tf.data.inputs.features import FeatureEncoder

from .input_rate import FORMATS, SCHEMA, seconds, write_rows
from .results import Result, alternate

NAME = "storage_rate"
DELAY = 0.02
GOAL = 0.9


def run(quick: bool) -> Iterator[Result]:
    """Rows per second from the store beside those from the disk."""
    rows, batch, rounds = (20_000, 512, 1) if quick else (500_000, 4096, 3)
    encoder = FeatureEncoder(SCHEMA)
    with tempfile.TemporaryDirectory() as name, _store(Path(name)) as (put, network):
        folder = Path(name)
        for suffix in FORMATS:
            write_rows(folder / suffix, suffix, rows)
            url = put(folder / suffix, suffix)

            def rate(place: Path | str, delay: float = 0.0) -> float:
                network.delay = delay
                shutil.rmtree(folder / "cache", ignore_errors=True)
                dataset = make_dataset(place, SCHEMA, batch, encoder=encoder, shuffle=True)
                return rows / seconds(dataset, lambda *batch: None)

            disk, at_once = "the same files on the disk", "the same store, which answers at once"
            measured = {
                "ours": partial(rate, url, DELAY),
                disk: partial(rate, folder / suffix),
                at_once: partial(rate, url),
            }
            alternate(measured, 1)
            found = alternate(measured, rounds)
            case = f"{suffix} to inputs, {rows / 1e6:g} M rows, {1000 * DELAY:g} ms a request"
            for peer in (disk, at_once):
                goal = None if quick else GOAL
                yield Result.of(NAME, case, found["ours"], found[peer], peer_name=peer, unit="rows/s", goal=goal)


@contextlib.contextmanager
def _store(folder: Path) -> "Iterator[tuple[partial[str], _Slow]]":
    """What puts a folder into a server, and the network before it; copies are in `folder / "cache"`."""
    port, code = _free_port(), "import sys; from moto.server import main; main(sys.argv[1:])"
    words = [sys.executable, "-c", code, "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    slow = _Slow(port)
    set_here = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{slow.port}",
        "AWS_ACCESS_KEY_ID": "any",
        "AWS_SECRET_ACCESS_KEY": "any",
        "AWS_REGION": "us-east-1",
        "C2AL_CACHE": str(folder / "cache"),
    }
    before = {name: os.environ.get(name) for name in set_here}
    os.environ.update(set_here)
    try:
        _wait_for(f"http://127.0.0.1:{port}/moto-api/")
        yield partial(_put, port), slow
    finally:
        server.kill()
        server.wait()
        slow.close()
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)


def _put(port: int, folder: Path, name: str) -> str:
    from pyarrow.fs import LocalFileSystem, S3FileSystem, copy_files

    store = S3FileSystem(endpoint_override=f"http://127.0.0.1:{port}", allow_bucket_creation=True)
    store.create_dir("rows")
    copy_files(str(folder), f"rows/{name}", LocalFileSystem(), store)
    return f"s3://rows/{name}"


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _wait_for(url: str) -> None:
    for _ in range(600):
        with contextlib.suppress(OSError):
            urllib.request.urlopen(url, timeout=10).close()
            return
        time.sleep(0.1)
    raise RuntimeError(f"{url} does not answer")


class _Slow:
    """Passes bytes on to a port of this machine: what comes in later by `delay`, what goes back at once."""

    def __init__(self, target: int) -> None:
        self.delay, self._target, self._loop = 0.0, target, asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        starting = asyncio.start_server(self._connect, "127.0.0.1", 0)
        self._server = asyncio.run_coroutine_threadsafe(starting, self._loop).result()
        self.port = int(self._server.sockets[0].getsockname()[1])

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._target, limit=1 << 20)
        await asyncio.gather(self._pass_on(reader, back, slowly=True), self._pass_on(there, writer, slowly=False))

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, slowly: bool) -> None:
        with contextlib.suppress(ConnectionError):
            while received := await reader.read(1 << 20):
                if slowly:
                    await asyncio.sleep(self.delay)
                writer.write(received)
                await writer.drain()
        writer.close()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._server.close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
