"""What a run is: data, model, training, cohorts, seeds. Frozen values, filled from YAML and the command line."""

import dataclasses
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import jsonargparse

from c2al_tf.cohorts import Axis, Guard
from c2al_tf.config import ModelConfig, TrainingConfig

from ..datasets.files import Files
from ..datasets.synthetic_ads import SyntheticAds


@dataclass(frozen=True)
class DataConfig:
    """Where the rows come from.

    Args:
        name: `synthetic_ads` (generated), `census`, `movielens`, or `files` for your own.
        path: Folder of the files. None: `census` and `movielens` are downloaded.
        synthetic_ads: What is generated, with `name: synthetic_ads`.
        files: Your files, with `name: files`.
    """

    name: Literal["synthetic_ads", "census", "movielens", "files"]
    path: Path | None = None
    synthetic_ads: SyntheticAds = field(default_factory=SyntheticAds)
    files: Files | None = None


@dataclass(frozen=True)
class CohortsConfig:
    """How the cohorts are found and how much they weigh.

    Args:
        axes: What to cut along. Empty: every semantic axis of the data set, at its default cuts.
        divergence: The measure that ranks the pairs.
        num_cohorts: Number of cohorts, each with an auxiliary head.
        guard: What a pair must pass.
        lambdas: Weight of the auxiliary losses: one for all cohorts, or one for each, the head cohort's first.
    """

    axes: tuple[Axis, ...] = ()
    divergence: Literal["js", "kl", "wasserstein", "cosine"] = "js"
    num_cohorts: int = 2
    guard: Guard = field(default_factory=Guard)
    lambdas: tuple[float, ...] = (0.1,)

    def __post_init__(self) -> None:
        if len(self.lambdas) not in (1, self.num_cohorts):
            raise ValueError(
                f"`lambdas` must hold one value, or one for each of the {self.num_cohorts} cohorts. "
                f"Received: lambdas={self.lambdas}"
            )


@dataclass(frozen=True)
class RunConfig:
    """A whole run.

    Args:
        title: What the report says was run.
        data: Where the rows come from.
        model: Sizes of the model.
        training: How each model is trained.
        cohorts: How the cohorts are found and how much they weigh.
        seeds: Number of paired seeds, each a baseline and a C2AL model with the same initialisation and row order.
        first_seed: The first of them.
        unit: Column of an id (a user, say) whose rows are resampled together in the intervals. None: every row alone.
    """

    title: str
    data: DataConfig
    model: ModelConfig = field(default_factory=ModelConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    cohorts: CohortsConfig = field(default_factory=CohortsConfig)
    seeds: int = 3
    first_seed: int = 0
    unit: str | None = None

    def __post_init__(self) -> None:
        for name, least in (("seeds", 1), ("first_seed", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"`{name}` must be at least {least}. Received: {name}={getattr(self, name)}")

    def to_json(self) -> dict[str, Any]:
        """The configuration as plain JSON values."""
        return _plain(dataclasses.asdict(self))


def load_config(file: Path) -> RunConfig:
    """Reads a run's configuration, YAML or a run folder's `config.json`.

    Raises:
        jsonargparse.ArgumentError: If a key is unknown or a value has the wrong type.
    """
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(RunConfig)
    values = parser.instantiate(parser.parse_path(file))
    return RunConfig(**{field.name: values[field.name] for field in dataclasses.fields(RunConfig)})


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and math.isinf(value):
        return ".inf" if value > 0 else "-.inf"  # as YAML writes what JSON has no word for
    return str(value) if isinstance(value, Path) else value
