"""A run that begins where an earlier one, of yesterday say, has ended: with its schema, its cohorts and its weights."""

import dataclasses
import functools
from pathlib import Path

from c2al_tf.cohorts import find_drift
from c2al_tf.storage import opened, shown

from .config import GivenCohort, RunConfig
from .folder import RunFolder, read_config


def earlier_run(config: RunConfig) -> RunFolder | None:
    """The run that `warm_start` names.

    Raises:
        ValueError: If there is none.
    """
    return None if config.warm_start is None else _open(config.warm_start)


@functools.lru_cache(maxsize=1)
def _open(place: Path) -> RunFolder:
    path = opened(place)
    if not (path / "cohorts.json").exists():
        raise ValueError(f"`warm_start` must be the folder of a run with trained models. Received: {shown(path)}")
    return RunFolder(path, read_config(path / "config.json"))


def with_earlier_cohorts(config: RunConfig) -> RunConfig:
    """The configuration with the cohorts of the earlier run as given ones, if there is one.

    Raises:
        ValueError: If the models of that run are not those that this one would train on: other sizes, arms, seeds or
            cohorts.
    """
    earlier = earlier_run(config)
    if earlier is None:
        return config
    given = tuple(GivenCohort.of(cohort) for cohort in earlier.cohorts)
    if config.cohorts.given not in ((), given):
        raise ValueError(
            "With `warm_start` the cohorts are the earlier run's, whose heads have learnt them: leave out `given`. "
            f"Received: {[cohort.name for cohort in config.cohorts.given]}, there {[cohort.name for cohort in given]}"
        )
    if config.cohorts.divergence != earlier.discovery.divergence:
        raise ValueError(
            f"`warm_start` needs the `divergence` of {earlier.path}, {earlier.discovery.divergence!r}. "
            f"Received: {config.cohorts.divergence!r}"
        )
    now = RunFolder(earlier.path, config)
    for name, arm in now.arms.items():
        if arm.start is not None:
            continue
        if name not in earlier.arms:
            raise ValueError(f"`warm_start`: {earlier.path} has no arm `{name}`. It has: {', '.join(earlier.arms)}")
        if arm.model_of(config.model) != earlier.arms[name].model_of(earlier.config.model):
            raise ValueError(
                f"`warm_start` needs the `model` that {earlier.path} has. Received: another, in arm `{name}`"
            )
        for seed in now.seeds_of(name):
            earlier.model_file(seed, name)
    cohorts = dataclasses.replace(config.cohorts, given=given)
    return dataclasses.replace(config, cohorts=cohorts, warm_start=Path(shown(earlier.path.resolve())))


def drift_of(run: RunFolder) -> list[str]:
    """What is no longer as in the earlier run, by `find_drift`; nothing without one, or of a single cohort."""
    earlier = earlier_run(run.config)
    if earlier is None:
        return []
    # Of more than two cohorts the most divergent pair of all may not be among them.
    used = [pair for pair in earlier.discovery.pairs if {*pair.cohorts} <= {*earlier.cohorts}]
    pair = next((pair for pair in used if pair.accepted), used[0] if used else None)
    return [] if pair is None else find_drift(earlier.discovery, run.discovery, pair)
