"""The command: what it runs, what it writes, what it says of a benchmark that fails."""

import json
from pathlib import Path

import pytest
from c2al_pipelines.benchmarks import __main__ as command
from c2al_pipelines.benchmarks.results import Result

# A benchmark as any other, which a process of its own finds by its name.
BENCHMARK = """
import logging
import os
from c2al_pipelines.benchmarks.results import Result


def run(quick):
    logging.getLogger("c2al_pipelines.benchmarks.counting").info("counting")
    yield Result("{name}", "quick" if quick else "full", 2.0, 1.0, "one | other", "rows/s", (1.0, 3.0), goal=3.0)
    {end}
"""


@pytest.fixture
def benchmark_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    """`benchmark_module(name, end)` writes a benchmark whose last line is `end`."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(name: str, end: str = "") -> str:
        (tmp_path / f"{name}.py").write_text(BENCHMARK.format(name=name, end=end))
        return name

    return write


def test_results_are_written_as_table_and_json(benchmark_module, tmp_path: Path, capsys) -> None:
    assert command.run_all([benchmark_module("good")], quick=True, folder=tmp_path / "out")
    (entry,) = json.loads((tmp_path / "out" / "bench.json").read_text())
    assert list(entry)[:7] == ["benchmark", "case", "ours", "peer", "peer_name", "unit", "ratio"]
    assert (entry["benchmark"], entry["case"], entry["ratio"]) == ("good", "quick", 2.0)
    lines = (tmp_path / "out" / "bench.md").read_text().splitlines()
    assert "| quick | 2 (1 to 3) | 1 | rows/s | 2.00 | ≥ 3.00 ✗ | one \\| other |  |" in lines
    assert json.loads((tmp_path / "out" / "machine.json").read_text())["cores"] >= 1
    assert "good: counting" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("end", "why"),
    [
        ("raise ValueError('no such file')", "ValueError: no such file"),
        ("os._exit(7)", "its process ended with status 7"),
    ],
)
def test_a_failing_benchmark_says_so_and_the_next_runs(benchmark_module, tmp_path: Path, end: str, why: str) -> None:
    modules = [benchmark_module("bad", end), benchmark_module("good")]
    assert not command.run_all(modules, quick=False, folder=tmp_path)
    first, failed, last = (Result.from_json(entry) for entry in json.loads((tmp_path / "bench.json").read_text()))
    assert (first.benchmark, failed.benchmark, last.benchmark) == ("bad", "bad", "good")
    assert failed.case == "failed"
    assert failed.note.startswith(why)


def test_results_of_other_benchmarks_are_kept(benchmark_module, tmp_path: Path) -> None:
    command.run_all([benchmark_module("one"), benchmark_module("two")], quick=False, folder=tmp_path)
    command.run_all(["one"], quick=True, folder=tmp_path)
    entries = json.loads((tmp_path / "bench.json").read_text())
    assert {entry["benchmark"]: entry["case"] for entry in entries} == {"one": "quick", "two": "full"}
    assert len(entries) == 2


def test_the_command_takes_names_a_flag_and_a_folder() -> None:
    words = ["--only", "vocabulary", "head_cost", "--quick", "--output", "there"]
    assert vars(command.parse(words)) == {"only": ["vocabulary", "head_cost"], "quick": True, "output": Path("there")}
    assert vars(command.parse([])) == {"only": (), "quick": False, "output": None}


def test_a_wrong_name_lists_the_right_ones() -> None:
    with pytest.raises(ValueError, match="`only` must name some of vocabulary, .*Received: vocabularies"):
        command.main(only=["vocabularies"])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vocabulary", "ranking_models"])
def test_the_quick_benchmark_goes_through(name: str, tmp_path: Path) -> None:
    """Every contender that is installed has figures; only what is not installed may lack them."""
    assert command.main(only=[name], quick=True, output=tmp_path)
    results = [Result.from_json(entry) for entry in json.loads((tmp_path / "bench.json").read_text())]
    missing = [result.note for result in results if result.peer is None and result.unit == "rows/s"]
    assert all("No module named" in note for note in missing), missing
    assert {"rows/s", "ms", "MB"} == {result.unit for result in results}
    assert all(result.ratio is not None for result in results if "Keras 3" in result.peer_name)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "units"),
    [
        ("serving", {"requests/s", "rows/s", "ms"}),
        ("dhen_peak", {"GFLOP/s", "rows/s", "ms"}),
        ("head_cost", {"ms"}),
        ("dhen_peers", {"rows/s", "MB", "s"}),
        ("compile_time", {"s"}),
        ("diagnostics_cost", {"ms"}),
    ],
)
def test_a_quick_benchmark_goes_through_whatever_peers_there_are(name: str, units: set[str], tmp_path: Path) -> None:
    assert command.main(only=[name], quick=True, output=tmp_path)
    results = [Result.from_json(entry) for entry in json.loads((tmp_path / "bench.json").read_text())]
    assert {result.unit for result in results} == units
