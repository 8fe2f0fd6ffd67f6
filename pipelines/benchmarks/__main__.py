"""Runs the benchmarks one after the other and writes `bench.json`, `bench.md` and `machine.json`.

Example: python -m c2al_pipelines.benchmarks --only vocabulary ranking_models --output runs/bench
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from c2al_tf.files import replace_file, write_json

from ..native_log import hide_native_notes
from .machine import describe_machine
from .results import Result
from .runner import run_benchmark
from .tables import markdown, terminal_table

BENCHMARKS = (
    "vocabulary",
    "ranking_models",
    "head_cost",
    "dhen_peak",
    "dhen_peers",
    "compile_time",
    "diagnostics_cost",
    "input_rate",
    "storage_rate",
    "training_memory",
    "serving",
)
"""The modules with `run(quick)`, in the order they are run in."""


def main(only: Sequence[str] = (), quick: bool = False, output: Path | None = None) -> bool:
    """Measures, prints a table after each benchmark, and writes all results.

    Args:
        only: Names of the benchmarks to run, all by default. What `output` holds of the others is kept.
        quick: Tiny sizes: shows that all runs, not how fast.
        output: Folder of the results, by default `runs/bench`, or `runs/bench-quick` for a quick run.

    Returns:
        Whether every figure of ours could be measured; a peer that is not installed is no failure.
    """
    unknown = sorted(set(only) - set(BENCHMARKS))
    if unknown:
        raise ValueError(f"`only` must name some of {', '.join(BENCHMARKS)}. Received: {', '.join(unknown)}")
    modules = [f"{__package__}.{name}" for name in BENCHMARKS if not only or name in only]
    return run_all(modules, quick, output or Path("runs") / ("bench-quick" if quick else "bench"))


def run_all(modules: Sequence[str], quick: bool, folder: Path) -> bool:
    """Runs the benchmarks of modules, by their full names; see `main`."""
    names = [module.rpartition(".")[2] for module in modules]
    machine = describe_machine()
    results = [result for result in _load(folder / "bench.json") if result.benchmark not in names]
    console = Console()
    with _progress(console) as bar:
        task = bar.add_task("", total=len(names))
        for name, module in zip(names, modules, strict=True):
            found = []
            for item in run_benchmark(module, quick):
                if isinstance(item, Result):
                    found.append(item)
                    _save(folder, [*results, *found], machine)
                elif console.is_terminal:
                    bar.update(task, description=f"{name}: {item.splitlines()[0]}")
                else:
                    console.print(f"{name}: {item}", highlight=False, markup=False, soft_wrap=True)
            results += found
            console.print(terminal_table(name, found))
            bar.advance(task)
    console.print(f"Written: {folder / 'bench.md'}, {folder / 'bench.json'}", highlight=False, soft_wrap=True)
    return all(result.ours is not None for result in results)


def _progress(console: Console) -> Progress:
    shown = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(SpinnerColumn(), *shown, console=console, disable=not console.is_terminal)


def _load(path: Path) -> list[Result]:
    entries = json.loads(path.read_text()) if path.exists() else []
    return [Result.from_json(entry) for entry in entries]


def _save(folder: Path, results: Sequence[Result], machine: dict[str, object]) -> None:
    write_json(folder / "bench.json", [result.as_json() for result in results])
    write_json(folder / "machine.json", machine)
    with replace_file(folder / "bench.md") as path:
        path.write_text(markdown(results, machine))


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    """The arguments of `main`, by name."""
    parser = argparse.ArgumentParser(prog="python -m c2al_pipelines.benchmarks", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    names = f"run these alone: {', '.join(BENCHMARKS)}"
    parser.add_argument("--only", nargs="+", default=(), metavar="NAME", help=names)
    parser.add_argument("--quick", action="store_true", help="tiny sizes: shows that all runs, not how fast")
    parser.add_argument("--output", type=Path, metavar="DIR", help="folder of the results, by default runs/bench")
    return parser.parse_args(words)


if __name__ == "__main__":
    hide_native_notes()
    try:
        sys.exit(0 if main(**vars(parse())) else 1)
    except ValueError as error:
        sys.exit(f"benchmarks: {error}")
