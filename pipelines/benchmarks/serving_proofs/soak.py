"""Does the server stay as it is? Asks it evenly, at half of what it can do, for minutes.

Example: python -m c2al_pipelines.benchmarks.serving_proofs.soak --minutes 10 --output soak.json
"""

import concurrent.futures
import multiprocessing
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jsonargparse

from ...native_log import hide_native_notes
from .exports import prepare_base_path
from .load import Tally, closed_loop, open_loop
from .questions import Question, read_questions
from .server_process import ServerProcess, serve
from .verdict import report


def measure(
    server: ServerProcess,
    questions: Sequence[Question],
    *,
    periods: int,
    period_seconds: float = 60.0,
    share: float = 0.5,
    calm_seconds: float = 5.0,
) -> dict[str, Any]:
    """The verdict on a server.

    Args:
        server: The server.
        questions: What is asked.
        periods: How many there are.
        period_seconds: How long a period is.
        share: How much of what it can do is asked of it.
        calm_seconds: How long its capacity is measured.
    """
    closed_loop(server.grpc_port, questions, calm_seconds / 5)  # the first calls are slow ones
    capacity = closed_loop(server.grpc_port, questions, calm_seconds).rate()
    rows = []
    # A process of its own, as a client is: it takes no time from whoever reads the server's memory.
    with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        for _ in range(periods):
            asked = pool.submit(open_loop, server.grpc_port, questions, share * capacity, period_seconds, 60.0)
            rows.append(_row(asked.result(), period_seconds, server.memory_mb()))
    return {"capacity": capacity, "peak_mb": server.memory_mb("VmHWM"), "periods": rows}


def _row(tally: Tally, seconds: float, memory: float) -> dict[str, Any]:
    return {
        "offered": tally.sent / seconds,
        "right": tally.right / seconds,
        "errors": len(tally.wrong) + tally.refused.total(),
        "examples": sorted({*tally.wrong, *tally.refused})[:3],
        "p50_ms": tally.quantile_ms(0.5),
        "p99_ms": tally.quantile_ms(0.99),
        "memory_mb": memory,
    }


def problems(verdict: dict[str, Any]) -> list[str]:
    """What does not hold of what has to."""
    periods = verdict["periods"]
    memory = [period["memory_mb"] for period in periods]
    rules = {
        "no request fails": not any(period["errors"] for period in periods),
        "memory grows by at most 5 % after the first period": max(memory) <= 1.05 * memory[0],
        "half of the capacity is offered": all(
            period["offered"] >= 0.95 * 0.5 * verdict["capacity"] for period in periods
        ),
    }
    return [rule for rule, holds in rules.items() if not holds]


def main(minutes: int = 10, rows: int = 1, export: Path | None = None, output: Path = Path("soak.json")) -> None:
    """Prints and writes what a server does under half load, minute by minute.

    Args:
        minutes: How long.
        rows: Rows of a request.
        export: Base path of the model; by default the load benchmark's.
        output: JSON file.
    """
    hide_native_notes()
    with tempfile.TemporaryDirectory() as folder:
        base = prepare_base_path(Path(folder), export)
        questions = read_questions(base / "1", rows=rows)
        with serve(base) as server:
            verdict = measure(server, questions, periods=minutes)
    for number, period in enumerate(verdict["periods"], start=1):
        print(f"minute {number}: {period}")
    report(verdict, problems(verdict), output)


if __name__ == "__main__":
    jsonargparse.auto_cli(main, as_positional=False)
