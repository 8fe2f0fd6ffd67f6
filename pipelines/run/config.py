"""What a run is: data, model, training, cohorts, seeds. Frozen values, filled from YAML and the command line."""

import dataclasses
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import jsonargparse

from c2al_tf.cohorts import Axis, Cohort, Guard, Interval, Values
from c2al_tf.config import ModelConfig, TrainingConfig
from c2al_tf.data.preparation.negatives import check_share
from c2al_tf.evaluation import ALL, REST
from c2al_tf.evaluation.recommendation import WORTH
from c2al_tf.fields import check_fields

from ..datasets.files import Files
from ..datasets.synthetic_ads import SyntheticAds
from .arms import Arm, check_arms

_SLICES = frozenset({ALL, REST})
"""Slices of every evaluation: all test rows, and those in no targeted cohort."""


@dataclass(frozen=True)
class DataConfig:
    """Where the rows come from.

    Args:
        name: `synthetic_ads` (generated), `census`, `movielens`, or `files` for your own.
        path: Folder of the files. None: `census` and `movielens` are downloaded.
        synthetic_ads: What is generated, with `name: synthetic_ads`.
        files: Your files, with `name: files`.
        negative_sampling: Share, in (0, 1], of the training rows with label 0 to be kept, at the inverse weight: where
            positives are rare, 0.1 gives nearly the information of all rows for a tenth of the time. Validation and
            test rows stay whole. None: every row is kept.
    """

    name: Literal["synthetic_ads", "census", "movielens", "files"]
    path: Path | None = None
    synthetic_ads: SyntheticAds = field(default_factory=SyntheticAds)
    files: Files | None = None
    negative_sampling: float | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        check_share(self.negative_sampling)


@dataclass(frozen=True)
class GivenCondition:
    """A condition on one raw column: it has one of some values, or low <= column < high.

    Args:
        column: Name of the column.
        values: Strings, integers or booleans, as YAML has them: a quoted `"18"` or `"yes"` is a string.
        low: Lowest value inside; none if not given.
        high: Lowest value above; none if not given.
    """

    column: str
    # Not `tuple[str | int | bool, ...]` and not `Any`: with these jsonargparse reads a quoted "18" as a number.
    values: tuple[str, ...] | tuple[int, ...] | tuple[bool, ...] | None = None
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        if (self.values is None) == (self.low is None and self.high is None):
            raise ValueError(
                f"A condition on column `{self.column}` must give `values`, or `low`, `high` or both. "
                f"Received: values={self.values}, low={self.low}, high={self.high}"
            )
        self.condition()

    def condition(self) -> Values | Interval:
        """What the library calls it."""
        if self.values is not None:
            return Values(self.column, self.values)
        low, high = -math.inf if self.low is None else self.low, math.inf if self.high is None else self.high
        return Interval(self.column, low, high)


@dataclass(frozen=True)
class GivenCohort:
    """A cohort of your own: the rows on which all conditions hold.

    Args:
        name: Name of the cohort's task: letters, digits, `_` and `-`.
        conditions: One or more, each on a column of its own.
    """

    name: str
    conditions: tuple[GivenCondition, ...]

    def __post_init__(self) -> None:
        self.cohort()

    @classmethod
    def of(cls, cohort: Cohort) -> "GivenCohort":
        """The configuration that gives a cohort."""
        return cls(cohort.name, tuple(_given(condition) for condition in cohort.conditions))

    def cohort(self) -> Cohort:
        """What the library calls it."""
        return Cohort(self.name, tuple(condition.condition() for condition in self.conditions))


def _given(condition: Values | Interval) -> GivenCondition:
    if isinstance(condition, Values):
        return GivenCondition(condition.column, values=condition.values)
    if math.isinf(condition.low) and math.isinf(condition.high):
        return GivenCondition(condition.column, low=condition.low)  # every value but a missing one
    low, high = (None if math.isinf(edge) else edge for edge in (condition.low, condition.high))
    return GivenCondition(condition.column, low=low, high=high)


