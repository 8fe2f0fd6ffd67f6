"""`c2al serve` in a process of its own: its ports, its memory, its end."""

import contextlib
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

COMMAND = Path(sys.executable).with_name("c2al")
_READY = re.compile(r"gRPC on \S+:(\d+), REST on \S+:(\d+)$")


@dataclass(frozen=True)
class ServerProcess:
    """A server that answers.

    Attributes:
        process: Its process.
        grpc_port: Port of the gRPC interface.
        rest_port: Port of the REST interface.
    """

    process: subprocess.Popen[str]
    grpc_port: int
    rest_port: int

    def memory_mb(self, kind: str = "VmRSS") -> float:
        """Megabytes that it and its children hold (`VmRSS`), or have held at most (`VmHWM`)."""
        return sum(_kilobytes(self.process.pid, kind)) * 1.024 / 1000

    def is_alive(self) -> bool:
        """Whether the process lives."""
        return self.process.poll() is None


@contextlib.contextmanager
def serve(base_path: Path, *arguments: str) -> Iterator[ServerProcess]:
    """Serves a base path by the command, on free ports; kills the server on leaving.

    Args:
        base_path: Folder of version folders; the model is called `default`.
        arguments: Further ones of `c2al serve`.

    Raises:
        RuntimeError: If the server ends before it answers.
    """
    command = [str(COMMAND), "serve", str(base_path), "--grpc-port=0", "--rest-port=0", *arguments]
    with (
        tempfile.NamedTemporaryFile() as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        try:
            assert process.stdout is not None
            ready = _READY.search(process.stdout.readline().strip())
            if ready is None:
                raise RuntimeError(f"the server must answer. Received:\n{Path(log.name).read_text()[-3000:]}")
            yield ServerProcess(process, int(ready[1]), int(ready[2]))
        finally:
            process.kill()


def _kilobytes(pid: int, kind: str) -> Iterator[int]:
    """Of a process and of those that it has started."""
    match = re.search(rf"^{kind}:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    if match is not None:
        yield int(match[1])
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
            for child in (task / "children").read_text().split():
                yield from _kilobytes(int(child), kind)
