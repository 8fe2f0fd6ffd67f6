"""Arms: what is trained, and how each differs from the baseline. Frozen values, filled from YAML."""

import dataclasses
import math
import re
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, TypeVar

from c2al_tf.cohorts import Axis
from c2al_tf.config import ModelConfig, TrainingConfig
from c2al_tf.data.inputs.labels import LabelDesign
from c2al_tf.fields import check_fields

BASELINE, C2AL = "baseline", "c2al"
"""The arms of a run, and of an experiment that names none."""

Objective: TypeAlias = Literal[
    "sum", "parallel", "orthogonal", "pcgrad", "uncertainty", "group_dro", "reweighting", "min_diff"
]
WITHOUT_TASKS = ("group_dro", "reweighting", "min_diff")
"""Objectives that read who is in a cohort, and give it no task."""
WITHOUT_LAMBDAS = ("group_dro", "uncertainty")
"""Objectives that find weights of their own."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_Config = TypeVar("_Config", ModelConfig, TrainingConfig)


@dataclass(frozen=True)
class Choice:
    """How the cohorts of an arm are chosen.

    Args:
        by: `targeted`: those that the run targets, given or found. `rank`: the pair of that `rank` among the accepted
            ones. `least`: the pair, of those large enough, that diverges least. `random`: rows drawn at random, as many
            and with as many positives as each targeted cohort has.
        number: Number of cohorts, with `targeted` ones that are found. None: the run's.
        rank: Place of the pair, the most divergent first, from 0.
        divergence: The measure that ranks. None: the run's.
        axes: What to cut along, with cuts of its own. Empty: what the run cuts.
        crosses: Number of crosses of two of the run's axes to be cut beside them; 0: none. Those of the axes whose
            cohorts diverge most come first.
        clusters: Number of clusters in the baseline's representation h, whose descriptions by raw columns are the
            cohorts to choose among; see `describe_clusters`. 0: none.
        draw: Another number draws other rows, with `random`.
        only: One of the pair alone gets a task. None: both.
        guard: Whether a pair, or every two of `number` cohorts, must pass the guard.
    """

    by: Literal["targeted", "rank", "least", "random"] = "targeted"
    number: int | None = None
    rank: int = 0
    divergence: Literal["js", "kl", "wasserstein", "cosine"] | None = None
    axes: tuple[Axis, ...] = ()
    crosses: int = 0
    clusters: int = 0
    draw: int = 0
    only: Literal["head", "tail"] | None = None
    guard: bool = True

    def __post_init__(self) -> None:
        check_fields(self)
        for name, least in (("rank", 0), ("draw", 0), ("crosses", 0), ("number", 2)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"`{name}` must be at least {least}. Received: {name}={value}")
        if self.clusters and self.clusters < 2:
            raise ValueError(f"`clusters` must be at least 2, or 0. Received: clusters={self.clusters}")
        if sum(map(bool, (self.axes, self.crosses, self.clusters))) > 1:
            raise ValueError(f"A choice has one of `axes`, `crosses` and `clusters`. Received: {self}")
        read = _READ[self.by]
        ignored = sorted(f.name for f in dataclasses.fields(self) if f.name not in read and not self._is_default(f))
        unguarded = self.by == "targeted" and not self.guard and not self.number
        if ignored or unguarded or (self.number and self.only):
            raise ValueError(
                f"With `by: {self.by}` a choice reads {sorted(read)}, not `number` together with `only`, and of "
                f"targeted cohorts `guard` with `number` alone. Received: {self}"
            )

    @property
    def cuts(self) -> tuple[Any, ...]:
        """What it cuts in place of the run's axes; all empty if it reads the run's discovery."""
        return self.axes, self.crosses, self.clusters

    def _is_default(self, field: "dataclasses.Field[Any]") -> bool:
        return field.name == "by" or getattr(self, field.name) == field.default


_READ_OF_PAIRS = {"rank", "divergence", "axes", "crosses", "clusters", "only"}
_READ = {
    "targeted": {"number", "only", "guard"},
    "rank": _READ_OF_PAIRS | {"guard"},
    "least": _READ_OF_PAIRS,  # the least divergent pairs are those that the guard refuses
    "random": {"draw", "only"},
}


@dataclass(frozen=True)
class Arm:
    """One way to train, compared with its reference arm over paired seeds.

    Args:
        name: Its name in every table.
        cohorts: How the cohorts that get an auxiliary task are chosen. None: no auxiliary task.
        labels: What a cohort's task learns: `conflict` y 1[x in C] (the paper's), `membership` 1[x in C], or `masked` y
            on members alone.
        objective: How the losses are put together: `sum` (the paper's); of each auxiliary gradient only its part
            `parallel` or `orthogonal` to the primary's; `pcgrad`, gradients without what conflicts; `uncertainty`,
            weights of tasks that are learnt. Without tasks: `group_dro`, which weighs cohorts by their loss;
            `reweighting`, in which a cohort's rows weigh 1 + lambda; `min_diff`, lambda times what tells the two
            cohorts' negatives apart.
        lambdas: Weight of the auxiliary losses, one for all or one for each. None: the run's.
        total_lambda: Whether `lambdas` is shared among the cohorts: each has its part of it.
        lambda_decay: Whether the lambdas fall to 0 over the training, by a cosine: the last steps are the primary
            task's.
        start: The arm, before this one, whose trained weights of the same seed this one starts from, heads of cohorts
            apart; it then passes over the rows again. None: initial values.
        frozen: What of the attention is frozen: the `weights` that make it, or its `activations`, through which no
            gradient passes then; see `freeze_attention`. None: nothing.
        frozen_at: The values at which it is frozen: the `initial` ones, or those that the `reference` ends with.
        model: Keys of the model's configuration that differ from the run's.
        training: Keys of the training's configuration that differ from the run's.
        reference: The arm that it is compared with.
        seeds: Number of paired seeds. None: the run's.
    """

    name: str
    cohorts: Choice | None = None
    labels: LabelDesign = "conflict"
    objective: Objective = "sum"
    lambdas: tuple[float, ...] | None = None
    total_lambda: bool = False
    lambda_decay: bool = False
    start: str | None = None
    frozen: Literal["weights", "activations"] | None = None
    frozen_at: Literal["initial", "reference"] = "initial"
    model: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    reference: str = BASELINE
    seeds: int | None = None

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(
                "An arm's `name` must consist of letters, digits, `_`, `.` and `-`, and begin with a letter or digit. "
                f"Received: name={self.name!r}"
            )
        check_fields(self)
        if self.cohorts is None and (self.lambdas is not None or self.objective != "sum"):
            raise ValueError(
                f"Arm `{self.name}` has no cohorts, and so no lambda and no objective but the sum. Received: "
                f"lambdas={self.lambdas}, objective={self.objective!r}"
            )
        if self.lambdas is not None and not (self.lambdas and all(0 <= weight < math.inf for weight in self.lambdas)):
            raise ValueError(f"`lambdas` must be finite and at least 0 each. Received: lambdas={self.lambdas}")
        if self.objective in WITHOUT_TASKS and self.labels != "conflict":
            raise ValueError(f"Arm `{self.name}`: `{self.objective}` has no auxiliary tasks, so no `labels`.")
        if self.objective in WITHOUT_LAMBDAS and self.lambdas is not None:
            raise ValueError(
                f"Arm `{self.name}`: `{self.objective}` finds its own weights, so no `lambdas`. "
                f"Received: lambdas={self.lambdas}"
            )
        if self.lambda_decay and (self.cohorts is None or self.objective in WITHOUT_LAMBDAS):
            raise ValueError(f"Arm `{self.name}`: `lambda_decay` needs lambdas. Received: objective={self.objective!r}")
        if self.frozen_at == "reference" and self.frozen is None:
            raise ValueError(f"Arm `{self.name}`: `frozen_at` needs `frozen`. Received: frozen=None")
        if "jit_compile" in self.training:
            raise ValueError(f"Arm `{self.name}`: `jit_compile` is the run's. Received: training={self.training}")
        if self.seeds is not None and self.seeds < 1:
            raise ValueError(f"`seeds` must be at least 1. Received: seeds={self.seeds}")
        self.model_of(ModelConfig())
        self.training_of(TrainingConfig())

    def model_of(self, config: ModelConfig) -> ModelConfig:
        """The model's configuration: the run's, with what differs here."""
        return _with(config, self.model, f"arm `{self.name}`: `model`")

    def training_of(self, config: TrainingConfig) -> TrainingConfig:
        """The training's configuration: the run's, with what differs here."""
        return _with(config, self.training, f"arm `{self.name}`: `training`")


def check_arms(arms: tuple[Arm, ...], seeds: int) -> None:
    """Raises ValueError unless arms have distinct names, and each its reference and its start before it.

    An arm's reference and start must have at least as many seeds as the arm.
    The baseline is among them, has no cohorts and is its own reference; no other arm is its own.
    """
    by_name = {arm.name: arm for arm in arms}
    if len(by_name) < len(arms):
        raise ValueError(f"Arms must have distinct names. Received: {[arm.name for arm in arms]}")
    if arms and (BASELINE not in by_name or by_name[BASELINE].cohorts or by_name[BASELINE].reference != BASELINE):
        raise ValueError(f"Arms need one named `{BASELINE}`, without cohorts. Received: {[*by_name]}")
    if arms and by_name[BASELINE].start is not None:
        raise ValueError(
            f"Arm `{BASELINE}` is trained first, so it has no `start`. Received: {by_name[BASELINE].start!r}"
        )
    before = {BASELINE: None}
    for arm in arms:
        named = {"reference": arm.reference} | ({"start": arm.start} if arm.start is not None else {})
        for key, name in named.items():
            if arm.name != BASELINE and name not in before:
                raise ValueError(
                    f"`{key}` of arm `{arm.name}` must be one of {[*before]}, before it. Received: {name!r}"
                )
            own, other = (by_name[each].seeds or seeds for each in (arm.name, name))
            if own > other:
                raise ValueError(
                    f"Arm `{arm.name}` must have at most as many seeds as its {key} `{name}`, {other}. Received: {own}"
                )
        before[arm.name] = None


def _with(config: _Config, changes: dict[str, Any], where: str) -> _Config:
    known: list[str] = [f.name for f in dataclasses.fields(config)]
    unknown = sorted({*changes} - {*known})
    if unknown:
        raise ValueError(f"Unknown keys in {where}. Received: {unknown}; there are {known}")
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in changes.items()
    }
    return dataclasses.replace(config, **values)
