"""Servers in processes of their own: their ports, memory and end."""

import contextlib
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..machine import process_mb

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
        """Megabytes of resident memory of the process and its children: `VmRSS` now, `VmHWM` at the peak."""
        return sum(process_mb(kind, process) for process in _family(self.process.pid))

    def reset_peak(self) -> float:
        """Makes the peak of memory the memory of now, whose megabytes are returned."""
        for process in _family(self.process.pid):
            Path(f"/proc/{process}/clear_refs").write_text("5")  # proc_pid_clear_refs(5)
        return self.memory_mb()

    def is_alive(self) -> bool:
        """Whether the process lives."""
        return self.process.poll() is None


@contextlib.contextmanager
def serve(*arguments: str | Path, grpc_port: int = 0) -> Iterator[ServerProcess]:
    """Runs `c2al serve`, with REST on a free port; kills the server on leaving.

    Args:
        arguments: Arguments of `c2al serve`, such as the base path of the model `default`.
        grpc_port: Port of the gRPC interface; 0: a free one.

    Raises:
        RuntimeError: If the server ends before it answers.
    """
    command = [COMMAND, "serve", *arguments, f"--grpc-port={grpc_port}", "--rest-port=0"]
    with start(command) as (process, line):
        ready = _READY.search(line)
        if ready is None:
            raise RuntimeError(f"the server must say its ports. Received: {line}")
        yield ServerProcess(process, int(ready[1]), int(ready[2]))


@contextlib.contextmanager
def start(command: Sequence[str | Path]) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Starts a command and waits for the first line of its output; kills it on leaving.

    Raises:
        RuntimeError: If it ends without a line; the message holds the end of its standard error.
    """
    with (
        tempfile.NamedTemporaryFile() as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        try:
            assert process.stdout is not None
            line = process.stdout.readline().strip()
            if not line:
                raise RuntimeError(f"the server must answer. Received:\n{Path(log.name).read_text()[-3000:]}")
            yield process, line
        finally:
            process.kill()


def _family(pid: int) -> Iterator[int]:
    """A process and those that it has started."""
    yield pid
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
            for child in (task / "children").read_text().split():
                yield from _family(int(child))
