"""What all proofs share: an export to serve, a verdict with its metrics, an exit status."""

import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from c2al_tf.files import replace_directory, write_json

from ...native_log import hide_native_notes

Verdict = dict[str, Any]
"""Metrics by name, such as JSON holds."""


def prove(
    measure: Callable[[Path], Verdict],
    find_problems: Callable[[Verdict], Sequence[str]],
    export: Path | None,
    output: Path,
) -> None:
    """Measures, prints and writes the verdict; ends the process with status 1 if a rule does not hold.

    Args:
        measure: Measures, given a base path with a version 1.
        find_problems: The rules that a verdict breaks.
        export: Base path of the model; None: the load benchmark's.
        output: JSON file.
    """
    hide_native_notes()
    with tempfile.TemporaryDirectory() as folder:
        verdict = measure(prepare_base_path(Path(folder), export))
    problems = list(find_problems(verdict))
    write_json(output, {"holds": not problems, "problems": problems, **verdict})
    print(json.dumps({name: value for name, value in verdict.items() if not isinstance(value, list)}, indent=2))
    print("\n".join([f"does not hold: {problem}" for problem in problems] or ["every rule holds"]))
    if problems:
        sys.exit(1)


def broken_rules(rules: Mapping[str, bool]) -> list[str]:
    """The rules that do not hold."""
    return [rule for rule, holds in rules.items() if not holds]


def prepare_base_path(folder: Path, export: Path | None) -> Path:
    """A base path in `folder` with a version 1: the latest of an export, or the load benchmark's fresh one."""
    if export is None:
        from ..serving_load.models import write_exports  # TensorFlow, which the processes that send requests do without

        return write_exports(folder)["c2al"]
    latest = max((path for path in export.iterdir() if path.name.isdecimal()), key=lambda path: int(path.name))
    copy_version(latest, folder / "served" / "1")
    return folder / "served"


def copy_version(version: Path, target: Path) -> None:
    """Publishes a version again under another number, whole or not at all."""
    with replace_directory(target) as directory:
        shutil.copytree(version, directory, dirs_exist_ok=True)