@dataclass(frozen=True)
class CohortsConfig:
    """How the cohorts are found and how much they weigh.

    Args:
        axes: What to cut along. Empty: every semantic axis of the data set, at its default cuts.
        given: Cohorts of your own, each a name and conditions, which get the auxiliary heads instead of those found.
            They are checked and reported like these.
        divergence: The measure that ranks the pairs.
        num_cohorts: Number of cohorts to be found, each with an auxiliary head.
        guard: What a pair must pass.
        lambdas: Weight of the auxiliary losses: one for all cohorts, or one for each, the head cohort's first.
    """

    axes: tuple[Axis, ...] = ()
    given: tuple[GivenCohort, ...] = ()
    divergence: Literal["js", "kl", "wasserstein", "cosine"] = "js"
    num_cohorts: int = 2
    guard: Guard = field(default_factory=Guard)
    lambdas: tuple[float, ...] = (0.1,)

    def __post_init__(self) -> None:
        check_fields(self)
        names = [cohort.name for cohort in self.given]
        if len(set(names)) < len(names):
            raise ValueError(f"Cohorts in `given` must have distinct names. Received: {names}")
        if reserved := _SLICES.intersection(names):
            raise ValueError(
                f"Cohorts in `given` must not be named {sorted(_SLICES)}: evaluation has slices of these names. "
                f"Received: {sorted(reserved)}"
            )
        if self.num_cohorts < 2:
            raise ValueError(
                "`num_cohorts` must be at least 2: cohorts are found in pairs; for one of your own use `given`. "
                f"Received: num_cohorts={self.num_cohorts}"
            )
        if not all(0 <= weight < math.inf for weight in self.lambdas):
            raise ValueError(f"`lambdas` must be finite and at least 0 each. Received: lambdas={self.lambdas}")
        num_heads = len(self.given) or self.num_cohorts
        if len(self.lambdas) not in (1, num_heads):
            raise ValueError(
                f"`lambdas` must hold one value, or one for each of the {num_heads} cohorts. "
                f"Received: lambdas={self.lambdas}"
            )


@dataclass(frozen=True)
class TuneConfig:
    """What `c2al tune` may try, and for how long.

    Args:
        budget: Models with cohort tasks after which the search begins no other configuration, at least 1; the baselines
            and the models that decide come on top.
        search_seeds: Paired seeds of a configuration that stays in the search to its end. They decide nothing.
        pairs: Most pairs of cohorts to choose among: the most divergent accepted ones, of each axis at most two.
        least_lambda: Lowest lambda to try, above 0.
        most_lambda: Highest lambda to try.
        worth: Percent of NE overall below which a gain is not worth looking for.
    """

    budget: int = 24
    search_seeds: int = 3
    pairs: int = 6
    least_lambda: float = 0.03
    most_lambda: float = 2.0
    worth: float = WORTH

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("budget", "search_seeds", "pairs"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1. Received: {name}={getattr(self, name)}")
        if not 0 < self.least_lambda < self.most_lambda < math.inf:
            raise ValueError(
                "Lambdas must be 0 < least_lambda < most_lambda. "
                f"Received: least_lambda={self.least_lambda}, most_lambda={self.most_lambda}"
            )
        if not 0 < self.worth < math.inf:
            raise ValueError(f"`worth` must be above 0, in percent of NE. Received: worth={self.worth}")


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
        first_seed: The first of them. The seeds of `c2al tune`'s search come first, those that decide after them.
        arms: What is compared, by `c2al experiment`. Empty: the baseline, and C2AL on the cohorts above.
        unit: Column of an id (a user, say) whose rows are not independent: they are resampled together, in discovery
            and in evaluation. None: every row alone.
        yardstick: Whether scikit-learn's gradient boosting is trained too, on at most a million rows, to say whether
            the baseline is worth beating.
        probe: Whether `c2al experiment` measures how well a linear model tells the targeted cohorts by the
            representation h of every model.
        tune: What `c2al tune` may try.
        warm_start: Folder of an earlier run, of yesterday's rows say. This one begins with its schema (vocabularies,
            buckets, scaling), its cohorts, and the weights of each of its models; optimizers begin anew. What has
            drifted is said.
    """

    title: str
    data: DataConfig
    model: ModelConfig = field(default_factory=ModelConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    cohorts: CohortsConfig = field(default_factory=CohortsConfig)
    seeds: int = 3
    first_seed: int = 0
    arms: tuple[Arm, ...] = ()
    unit: str | None = None
    yardstick: bool = False
    probe: bool = False
    tune: TuneConfig = field(default_factory=TuneConfig)
    warm_start: Path | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        for name, least in (("seeds", 1), ("first_seed", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"`{name}` must be at least {least}. Received: {name}={getattr(self, name)}")
        check_arms(self.arms, self.seeds)

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
