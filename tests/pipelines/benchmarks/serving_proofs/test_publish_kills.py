"""Publishers are killed at random moments while a server polls the base path: every version it serves is whole.

A publisher exports one version after the other. Two are published whole; during the next it is killed by SIGKILL, at a
moment drawn evenly over the time that the second took.
"""

import contextlib
import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from c2al_pipelines.benchmarks.serving_load.load import PREDICT
from c2al_pipelines.benchmarks.serving_load.questions import Question, read_outputs, read_questions
from c2al_pipelines.benchmarks.serving_load.server_process import ServerProcess, serve

from c2al_tf.protocol import messages
from c2al_tf.saved_model import SavedModel

_PUBLISHER = Path(__file__).with_name("publisher.py")
_STATUS = f"/{messages.MODEL_SERVICE}/GetModelStatus"


@dataclass
class Witness:
    """Asks a server without a pause, and looks at the base path between. A context manager.

    Args:
        server: The server.
        base_path: What it serves.
        question: What is asked; each version answers it otherwise.

    Attributes:
        answers: The answers by version, each once.
        asked: Requests.
        problems: Requests that failed, versions that could not be loaded.
        files: The files of each version folder, with their sizes, when it was first seen.
    """

    server: ServerProcess
    base_path: Path
    question: Question
    answers: dict[int, dict[bytes, Any]] = field(default_factory=dict)
    asked: int = 0
    problems: list[str] = field(default_factory=list)
    files: dict[int, dict[str, int]] = field(default_factory=dict)

    def __enter__(self) -> "Witness":
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._ask, self._look)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        request = self.question.serialized()
        status = messages.GetModelStatusRequest()
        status.model_spec.name = "default"
        with grpc.insecure_channel(f"127.0.0.1:{self.server.grpc_port}") as channel:
            predict, get_status = channel.unary_unary(PREDICT), channel.unary_unary(_STATUS)
            while not self._stopped.wait(0.01):
                self.asked += 1
                try:
                    response = messages.PredictResponse.FromString(predict(request, timeout=120))
                    states = messages.GetModelStatusResponse.FromString(
                        get_status(status.SerializeToString(), timeout=120)
                    )
                except grpc.RpcError as error:
                    self.problems.append(f"a request failed: {error.code().name}: {error.details()}")
                    continue
                outputs = read_outputs(response)
                key = b"".join(outputs[name].tobytes() for name in sorted(outputs))
                self.answers.setdefault(response.model_spec.version.value, {})[key] = outputs
                self.problems += [
                    f"version {version.version}: {version.status.error_message}"
                    for version in states.model_version_status
                    if version.status.error_code
                ]

    def _look(self) -> None:
        while not self._stopped.wait(0.003):
            for version in self.base_path.iterdir():
                if version.name.isdecimal() and int(version.name) not in self.files:
                    self.files[int(version.name)] = _files(version)


@pytest.mark.slow
@pytest.mark.parametrize("kills", [1, 20])
def test_the_served_version_is_always_a_whole_one(tmp_path: Path, kills: int) -> None:
    rng = np.random.default_rng(0)
    base_path, temporary = tmp_path / "served", tmp_path / "temporary"
    temporary.mkdir()
    with contextlib.ExitStack() as stack:
        publisher, _ = _start(stack, base_path, temporary, seed=0)
        question = read_questions(base_path / "1", count=1)[0]
        server = stack.enter_context(serve(base_path, "--poll-seconds=0.05"))
        witness = stack.enter_context(Witness(server, base_path, question))
        for number in range(1, kills + 1):
            start = time.monotonic()
            _publish(publisher, 3 * number)
            duration = time.monotonic() - start
            _begin(publisher, 3 * number + 1)
            time.sleep(float(rng.uniform(0, duration)))
            publisher.kill()
            publisher.wait()
            publisher, last = _start(stack, base_path, temporary, seed=3 * number + 2)
            _wait_for(witness, last)
    assert witness.problems == []
    assert _halves(witness) == []
    assert _wrong_answers(witness) == []
    assert [path.name for path in base_path.iterdir() if not path.name.isdecimal()] == []
    # Autograph writes a file for each function there, which TensorFlow removes.
    assert [path.name for path in temporary.iterdir() if path.is_dir()] == []
    assert len(list(base_path.iterdir())) >= 2 * kills + 1
    assert witness.asked > 10 * kills


def _halves(witness: Witness) -> list[str]:
    """Version folders that held something else when they were first seen."""
    return [
        f"version {number} was seen when it was not whole: {files}"
        for number, files in witness.files.items()
        if files != _files(witness.base_path / str(number))
    ]


def _wrong_answers(witness: Witness) -> list[str]:
    """Versions whose answers are not those of their files."""
    wrong = []
    for number, answers in witness.answers.items():
        with SavedModel(witness.base_path / str(number)) as model:
            question = witness.question.answered_by(model)
        found = [question.problem(outputs) for outputs in answers.values()]
        wrong += [f"version {number}: {problem}" for problem in found if problem]
    return wrong


def _start(
    stack: contextlib.ExitStack, base_path: Path, temporary: Path, seed: int
) -> tuple[subprocess.Popen[str], int]:
    """A process that publishes a version for each line it gets, and the first one that it has published.

    Args:
        stack: Ends it.
        base_path: Where it publishes.
        temporary: Its folder for temporary files.
        seed: Draws the weights of the first one.
    """
    command = [sys.executable, str(_PUBLISHER), str(base_path)]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    environment = {**os.environ, "TMPDIR": str(temporary)}
    process = stack.enter_context(subprocess.Popen(command, text=True, env=environment, **pipes))
    stack.callback(process.kill)
    return process, _publish(process, seed)


def _begin(publisher: subprocess.Popen[str], seed: int) -> None:
    assert publisher.stdin is not None
    publisher.stdin.write(f"{seed}\n")
    publisher.stdin.flush()


def _publish(publisher: subprocess.Popen[str], seed: int) -> int:
    _begin(publisher, seed)
    assert publisher.stdout is not None
    return int(publisher.stdout.readline())


def _wait_for(witness: Witness, version: int, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while version not in witness.answers:
        if time.monotonic() > end:
            raise RuntimeError(f"version {version} must answer within {seconds:g} s. Received: {witness.problems[-1:]}")
        time.sleep(0.01)


def _files(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_size for path in folder.rglob("*") if path.is_file()}
