"""The figure of `device_grid`: NE_diff against the rows of the log, a panel for each weight of the cohort tasks.

Example: python -m c2al_pipelines.benchmarks.device_figure grid.json --output rows.svg
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from c2al_tf.evaluation import ALL, REST
from c2al_tf.files import read_json, replace_file

from ..experiments.curve_figure import draw_curves
from .device_table import SLICES, arm_name


def draw(results: Sequence[Mapping[str, Any]]) -> str:
    """An SVG of what `device_grid --output` wrote of logs of several lengths."""
    keys = dict(zip(SLICES, (ALL, "head", "tail", REST), strict=True))
    entries, labels = [], {}
    for result in results:
        for arm in result["ne_diff"]:
            name = arm_name(arm)
            labels[name] = f"million rows of the log; {name}"
            for part, key in keys.items():
                ends = {end: arm[part][end] for end in ("percent", "low", "high")}
                entries.append({"curve": name, "value": result["grid"]["rows"] / 1e6, "slice": key, **ends})
    return draw_curves(entries, labels)


def main() -> None:
    """Draws the file of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="JSON file of `device_grid`")
    parser.add_argument("--output", type=Path, required=True, help="SVG file")
    given = parser.parse_args()
    with replace_file(given.output) as temporary:
        temporary.write_text(draw(read_json(given.results)))


if __name__ == "__main__":
    main()
