"""Results as a table for the terminal and as Markdown."""

import ast
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from .results import RATIO, Result

_COLUMNS = ("case", "ours", "peer's", "unit", "ratio", "goal", "peer", "note")
_NUMBERS = ("ours", "peer's", "ratio", "goal")


def terminal_table(benchmark: str, results: Iterable[Result]) -> Table:
    """One benchmark's results."""
    table = Table(title=benchmark, caption=RATIO, title_justify="left", caption_justify="left")
    for name in _COLUMNS:
        table.add_column(name, justify="right" if name in _NUMBERS else "left", overflow="fold")
    for result in results:
        table.add_row(*_cells(result), style=None if result.reached is not False else "yellow")
    return table


def markdown(results: Sequence[Result], machine: Mapping[str, Any]) -> str:
    """All results, by benchmark, each under the docstring of its module."""
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items() if version)
    lines = [
        "# Benchmarks",
        "",
        f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gb']:.0f} GB, {machine['system']}, Python "
        f"{machine['python']}, {versions}.",
        "",
        f"Medians of rounds in which all sides take turns (smallest to largest). {RATIO[0].upper()}{RATIO[1:]}.",
    ]
    for benchmark in dict.fromkeys(result.benchmark for result in results):
        lines += ["", f"## {benchmark}", "", _says(benchmark), "", _markdown_row(_COLUMNS)]
        lines.append(_markdown_row(["---:" if name in _NUMBERS else "---" for name in _COLUMNS]))
        lines += [_markdown_row(_cells(result)) for result in results if result.benchmark == benchmark]
    return "\n".join(lines) + "\n"


def _cells(result: Result) -> list[str]:
    goal = "" if result.goal is None else f"≥ {result.goal:.2f}"
    if result.reached is not None:
        goal += " ✓" if result.reached else " ✗"
    return [
        result.case,
        _with_range(result.ours, result.ours_range),
        _with_range(result.peer, result.peer_range),
        result.unit,
        "" if result.ratio is None else f"{result.ratio:.2f}",
        goal,
        result.peer_name,
        result.note.split("\n")[0][:200],
    ]


def _with_range(figure: float | None, spread: tuple[float, float] | None) -> str:
    if figure is None:
        return "none"
    if spread is None or spread[0] == spread[1]:
        return _number(figure)
    return f"{_number(figure)} ({_number(spread[0])} to {_number(spread[1])})"


def _number(figure: float) -> str:
    """Three digits, or all before the point."""
    return f"{figure:,.0f}" if abs(figure) >= 100 else f"{figure:.3g}"


def _markdown_row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _says(benchmark: str) -> str:
    """The docstring of the benchmark's module, read without importing it."""
    module = Path(__file__).with_name(f"{benchmark}.py")
    return (ast.get_docstring(ast.parse(module.read_text())) or "") if module.exists() else ""
