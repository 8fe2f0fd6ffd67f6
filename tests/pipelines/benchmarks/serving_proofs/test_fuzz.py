"""Mutated requests: a hundred, and 20,000; and those whose few bytes stand for much memory."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from c2al_pipelines.benchmarks.serving_load.server_process import ServerProcess, serve

from c2al_tf.saved_model import SavedModel
from c2al_tf.saved_model.tensors import DTYPES

from .attacks import Inputs
from .fuzz import Fuzz


@pytest.fixture
def server(base_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ServerProcess]:
    """A server that returns free memory at once: what a request takes cannot hide in what others left."""
    for name, value in (("ARENA_MAX", "1"), ("TRIM_THRESHOLD_", "65536"), ("MMAP_THRESHOLD_", "65536")):
        monkeypatch.setenv(f"MALLOC_{name}", value)
    with serve(base_path) as server:
        yield server


@pytest.fixture(scope="module")
def inputs(base_path: Path) -> Inputs:
    codes = {dtype: code for code, dtype in DTYPES.items()}
    with SavedModel(base_path / "1") as model:
        specs = model.signatures["serving_default"].inputs
        return {name: (codes[spec.dtype], tuple(map(int, spec.shape[1:]))) for name, spec in specs.items()}


@pytest.mark.parametrize("count", [100, pytest.param(20_000, marks=pytest.mark.slow)])
def test_every_answer_is_proper_and_good_requests_stay_right(server, questions, count: int) -> None:
    fuzz = Fuzz(server, questions)
    fuzz.run(count)
    assert fuzz.findings == {}
    assert server.is_alive()
    assert (sum(fuzz.statuses.values()), fuzz.right) == (count, count // 10)


@pytest.mark.parametrize(
    ("sizes", "every"),
    [
        ([2**20], 10),  # kinds come in threes: every tenth has each size of some
        pytest.param([2**16, 2**18, 2**20, 2**22, 2**23, 2**24, 27 * 2**20, 31 * 2**20], 1, marks=pytest.mark.slow),
    ],
)
def test_no_request_takes_much_more_memory_than_its_size(server, questions, inputs, sizes, every) -> None:
    fuzz = Fuzz(server, questions)
    fuzz.attack(inputs, sizes, every)
    assert fuzz.findings == {}
    assert server.is_alive()
    assert sum(fuzz.statuses.values()) > 150 // every
    assert fuzz.most_mb > 10  # it is measured


def test_the_measure_finds_memory(server, questions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("c2al_pipelines.benchmarks.serving_load.server_process.ServerProcess.reset_peak", lambda _: 0.0)
    fuzz = Fuzz(server, questions)
    fuzz.run(1)  # as if it took all that the server has
    assert ["MB" in finding for finding in fuzz.findings] == [True]
