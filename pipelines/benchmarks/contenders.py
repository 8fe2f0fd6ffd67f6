"""Contenders in processes of their own: the benchmark's side of the protocol of `workers`."""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_PACKAGE = Path(__file__).parents[1]
PATIENCE = 600.0
"""Seconds to the first answer, and to each further one."""


class WorkerError(RuntimeError):
    """A worker ended or does not answer; the message names it and holds the end of its standard error."""


@dataclass(frozen=True)
class Contender:
    """A worker to be started.

    Args:
        name: Its name in tables. Contenders of the same name are modes of one library; the faster counts.
        mode: Such as `"XLA"`.
        command: Starts the worker; see `worker_command`.
        spec: Its argument.
        memory_gb: Its memory while it trains; contenders that are measured in turns are in memory together.
        environment: Environment variables added to ours.
    """

    name: str
    mode: str
    command: Sequence[str]
    spec: Mapping[str, Any]
    memory_gb: float = 1.0
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def full_name(self) -> str:
        """Name and mode."""
        return f"{self.name}, {self.mode}"


class Worker:
    """A contender's process; close it, or use it in a `with` statement."""

    def __init__(self, contender: Contender) -> None:
        self.name = contender.full_name
        self._log = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115 - `close` closes it
        self._process = subprocess.Popen(
            [*contender.command, json.dumps(contender.spec)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            cwd=_PACKAGE.parent,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2", **contender.environment},
        )

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def answer(self, patience: float = PATIENCE) -> dict[str, Any]:
        """The next answer; the first comes without a request."""
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], patience)[0]:
            self._process.kill()
            raise WorkerError(f"{self.name}: no answer in {patience:g} s{self._end_of_log()}")
        line = self._process.stdout.readline()
        if not line:
            raise WorkerError(f"{self.name}: {_how_it_ended(self._process.wait())}{self._end_of_log()}")
        return json.loads(line)

    def run(self, steps: int, patience: float = PATIENCE) -> dict[str, Any]:
        """Trains `steps` steps: `seconds`, `peak_mb` and the last `loss`."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # the missing answer raises a clearer error
            self._process.stdin.write(json.dumps({"steps": steps}) + "\n")
            self._process.stdin.flush()
        return self.answer(patience)

    def close(self) -> None:
        """Ends the worker, and kills one that does not end."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._log.close()

    def _end_of_log(self, num_lines: int = 15) -> str:
        self._log.seek(0)
        lines = [line.rstrip() for line in self._log if line.strip()]
        return "".join(f"\n  {line}" for line in lines[-num_lines:])


def worker_command(module: str, python: str = sys.executable) -> list[str]:
    """The command of a module of `workers`, for an interpreter in which this package need not be installed."""
    return [python, "-m", f"{_PACKAGE.name}.benchmarks.workers.{module}"]


def peers_python() -> str:
    """The interpreter of `.venv-bench` beside this one's, where PyTorch and JAX are; else this interpreter."""
    python = Path(sys.prefix).with_name(".venv-bench") / "bin" / "python"
    return str(python if python.exists() else sys.executable)


def _how_it_ended(status: int) -> str:
    if status == -signal.SIGKILL:
        return "killed, as the system does when memory runs out"
    return f"ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
