"""How often discovery finds the planted pair: rows, one baseline and discovery for each seed of the generator.

Example: python -m c2al_pipelines.benchmarks.planted_pair --worlds 10 --output planted_pair.json
"""

import dataclasses
import tempfile
from pathlib import Path
from typing import Any

import jsonargparse
import numpy as np

from c2al_tf.cohorts import Cohort
from c2al_tf.data.columns.readers import read_columns
from c2al_tf.data.columns.shards import split_files
from c2al_tf.files import write_json
from c2al_tf.types import Columns

from ..datasets.synthetic_ads import planted_cohorts
from ..run.config import load_config
from ..run.folder import RunFolder
from ..run.steps import prepare_run
from ..run.targets import discover_run
from ..run.training import train_arm


def find_planted_pair(config_file: Path, world: int, num_rows: int) -> dict[str, Any]:
    """Runs the demo up to discovery in the world of a generator seed.

    Returns:
        The pair found, and for each cohort the share of validation rows in common with the planted one.
    """
    config = load_config(config_file)
    ads = dataclasses.replace(config.data.synthetic_ads, seed=world, num_rows=num_rows, test_rows=1)
    config = dataclasses.replace(config, seeds=1, data=dataclasses.replace(config.data, synthetic_ads=ads))
    with tempfile.TemporaryDirectory() as folder:
        run = RunFolder.start(Path(folder), config)
        prepare_run(run)
        train_arm(run, config.first_seed, "baseline")
        discover_run(run)
        found, planted = run.cohorts, planted_cohorts(ads)
        columns = {name: run.schema.columns[name] for cohort in (*found, *planted) for name in cohort.columns}
        overlap = [
            np.mean([_overlap(a, b, rows) for rows in read_columns(split_files(run.path, "validation"), columns)])
            for a, b in zip(found, planted, strict=True)
        ]
    return {"world": world, "found": [str(cohort) for cohort in found], "overlap": [float(share) for share in overlap]}


def _overlap(a: Cohort, b: Cohort, rows: Columns) -> float:
    """Rows in both over rows in either."""
    in_a, in_b = a.contains(rows), b.contains(rows)
    return float((in_a & in_b).sum() / max(int((in_a | in_b).sum()), 1))


def main(
    config: Path = Path("pipelines/configs/demo.yaml"),
    worlds: int = 10,
    rows: int = 4_000_000,
    output: Path = Path("planted_pair.json"),
) -> None:
    """Prints and writes how often the pair found is the planted one.

    Args:
        config: Configuration of the demo.
        worlds: Generator seeds 1 to this.
        rows: Training rows of each.
        output: JSON file.
    """
    results = []
    for world in range(1, worlds + 1):
        results.append(find_planted_pair(config, world, rows))
        print(results[-1], flush=True)
        write_json(output, results)
    print(f"planted pair found: {sum(min(r['overlap']) > 0.9 for r in results)} of {worlds}")


if __name__ == "__main__":
    jsonargparse.auto_cli(main, as_positional=False)
