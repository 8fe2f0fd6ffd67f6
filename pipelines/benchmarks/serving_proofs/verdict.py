"""How a proof ends: its figures, and what of it does not hold."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from c2al_tf.files import write_json


def report(figures: Mapping[str, Any], problems: Sequence[str], output: Path) -> None:
    """Prints and writes the verdict; ends the process with status 1 if there are problems."""
    write_json(output, {"holds": not problems, "problems": list(problems), **figures})
    print(json.dumps({name: value for name, value in figures.items() if not isinstance(value, list)}, indent=2))
    print("\n".join([f"does not hold: {problem}" for problem in problems] or ["all of it holds"]))
    if problems:
        sys.exit(1)
