"""An experiment on synthetic clicks in fresh worlds: how often the planted pair is found, and what its cohorts gain.

Each world is the configuration's with another seed of the generator. A world that has its results is kept.

Example: python -m c2al_pipelines.experiments.worlds --worlds 10 --output runs/worlds
"""

import dataclasses
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonargparse
import numpy as np

from c2al_tf.cohorts import Cohort
from c2al_tf.evaluation import ALL, REST
from c2al_tf.files import read_json, replace_file, write_json

from ..datasets.synthetic_ads import planted_cohorts
from ..native_log import hide_native_notes
from ..run.arms import C2AL
from ..run.config import RunConfig, load_config
from ..run.folder import RunFolder
from ..run.rows import read_split
from ..run.run import console
from .experiment import run_experiment

FOUND = 0.9
"""Share of rows in common, of those in either, from which a cohort counts as the planted one."""


@dataclass(frozen=True)
class World:
    """What came out in one world.

    Args:
        seed: Of the generator.
        overlap: Of the head and the tail cohort, the validation rows in common with the planted one over those in
            either.
        ne_diff: By slice (`all`, `head`, `tail`, `rest`) the figure in percent with its 95 % interval.
        worse: Slices that are called worse.
        slices: Number of slices that could have been.
    """

    seed: int
    overlap: tuple[float, float]
    ne_diff: dict[str, tuple[float, float, float]]
    worse: tuple[str, ...]
    slices: int

    @property
    def found(self) -> bool:
        """Whether the pair is the planted one."""
        return min(self.overlap) > FOUND

    @property
    def tail_gains(self) -> bool:
        """Whether the whole interval of the tail cohort lies below 0."""
        return self.ne_diff["tail"][2] < 0


def run_world(config: RunConfig, seed: int, folder: Path) -> World:
    """Runs baseline and C2AL in the world of a generator seed; keeps what came out, and neither rows nor models."""
    file = folder / "world.json"
    if file.exists():
        return World(**read_json(file))
    ads = dataclasses.replace(config.data.synthetic_ads, seed=seed)
    run = RunFolder.start(folder, dataclasses.replace(config, data=dataclasses.replace(config.data, synthetic_ads=ads)))
    (result,) = run_experiment(run)
    names = dict(zip((ALL, "head", "tail", REST), (ALL, *(c.name for c in run.cohorts), REST), strict=True))
    differences = {key: result.difference(name) for key, name in names.items()}
    claims = result.evaluation.claims[C2AL]
    world = World(
        seed,
        _overlap(run, planted_cohorts(ads)),
        {key: (d.percent or 0.0, d.low or 0.0, d.high or 0.0) for key, d in differences.items()},
        claims.worse,
        len(result.evaluation.ne_diff[C2AL]),
    )
    write_json(file, dataclasses.asdict(world))
    for made in ("data", "encoded", "seeds"):
        shutil.rmtree(folder / made, ignore_errors=True)
    return world


def _overlap(run: RunFolder, planted: Sequence[Cohort]) -> tuple[float, float]:
    columns = read_split(run, "validation", {name for cohort in (*run.cohorts, *planted) for name in cohort.columns})
    masks = [(a.contains(columns), b.contains(columns)) for a, b in zip(run.cohorts, planted, strict=True)]
    head, tail = (float((a & b).sum() / max(int((a | b).sum()), 1)) for a, b in masks)
    return head, tail


def as_markdown(worlds: Sequence[World]) -> str:
    """The worlds as a table, and how many of them answer."""
    lines = ["| world | planted pair found | overall | head | tail | everyone else | called worse |", "|---" * 7 + "|"]
    for world in worlds:
        cells = [f"{p:+.2f} [{low:+.2f}, {high:+.2f}]" for p, low, high in world.ne_diff.values()]
        worse = ", ".join(world.worse) or "none"
        lines.append("| " + " | ".join([str(world.seed), "yes" if world.found else "no", *cells, worse]) + " |")
    mean = [np.mean([world.ne_diff[key][0] for world in worlds]) for key in worlds[0].ne_diff]
    lines.append("| mean | | " + " | ".join(f"{value:+.3f}" for value in mean) + " | |")
    lines += [
        "",
        f"The planted pair is found in {sum(w.found for w in worlds)} of {len(worlds)} worlds. The tail cohort's "
        f"interval lies below 0 in {sum(w.tail_gains for w in worlds)}. Of {sum(w.slices for w in worlds)} slices "
        f"{sum(len(w.worse) for w in worlds)} are called worse.",
    ]
    return "\n".join(lines) + "\n"


def main(
    configuration: Path = Path("pipelines/configs/demo.yaml"),
    worlds: int = 10,
    first: int = 1,
    output: Path = Path("runs/worlds"),
) -> None:
    """Writes `worlds.md` and `worlds.json`, with each world as it comes.

    Args:
        configuration: YAML file of a run on synthetic clicks.
        worlds: Number of worlds.
        first: Generator seed of the first.
        output: Folder of the results, new or to be completed.
    """
    found: list[World] = []
    for seed in range(first, first + worlds):
        found.append(run_world(load_config(configuration), seed, output / f"world_{seed}"))
        results: list[dict[str, Any]] = [dataclasses.asdict(world) for world in found]
        write_json(output / "worlds.json", results)
        with replace_file(output / "worlds.md") as temporary:
            temporary.write_text(as_markdown(found))
    console.print(as_markdown(found))


if __name__ == "__main__":
    hide_native_notes()
    jsonargparse.auto_cli(main, as_positional=False)
