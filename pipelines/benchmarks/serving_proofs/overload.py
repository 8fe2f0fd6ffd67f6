"""A server that is offered five times its capacity: measures it before, during and after.

Requests are offered in an open loop, each with a deadline, by processes on the server's own cores. The verdict holds
the rate that was offered: a generator that shares the cores can fall behind.

Example: python -m c2al_pipelines.benchmarks.serving_proofs.overload --seconds 60 --output overload.json
"""

import concurrent.futures
import multiprocessing
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import jsonargparse
import numpy as np

from ..serving_load.load import Tally, closed_loop, open_loop, total
from ..serving_load.questions import Question, read_questions
from ..serving_load.server_process import ServerProcess, serve
from .proof import Verdict, broken_rules, prove

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
) -> Verdict:
    """The verdict on a server.

    Args:
        server: The server.
        questions: Requests.
        seconds: How long it is offered more than its capacity.
        multiple: How many times its capacity.
        processes: Processes that send requests.
        calm_seconds: How long its capacity is measured before, and how long it is watched after.
    """
    closed_loop(server.grpc_port, questions, calm_seconds / 5)  # the first calls are slow
    capacity = closed_loop(server.grpc_port, questions, calm_seconds).rate()
    before = server.memory_mb()
    with concurrent.futures.ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        # The executor starts them one by one: all of them must run when the load begins.
        for _ in range(processes):
            pool.submit(time.sleep, 0.5)
        concurrent.futures.wait([pool.submit(time.sleep, 0.5) for _ in range(processes)])
        rate = 1.1 * multiple * capacity / processes  # a generator may fall behind
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


def _verdict(capacity: float, offered: Tally, seconds: float, memory: Sequence[float], before: float) -> Verdict:
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


def _recovery(after: Tally, start: float, capacity: float) -> Verdict:
    """The end of the first window whose rate was nine tenths of the capacity."""
    moments = np.sort(after.times) - start
    ends = np.arange(_WINDOW, moments[-1], _WINDOW / 10) if len(moments) else np.array([])
    rates = [np.sum((moments > end - _WINDOW) & (moments <= end)) / _WINDOW for end in ends]
    full = [end for end, rate in zip(ends, rates, strict=True) if rate >= 0.9 * capacity]
    return {
        "rate_after": after.rate(),
        "wrong_after": len(after.wrong),
        "full_rate_after_seconds": float(full[0]) if full else None,
    }


def find_problems(verdict: Verdict, multiple: float = 5.0) -> list[str]:
    """The rules that a verdict breaks."""
    memory = verdict["memory_mb"]
    back = verdict["full_rate_after_seconds"]
    return broken_rules(
        {
            f"at least {multiple:g} times the capacity is offered": verdict["offered_multiple"] >= multiple,
            "every answer is right or a refusal": verdict["wrong"] == verdict["wrong_after"] == 0,
            "memory does not grow after the first half": memory["peak_of_second_half"]
            <= 1.05 * memory["peak_of_first_half"],
            "the rate is back within 2 s": back is not None and back <= 2,
        }
    )


def main(
    seconds: float = 60,
    multiple: float = 5,
    processes: int = 3,
    rows: int = 64,
    export: Path | None = None,
    output: Path = Path("overload.json"),
) -> None:
    """Prints and writes how a server behaves that is offered more than its capacity.

    Args:
        seconds: How long.
        multiple: How many times its capacity.
        processes: Processes that send requests.
        rows: Rows of a request; the more, the less of the cores the generator takes.
        export: Base path of the model; by default the load benchmark's.
        output: JSON file.
    """

    def measured(base_path: Path) -> Verdict:
        with serve(base_path) as server:
            questions = read_questions(base_path / "1", rows=rows)
            return measure(server, questions, seconds=seconds, multiple=multiple, processes=processes)

    prove(measured, partial(find_problems, multiple=multiple), export, output)


if __name__ == "__main__":
    jsonargparse.auto_cli(main, as_positional=False)
