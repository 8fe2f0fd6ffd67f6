"""`c2al tune` in fresh worlds of synthetic clicks: its answer beside what many more seeds, and the truth, say.

In every second world the cohorts have no pairs of fields of their own: they differ in their click rates alone, so that
a task of their own has nothing to teach. A world that has its results is kept.

Example: python -m c2al_pipelines.tuning.worlds --output runs/tuned_worlds
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import jsonargparse
import numpy as np

from c2al_tf.entropy import log_loss
from c2al_tf.evaluation import ALL, REST, Evaluation
from c2al_tf.files import read_json, replace_file, write_json
from c2al_tf.training import keep_freed_memory

from ..datasets.ads_truth import measure_truth
from ..datasets.synthetic_ads import SyntheticAds, true_probabilities
from ..experiments.worlds import remove_models
from ..native_log import hide_native_notes
from ..report.terminal import console
from ..run.arms import BASELINE, C2AL
from ..run.config import RunConfig, load_config
from ..run.folder import RunFolder
from ..run.logits import split_logits
from ..run.training import train_arm
from .answer import weights_of
from .tune import Tuned, evaluate_tuned, tune_run, with_arms, with_seeds

Difference: TypeAlias = tuple[float | None, float | None, float | None]
"""NE_diff in percent with its 95 % interval."""


@dataclass(frozen=True)
class TunedWorld:
    """What came out in one world.

    Args:
        seed: Of the generator.
        planted: Whether the cohorts' clicks depend on pairs of fields of their own.
        answer: `c2al tune`'s.
        gains: Slices on which the answer rests, if it is `use`.
        cohorts: The cohorts that were chosen, in words.
        weights: The weights of their tasks, in words.
        decided: By slice NE_diff on the seeds that decided.
        many: By slice NE_diff on many seeds, those that decided among them.
        expected: NE_diff of the log loss that is expected under the true probabilities, overall, mean over many seeds.
        ne: On all test rows: the mean NE of `baseline` and of `c2al`, and of the `truth`.
    """

    seed: int
    planted: bool
    answer: str
    gains: tuple[str, ...] = ()
    cohorts: tuple[str, ...] = ()
    weights: str = ""
    decided: dict[str, Difference] = field(default_factory=dict)
    many: dict[str, Difference] = field(default_factory=dict)
    expected: float | None = None
    ne: dict[str, float] = field(default_factory=dict)

    @property
    def wrong(self) -> bool:
        """Whether the answer is `use`, and many seeds show none of its gains, or the truth none over all rows."""
        shown = any((self.many[name][2] or 0.0) < 0 for name in self.gains)
        untrue = ALL in self.gains and (self.expected or 0.0) >= 0
        return self.answer == "use" and (not shown or untrue)


def run_world(config: RunConfig, seed: int, planted: bool, seeds: int, folder: Path) -> TunedWorld:
    """Tunes in the world of a generator seed, and trains more seeds of what it chose; keeps what came out alone."""
    ads = dataclasses.replace(config.data.synthetic_ads, seed=seed, own_pairs=planted)
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, synthetic_ads=ads))
    file, made_from = folder / "world.json", {"config": config.to_json(), "seeds": seeds}
    if file.exists():
        kept = read_json(file)
        if {name: kept.pop(name, None) for name in made_from} != made_from:
            raise ValueError(f"{folder} holds a world of another configuration. Choose another --output, or remove it")
        return TunedWorld(**kept)
    run = RunFolder.start(folder, config)
    tuned = tune_run(run)
    world = _measure(run, ads, tuned, seeds) if tuned.candidates else TunedWorld(seed, planted, tuned.answer)
    write_json(file, dataclasses.asdict(world) | made_from)
    remove_models(folder)
    return world


def _measure(run: RunFolder, ads: SyntheticAds, tuned: Tuned, seeds: int) -> TunedWorld:
    assert tuned.evaluation is not None
    assert tuned.recommendation is not None
    best = tuned.candidates[0].arm
    many = with_arms(with_seeds(run, tuned.seeds[0], seeds), dataclasses.replace(best, name=C2AL))
    for name in (BASELINE, C2AL):
        for seed in many.seeds:
            train_arm(many, seed, name, scored=("test",))
    names = {
        ALL: ALL,
        **dict(zip((c.name for c in tuned.cohorts), ("head", "tail"), strict=True)),
        REST: REST,
    }
    evaluation = evaluate_tuned(many, tuned.cohorts)
    metrics = {arm: [seed["ne"] for seed in evaluation.metrics[arm][ALL]] for arm in (BASELINE, C2AL)}
    truth = measure_truth(ads, "test")[ALL].ne
    return TunedWorld(
        ads.seed,
        ads.own_pairs,
        tuned.answer,
        tuple(names[name] for name in tuned.recommendation.gains),
        tuple(map(str, tuned.cohorts)),
        weights_of(best),
        _differences(tuned.evaluation, names),
        _differences(evaluation, names),
        _expected(many, ads),
        {arm: float(np.mean(np.array(values, np.float64))) for arm, values in metrics.items()}
        | {"truth": truth or 0.0},
    )


def _differences(evaluation: Evaluation, names: dict[str, str]) -> dict[str, Difference]:
    found = {key: evaluation.ne_diff[C2AL][name] for name, key in names.items()}
    return {key: (d.percent, d.low, d.high) for key, d in found.items()}


def _expected(run: RunFolder, ads: SyntheticAds) -> float:
    """NE_diff in percent by the expected log loss of each row, -p log q - (1 - p) log(1 - q), mean over the seeds."""
    probability = true_probabilities(ads, "test")
    losses = [
        [
            float(log_loss(probability, split_logits(run, seed, arm, "test").astype(np.float64)).mean())
            for seed in run.seeds
        ]
        for arm in (BASELINE, C2AL)
    ]
    baseline, c2al = np.array(losses)
    return float(100 * (c2al / baseline - 1).mean())


def as_markdown(worlds: Sequence[TunedWorld], seeds: int) -> str:
    """The worlds as a table, and how many answers were wrong."""
    lines = [
        f"| world | planted | answer | weights | overall, deciding seeds | overall, {seeds} seeds | head | tail | "
        "overall, true probabilities | NE baseline, C2AL, truth |",
        "|---" * 10 + "|",
    ]
    for world in worlds:
        cells = [str(world.seed), "yes" if world.planted else "no", world.answer, world.weights or "-"]
        cells += [_cell(world.decided.get(ALL)), *(_cell(world.many.get(name)) for name in (ALL, "head", "tail"))]
        cells += ["-" if world.expected is None else f"{world.expected:+.3f}"]
        cells += [" ".join(f"{value:.4f}" for value in world.ne.values()) or "-"]
        lines.append("| " + " | ".join(cells) + " |")
    used = [world for world in worlds if world.answer == "use"]
    lines += [
        "",
        f"`use` in {len(used)} of {len(worlds)} worlds, {sum(w.planted for w in used)} of them planted. "
        f"{sum(w.wrong for w in used)} of these answers are wrong. One is if {seeds} seeds show none of the gains "
        "it rests on, or the true probabilities none over all rows.",
    ]
    return "\n".join(lines) + "\n"


def _cell(difference: Difference | None) -> str:
    if difference is None or difference[0] is None:
        return "-"
    percent, low, high = difference
    return f"{percent:+.2f}" + ("" if low is None or high is None else f" [{low:+.2f}, {high:+.2f}]")


def main(
    configuration: Path = Path("pipelines/configs/tuned_worlds.yaml"),
    worlds: int = 10,
    first: int = 101,
    seeds: int = 20,
    output: Path = Path("runs/tuned_worlds"),
) -> None:
    """Writes `worlds.md` and `worlds.json`, with each world as it comes.

    Args:
        configuration: YAML file of a run on synthetic clicks.
        worlds: Number of worlds; every second one has no planted difference.
        first: Generator seed of the first.
        seeds: Paired seeds that the answer is compared with, those that decided among them.
        output: Folder of the results, new or to be completed.

    Raises:
        ValueError: If the configuration is not one on synthetic clicks, or has more deciding seeds than `seeds`.
    """
    config = load_config(configuration)
    if config.data.name != "synthetic_ads" or config.seeds > seeds:
        raise ValueError(
            f"`configuration` must be of `data.name: synthetic_ads`, with at most {seeds} seeds. "
            f"Received: {configuration}: {config.data.name}, {config.seeds} seeds"
        )
    keep_freed_memory()
    found: list[TunedWorld] = []
    for number in range(worlds):
        seed = first + number
        found.append(run_world(config, seed, number % 2 == 0, seeds, output / f"world_{seed}"))
        results: list[dict[str, Any]] = [dataclasses.asdict(world) for world in found]
        write_json(output / "worlds.json", results)
        with replace_file(output / "worlds.md") as temporary:
            temporary.write_text(as_markdown(found, seeds))
    console.print(as_markdown(found, seeds))


if __name__ == "__main__":
    hide_native_notes()
    jsonargparse.auto_cli(main, as_positional=False)
