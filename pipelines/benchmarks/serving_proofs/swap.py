"""Latency of the first answers of a new version: swaps versions under an even load of one client.

Requests of several kinds take turns: both signatures, a number of rows that no warm-up request has, and one output
alone. Each kind is compared with its own latency before the first swap.

Example: python -m c2al_pipelines.benchmarks.serving_proofs.swap --swaps 20 --output swap.json
"""

import dataclasses
import statistics
import threading
import time
from collections.abc import Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import jsonargparse
import numpy as np

from c2al_tf.protocol import messages

from ..serving_load.load import PREDICT
from ..serving_load.questions import Question, read_outputs, read_questions
from ..serving_load.server_process import serve
from .proof import Verdict, copy_version, prove


@dataclasses.dataclass(frozen=True)
class Answer:
    """One answer: the kind of its request, the version that answered, how long it took in milliseconds."""

    kind: str
    version: int
    milliseconds: float


def kinds_of(version: Path) -> dict[str, Question]:
    """A question of each kind."""
    kinds = {}
    for rows in (1, 5):
        for question in read_questions(version, rows=rows, count=1):
            kinds[f"{question.signature}, rows: {rows}"] = question
    first = next(iter(kinds.values()))
    name = sorted(first.expected)[0]
    expected = {name: first.expected[name]}
    kinds[f"{first.signature}, rows: 1, `{name}` alone"] = dataclasses.replace(
        first, outputs=(name,), expected=expected
    )
    return kinds


class Client:
    """Asks at an even rate until the context is left. A context manager.

    Args:
        port: The server's.
        kinds: Requests by kind, asked in turns.
        rate: Requests per second.

    Attributes:
        answers: The answers.
        problems: What was wrong with them.
    """

    def __init__(self, port: int, kinds: Mapping[str, Question], rate: float) -> None:
        self.answers: list[Answer] = []
        self.problems: list[str] = []
        self._port, self._kinds, self._rate = port, kinds, rate
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Client":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        requests = {kind: question.serialized() for kind, question in self._kinds.items()}
        due = time.monotonic()
        with grpc.insecure_channel(f"127.0.0.1:{self._port}") as channel:
            call = channel.unary_unary(PREDICT)
            while not self._stopped.is_set():
                for kind, request in requests.items():
                    due = max(due + 1 / self._rate, time.monotonic())
                    time.sleep(due - time.monotonic() if due > time.monotonic() else 0)
                    self._ask(call, kind, request)

    def _ask(self, call: Any, kind: str, request: bytes) -> None:
        asked = time.perf_counter()
        try:
            content = call(request, timeout=60)
        except grpc.RpcError as error:
            self.problems.append(f"{kind}: {error.code().name}: {error.details()}")
            return
        took = 1000 * (time.perf_counter() - asked)
        response = messages.PredictResponse.FromString(content)
        problem = self._kinds[kind].problem(read_outputs(response))
        if problem:
            self.problems.append(f"{kind}: {problem}")
        self.answers.append(Answer(kind, response.model_spec.version.value, took))


def measure(base_path: Path, *, swaps: int, rate: float, steady_seconds: float) -> Verdict:
    """The verdict on a server over a base path that has a version 1; publishes copies of it.

    Args:
        base_path: The base path.
        swaps: Number of versions that replace the one before.
        rate: Requests per second, of all kinds together.
        steady_seconds: How long it is asked before the first swap, and after each.
    """
    kinds = kinds_of(base_path / "1")
    with serve(base_path, "--poll-seconds=0.2") as server, Client(server.grpc_port, kinds, rate) as client:
        time.sleep(steady_seconds / 2)
        _wait_for(client, kinds, 1)
        client.answers.clear()  # the first calls are slow
        time.sleep(steady_seconds)
        _wait_for(client, kinds, 1)
        for version in range(2, swaps + 2):
            copy_version(base_path / "1", base_path / str(version))
            _wait_for(client, kinds, version)
            time.sleep(steady_seconds / 5)
    return {"swaps": swaps, "kinds": {kind: _ratios(client.answers, kind) for kind in kinds}, "wrong": client.problems}


def _wait_for(client: Client, kinds: Collection[str], version: int, seconds: float = 300.0) -> None:
    """Until the version has answered each kind of request."""
    end = time.monotonic() + seconds
    while len({answer.kind for answer in list(client.answers) if answer.version == version}) < len(kinds):
        if time.monotonic() > end:
            raise RuntimeError(f"version {version} must answer within {seconds:g} s. Received: {client.problems[-1:]}")
        time.sleep(0.01)


def _ratios(answers: list[Answer], kind: str) -> dict[str, float]:
    """Compares the first answers of new versions with the steady ones, and the shares that take twice the median."""
    mine = [answer for answer in answers if answer.kind == kind]
    before = [answer.milliseconds for answer in mine if answer.version == 1]
    steady = statistics.median(before)
    first: dict[int, float] = {}
    for answer in mine:
        first.setdefault(answer.version, answer.milliseconds)
    ratios = [milliseconds / steady for version, milliseconds in first.items() if version != 1]
    return {
        "steady_p50_ms": steady,
        "steady_p99_to_p50": float(np.quantile(before, 0.99)) / steady,
        "steady_above_twice": statistics.mean(milliseconds > 2 * steady for milliseconds in before),
        "worst_ms": max(answer.milliseconds for answer in mine),
        "first_to_steady_median": statistics.median(ratios),
        "first_to_steady_max": max(ratios),
        "first_above_twice": statistics.mean(ratio > 2 for ratio in ratios),
    }


def find_problems(verdict: Verdict) -> list[str]:
    """The rules that a verdict breaks."""
    slow = [
        f"the first request of a new version takes at most twice the steady median ({kind})"
        for kind, ratios in verdict["kinds"].items()
        if ratios["first_to_steady_max"] > 2
    ]
    return slow + (["every answer is right"] if verdict["wrong"] else [])


def main(
    swaps: int = 20,
    rate: float = 50,
    steady_seconds: float = 10,
    export: Path | None = None,
    output: Path = Path("swap.json"),
) -> None:
    """Prints and writes the latency of the first requests to new versions.

    Args:
        swaps: How many versions.
        rate: Requests per second.
        steady_seconds: How long the latency is measured before.
        export: Base path of the model; by default the load benchmark's.
        output: JSON file.
    """
    measured = partial(measure, swaps=swaps, rate=rate, steady_seconds=steady_seconds)
    prove(measured, find_problems, export, output)


if __name__ == "__main__":
    jsonargparse.auto_cli(main, as_positional=False)
