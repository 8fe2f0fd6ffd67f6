"""Runs a script of `pipelines/examples` as written, in this process."""

import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[3] / "pipelines" / "examples"


@pytest.fixture
def run_example(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """`run_example(name, *arguments)`: what the script prints."""
    from c2al_pipelines import cli
    from c2al_pipelines.commands import run

    monkeypatch.setattr(cli, "hide_native_notes", lambda: None)
    monkeypatch.setattr(run, "_keep_freed_memory", lambda: None)  # it is for the process, whose other tests measure

    def call(name: str, *arguments: object) -> str:
        script = EXAMPLES / f"{name}.py"
        monkeypatch.setattr(sys, "argv", [str(script), *map(str, arguments)])
        runpy.run_path(str(script), run_name="__main__")
        return capsys.readouterr().out

    return call


@pytest.fixture
def tiny_model() -> list[str]:
    """Arguments of `c2al run` for a model that compiles and trains in seconds."""
    return [
        "--model.num_blocks=1",
        "--model.num_outputs=2",
        "--model.mixing_outputs=2",
        "--model.attention_units=4",
        "--model.embedding_dim=4",
        "--training.epochs=1",
        "--training.jit_compile=false",
    ]
