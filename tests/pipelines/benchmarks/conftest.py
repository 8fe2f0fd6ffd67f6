"""A worker that does nothing, punctually, by a clock of its own; a small export, and a server process over it."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from c2al_pipelines.benchmarks import contenders
from c2al_pipelines.benchmarks.contenders import Contender
from c2al_pipelines.benchmarks.serving_load.questions import Question, read_questions
from c2al_pipelines.benchmarks.serving_load.server_process import ServerProcess, serve

# A worker as any other, but for its clock, which its steps set; they write down when, and do as `spec` says.
SLEEPER = """
import sys, time, types
from {package}.benchmarks.workers import serving
from {package}.benchmarks.workers.serving import Built, serve

now = [0.0]
serving.time = types.SimpleNamespace(perf_counter=lambda: now[0])


def build(spec):
    print("chatter of a library")
    if "broken" in spec:
        raise ValueError("no such table")

    calls = []

    def steps(count):
        calls.append(count)
        if "dies" in spec and len(calls) == 3:  # warmed up and tried out
            sys.exit("out of rows")
        with open(spec["diary"], "a") as diary:
            start = time.monotonic()
            now[0] += count * spec["step"]
            if "silent" in spec and len(calls) > 1:  # warmed up
                sys.stdin.read()
            diary.write(f"{{spec['name']}} {{start}} {{time.monotonic()}}\\n")
        return 0.5

    return Built(steps, spec.get("num_weights", 7))


serve(build)
"""


@pytest.fixture
def contender(tmp_path: Path) -> Callable[..., Contender]:
    """`contender(name, mode="only", step=0.002, memory_gb=0.1, **spec)`: a sleeper."""
    (tmp_path / "sleeper.py").write_text(SLEEPER.format(package=contenders._PACKAGE.name))
    environment = {"PYTHONPATH": str(contenders._PACKAGE.parent)}

    def make(name: str, mode: str = "only", step: float = 0.002, memory_gb: float = 0.1, **spec: Any) -> Contender:
        spec |= {"name": name, "step": step, "diary": str(tmp_path / "diary")}
        return Contender(name, mode, [sys.executable, str(tmp_path / "sleeper.py")], spec, memory_gb, environment)

    return make


@pytest.fixture(scope="session")
def base_path(made_once: Callable[..., tuple[Path, Any]]) -> Path:
    def make(path: Path) -> int:
        from .serving_proofs.publisher import publish_small  # TensorFlow, which most of these tests do without

        path.mkdir()
        return publish_small(path, seed=0)

    return made_once("served", make)[0]


@pytest.fixture(scope="session")
def questions(base_path: Path) -> list[Question]:
    return read_questions(base_path / "1")


@pytest.fixture(scope="module")
def server(base_path: Path) -> Iterator[ServerProcess]:
    with serve(base_path) as server:
        yield server
