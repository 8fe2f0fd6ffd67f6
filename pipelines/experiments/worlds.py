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

from c2al_tf.cohorts import Cohort
from c2al_tf.evaluation import ALL, REST
from c2al_tf.files import read_json, replace_file, write_json

from ..datasets.synthetic_ads import SyntheticAds, planted_cohorts
from ..native_log import hide_native_notes
from ..report.terminal import console
from ..run.arms import C2AL
from ..run.config import RunConfig, load_config
from ..run.folder import RunFolder
from ..run.rows import read_split
from .experiment import run_experiment

_SLICES = (ALL, "head", "tail", REST)

FOUND = 0.9
"""Share of rows in common, of those in either, from which a cohort counts as the planted one."""


@dataclass(frozen=True)
class World:
    """What came out in one world.

    Args:
        seed: Of the generator.
        overlap: Validation rows that are in the cohort found and in the planted one, over those in one of them, for
            head and tail.
        ne_diff: By slice (`all`, `head`, `tail`, `rest`) the figure in percent with its 95 % interval; empty if no pair
            passed the guard.
        worse: Slices that are called worse.
        slices: Number of slices that could have been.
    """

    seed: int
    overlap: tuple[float, float]
    ne_diff: dict[str, tuple[float | None, float | None, float | None]]
    worse: tuple[str, ...]
    slices: int

    @property
    def found(self) -> bool:
        """Whether the pair is the planted one."""
        return min(self.overlap) > FOUND

    @property
    def tail_gains(self) -> bool:
        """Whether the whole interval of the tail cohort lies below 0."""
        high = self.ne_diff["tail"][2] if self.ne_diff else None
        return high is not None and high < 0


def run_world(config: RunConfig, seed: int, folder: Path) -> World:
    """Runs baseline and C2AL in the world of a generator seed; keeps what came out, and neither rows nor models.

    Raises:
        ValueError: If the folder holds the world of another configuration.
    """
    file = folder / "world.json"
    ads = dataclasses.replace(config.data.synthetic_ads, seed=seed)
    run = RunFolder(folder, dataclasses.replace(config, data=dataclasses.replace(config.data, synthetic_ads=ads)))
    if file.exists():
        kept = read_json(file)
        if kept.pop("config", None) != run.config.to_json():
            raise ValueError(f"{folder} holds a world of another configuration. Choose another --output, or remove it")
        remove_models(folder)
        return World(**kept)
    world = _measure(RunFolder.start(folder, run.config), ads)
    write_json(file, dataclasses.asdict(world) | {"config": run.config.to_json()})
    remove_models(folder)
    return world


def remove_models(folder: Path) -> None:
    """Removes rows and models of a world, which has its results."""
    for made in ("data", "encoded", "seeds"):
        shutil.rmtree(folder / made, ignore_errors=True)


def _measure(run: RunFolder, ads: SyntheticAds) -> World:
    try:
        (result,) = run_experiment(run)
    except ValueError as error:
        if not (run.path / "cohorts.json").exists() or any(pair.accepted for pair in run.discovery.pairs):
            raise
        console.print(f"World {ads.seed}: {error}")
        return World(ads.seed, (0.0, 0.0), {}, (), 0)
    names = dict(zip(_SLICES, (ALL, *(c.name for c in run.cohorts), REST), strict=True))
    differences = {key: result.difference(name) for key, name in names.items()}
    claims = result.evaluation.claims[C2AL]
    return World(
        ads.seed,
        _overlap(run, planted_cohorts(ads)),
        {key: (d.percent, d.low, d.high) for key, d in differences.items()},
        claims.worse,
        len(result.evaluation.ne_diff[C2AL]),
    )


def _overlap(run: RunFolder, planted: Sequence[Cohort]) -> tuple[float, float]:
    columns = read_split(run, "validation", {name for cohort in (*run.cohorts, *planted) for name in cohort.columns})
    masks = [(a.contains(columns), b.contains(columns)) for a, b in zip(run.cohorts, planted, strict=True)]
    head, tail = (float((a & b).sum() / max(int((a | b).sum()), 1)) for a, b in masks)
    return head, tail


def as_markdown(worlds: Sequence[World]) -> str:
    """The worlds as a table, and how many of them answer."""
    lines = ["| world | planted pair found | overall | head | tail | everyone else | called worse |", "|---" * 7 + "|"]
    for world in worlds:
        cells = [_cell(*world.ne_diff.get(key, (None,) * 3)) for key in _SLICES]
        worse = ", ".join(world.worse) or "none"
        lines.append("| " + " | ".join([str(world.seed), "yes" if world.found else "no", *cells, worse]) + " |")
    known = [[p for w in worlds if w.ne_diff and (p := w.ne_diff[key][0]) is not None] for key in _SLICES]
    means = [f"{sum(values) / len(values):+.3f}" if values else "-" for values in known]
    lines.append("| mean | | " + " | ".join(means) + " | |")
    lines += [
        "",
        f"The planted pair is found in {sum(w.found for w in worlds)} of {len(worlds)} worlds. The tail cohort's "
        f"interval lies below 0 in {sum(w.tail_gains for w in worlds)}. The evaluation calls "
        f"{sum(len(w.worse) for w in worlds)} of {sum(w.slices for w in worlds)} slices worse.",
    ]
    return "\n".join(lines) + "\n"


def _cell(percent: float | None, low: float | None, high: float | None) -> str:
    if percent is None:
        return "-"
    return f"{percent:+.2f}" + ("" if low is None or high is None else f" [{low:+.2f}, {high:+.2f}]")


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
        first: Generator seed of the first; the table holds the worlds of this call.
        output: Folder of the results, new or to be completed.

    Raises:
        ValueError: If the configuration is not one of two cohorts on synthetic clicks, without `arms`.
    """
    config = load_config(configuration)
    cohorts = config.cohorts
    if config.data.name != "synthetic_ads" or config.arms or cohorts.given or cohorts.num_cohorts != 2:
        raise ValueError(
            "`configuration` must be of `data.name: synthetic_ads`, with two cohorts to be found and without `arms`. "
            f"Received: {configuration}"
        )
    found: list[World] = []
    for seed in range(first, first + worlds):
        found.append(run_world(config, seed, output / f"world_{seed}"))
        results: list[dict[str, Any]] = [dataclasses.asdict(world) for world in found]
        write_json(output / "worlds.json", results)
        with replace_file(output / "worlds.md") as temporary:
            temporary.write_text(as_markdown(found))
    console.print(as_markdown(found))


if __name__ == "__main__":
    hide_native_notes()
    jsonargparse.auto_cli(main, as_positional=False)
