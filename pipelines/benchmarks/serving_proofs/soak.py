"""A server at half load for minutes: does its memory grow, does its latency?

Example: python -m c2al_pipelines.benchmarks.serving_proofs.soak --minutes 10 --output soak.json
"""

import concurrent.futures
import multiprocessing
from collections.abc import Sequence
from pathlib import Path

import jsonargparse

from ..serving_load.load import Tally, closed_loop, open_loop
from ..serving_load.questions import Question, read_questions
from ..serving_load.server_process import ServerProcess, serve
from .proof import Verdict, broken_rules, prove


def measure(
    server: ServerProcess,
    questions: Sequence[Question],
    *,
    periods: int,
    period_seconds: float = 60.0,
    share: float = 0.5,
    calm_seconds: float = 5.0,
) -> Verdict:
    """The verdict on a server.

    Args:
        server: The server.
        questions: Requests.
        periods: Number of periods.
        period_seconds: Length of a period.
        share: Share of its capacity that is offered.
        calm_seconds: How long its capacity is measured.
    """
    closed_loop(server.grpc_port, questions, calm_seconds / 5)  # the first calls are slow
    capacity = closed_loop(server.grpc_port, questions, calm_seconds).rate()
    rows = []
    # A client in a process of its own is not delayed by this one.
    with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        for _ in range(periods):
            asked = pool.submit(open_loop, server.grpc_port, questions, share * capacity, period_seconds, 60.0)
            rows.append(_row(asked.result(), period_seconds, server.memory_mb()))
    return {"capacity": capacity, "peak_mb": server.memory_mb("VmHWM"), "periods": rows}


def _row(tally: Tally, seconds: float, memory: float) -> Verdict:
    return {
        "offered": tally.sent / seconds,
        "right": tally.right / seconds,
        "errors": len(tally.wrong) + tally.refused.total(),
        "examples": sorted({*tally.wrong, *tally.refused})[:3],
        "p50_ms": tally.quantile_ms(0.5),
        "p99_ms": tally.quantile_ms(0.99),
        "memory_mb": memory,
    }


def find_problems(verdict: Verdict) -> list[str]:
    """The rules that a verdict breaks."""
    periods = verdict["periods"]
    memory = [period["memory_mb"] for period in periods]
    return broken_rules(
        {
            "no request fails": not any(period["errors"] for period in periods),
            "memory grows by at most 5 % after the first period": max(memory) <= 1.05 * memory[0],
            "half of the capacity is offered": all(
                period["offered"] >= 0.95 * 0.5 * verdict["capacity"] for period in periods
            ),
        }
    )


def main(minutes: int = 10, rows: int = 1, export: Path | None = None, output: Path = Path("soak.json")) -> None:
    """Prints and writes how a server behaves at half load, minute by minute.

    Args:
        minutes: How long.
        rows: Rows of a request.
        export: Base path of the model; by default the load benchmark's.
        output: JSON file.
    """

    def measured(base_path: Path) -> Verdict:
        with serve(base_path) as server:
            verdict = measure(server, read_questions(base_path / "1", rows=rows), periods=minutes)
        for number, period in enumerate(verdict["periods"], start=1):
            print(f"minute {number}: {period}")
        return verdict

    prove(measured, find_problems, export, output)


if __name__ == "__main__":
    jsonargparse.auto_cli(main, as_positional=False)
