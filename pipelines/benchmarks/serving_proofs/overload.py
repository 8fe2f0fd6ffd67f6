"""Does the server bear five times what it can do? Measures its capacity, offers a multiple of it, measures again.

Requests are offered in an open loop, by processes on the server's own cores, whatever becomes of those before; each has
a deadline. What was really offered is in the verdict: a generator that shares the cores cannot always offer more.

Example: python -m c2al_pipelines.benchmarks.serving_proofs.overload --seconds 60 --output overload.json
"""

import concurrent.futures
import multiprocessing
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jsonargparse
import numpy as np

from ...native_log import hide_native_notes
from .exports import prepare_base_path
from .load import Tally, closed_loop, open_loop, total
from .questions import Question, read_questions
from .server_process import ServerProcess, serve
from .verdict import report

DEADLINE = 1.0
"""Seconds that a request may take."""

_WINDOW = 0.5


def measure(
    server: ServerProcess,
    questions: Sequence[Question],
    *,
    seconds: float,
    multiple: float,
    processes: int,
    calm_seconds: float = 5.0,
) -> dict[str, Any]:
    """The verdict on a server.

    Args:
        server: The server.
        questions: What is asked.
        seconds: How long it is offered too much.
        multiple: How many times its capacity.
        processes: Processes that ask.
        calm_seconds: How long its capacity is measured before, and how long it is watched after.
    """
    closed_loop(server.grpc_port, questions, calm_seconds / 5)  # the first calls are slow ones
    capacity = closed_loop(server.grpc_port, questions, calm_seconds).rate()
    before = server.memory_mb()
    with concurrent.futures.ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        # Started one by one, so that all of them have been when the load begins.
        for _ in range(processes):
            pool.submit(time.sleep, 0.5)
        concurrent.futures.wait([pool.submit(time.sleep, 0.5) for _ in range(processes)])
        rate = 1.1 * multiple * capacity / processes  # sending is late at times
        parts = [pool.submit(open_loop, server.grpc_port, questions, rate, seconds, DEADLINE) for _ in range(processes)]
        memory = _watch(server, seconds)
        start = time.monotonic()
        after = closed_loop(server.grpc_port, questions, calm_seconds)
        offered = total(part.result() for part in parts)
    return _verdict(capacity, offered, seconds, memory, before) | _recovery(after, start, capacity)


def _watch(server: ServerProcess, seconds: float) -> list[float]:
    """Megabytes of memory over some seconds, twice a second."""
    memory, end = [server.memory_mb()], time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        time.sleep(min(left, 0.5))
        memory.append(server.memory_mb())
    return memory


def _verdict(capacity: float, offered: Tally, seconds: float, memory: Sequence[float], before: float) -> dict[str, Any]:
    early, late = (max(part) for part in np.array_split(memory, 2))
    return {
        "capacity": capacity,
        "offered": offered.sent / seconds,
        "offered_multiple": offered.sent / seconds / capacity,
        "right": offered.right / seconds,
        "p99_ms": offered.quantile_ms(0.99),
        "refused": dict(offered.refused),
        "wrong": len(offered.wrong),
        "wrong_examples": sorted(set(offered.wrong))[:5],
        "memory_mb": {"before": before, "peak_of_first_half": early, "peak_of_second_half": late},
        "memory_over_time_mb": [round(value) for value in memory],
    }


def _recovery(after: Tally, start: float, capacity: float) -> dict[str, Any]:
    """When the rate of a window first was nine tenths of the capacity: the window's end."""
    moments = np.sort(after.times) - start
    ends = np.arange(_WINDOW, moments[-1], _WINDOW / 10) if len(moments) else np.array([])
    rates = [np.sum((moments > end - _WINDOW) & (moments <= end)) / _WINDOW for end in ends]
    full = [end for end, rate in zip(ends, rates, strict=True) if rate >= 0.9 * capacity]
    return {
        "rate_after": after.rate(),
        "wrong_after": len(after.wrong),
        "full_rate_after_seconds": float(full[0]) if full else None,
    }


def problems(verdict: dict[str, Any], multiple: float = 5.0) -> list[str]:
    """What does not hold of what has to."""
    memory = verdict["memory_mb"]
    back = verdict["full_rate_after_seconds"]
    rules = {
        f"at least {multiple:g} times the capacity is offered": verdict["offered_multiple"] >= multiple,
        "every answer is right or a refusal": verdict["wrong"] == verdict["wrong_after"] == 0,
        "memory does not grow after the first half": memory["peak_of_second_half"]
        <= 1.05 * memory["peak_of_first_half"],
        "the rate is back within 2 s": back is not None and back <= 2,
    }
    return [rule for rule, holds in rules.items() if not holds]


def main(
    seconds: float = 60,
    multiple: float = 5,
    processes: int = 3,
    rows: int = 64,
    export: Path | None = None,
    output: Path = Path("overload.json"),
) -> None:
    """Prints and writes what a server does that is offered too much.

    Args:
        seconds: How long.
        multiple: How many times what it can do.
        processes: Processes that ask.
        rows: Rows of a request. The more there are, the less does the generator take of the cores.
        export: Base path of the model; by default the load benchmark's.
        output: JSON file.
    """
    hide_native_notes()
    with tempfile.TemporaryDirectory() as folder:
        base = prepare_base_path(Path(folder), export)
        questions = read_questions(base / "1", rows=rows)
        with serve(base) as server:
            verdict = measure(server, questions, seconds=seconds, multiple=multiple, processes=processes)
    report(verdict, problems(verdict, multiple), output)


if __name__ == "__main__":
    jsonargparse.auto_cli(main, as_positional=False)
