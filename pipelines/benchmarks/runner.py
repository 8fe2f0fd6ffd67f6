"""Runs a benchmark in a process of its own: it starts fresh, and its crash ends nothing else."""

import logging
import multiprocessing
import traceback
from collections.abc import Iterator
from importlib import import_module
from multiprocessing.connection import Connection

from .results import Result


def run_benchmark(module: str, quick: bool) -> Iterator[Result | str]:
    """Runs `run(quick)` of a module, given by its full name.

    Yields:
        Its results, and its log messages as strings. If it fails, the last result has no measurements and says why.
    """
    context = multiprocessing.get_context("spawn")  # a fork would copy TensorFlow's threads and state
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(module, quick, theirs))
    process.start()
    theirs.close()
    try:
        yield from iter(ours.recv, None)
    except EOFError:
        process.join()
        yield _failed(module, f"its process ended with status {process.exitcode}")
    finally:
        if process.is_alive():
            process.join(10)
        process.kill()
        process.join()


def _run(module: str, quick: bool, pipe: Connection) -> None:
    logger = logging.getLogger(__package__)
    logger.setLevel(logging.INFO)
    logger.addHandler(_Sender(pipe))
    try:
        for result in import_module(module).run(quick):
            pipe.send(result)
    except Exception as error:
        # The last line first: tables show one line, `bench.json` all.
        pipe.send(_failed(module, f"{type(error).__name__}: {error}\n{traceback.format_exc()}"))
    pipe.send(None)


class _Sender(logging.Handler):
    def __init__(self, pipe: Connection) -> None:
        super().__init__()
        self._pipe = pipe

    def emit(self, record: logging.LogRecord) -> None:
        """Sends the message."""
        self._pipe.send(record.getMessage())


def _failed(module: str, why: str) -> Result:
    return Result(module.rpartition(".")[2], "failed", None, None, "", "", note=why)
