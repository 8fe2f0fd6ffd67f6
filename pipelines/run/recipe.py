"""What the training of an arm reads: by a digest of it models are known, whatever their arms are called."""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras

from c2al_tf.losses import Objective, weighted_sum_of_tasks
from c2al_tf.objectives import GroupDRO, MinDiff, PCGrad, ProjectedTasks, Reweighting, UncertaintyWeighting
from c2al_tf.storage import shown

from .arms import WITHOUT_LAMBDAS, WITHOUT_TASKS, Arm
from .folder import RunFolder
from .targets import arm_cohorts
from .warm_start import earlier_run

_NOT_TRAINED = ("jit_compile", "checkpoint_steps", "keep_checkpoints", "steps_per_execution")
"""Keys of the training's configuration that change no weight but by rounding."""

_SEVERAL_LABELS = ("sum", "pcgrad", "uncertainty")
"""Objectives that train every primary task of several."""

_ADDED = (("num_experts", 0), ("cohort_layer", None))
"""Keys of later versions with the values that change nothing: models of before keep their digests."""


@dataclass(frozen=True)
class Trained:
    """What the training of an arm reads, beside the prepared rows and the seed.

    Args:
        arm: The arm.
        cohorts: The cohorts that are chosen.
        lambdas: Weight of each one's auxiliary loss.
        digest: Of all that changes the weights: equal for models that are trained alike.
        graph: Of what changes the compiled step.
    """

    arm: Arm
    cohorts: tuple[Any, ...]
    lambdas: dict[str, float]
    digest: str
    graph: str

    @property
    def tasks(self) -> tuple[Any, ...]:
        """The cohorts that have a head."""
        return () if self.arm.objective in WITHOUT_TASKS else self.cohorts

    @property
    def members(self) -> tuple[Any, ...]:
        """The cohorts whose membership the objective reads."""
        return self.cohorts if self.arm.objective in WITHOUT_TASKS else ()

    def make_objective(self, lambdas: dict[str, keras.Variable], tasks: Sequence[str]) -> Objective:
        """The loss that the arm asks for, with `lambdas` as the weights of cohorts; `tasks` are the model's outputs."""
        names = [cohort.name for cohort in self.cohorts]
        make: dict[str, Callable[[], Objective]] = {
            "sum": lambda: weighted_sum_of_tasks(lambdas),
            "parallel": lambda: ProjectedTasks(lambdas, "parallel"),
            "orthogonal": lambda: ProjectedTasks(lambdas, "orthogonal"),
            "pcgrad": lambda: PCGrad(lambdas),
            "uncertainty": lambda: UncertaintyWeighting(tasks),
            "group_dro": lambda: GroupDRO(names),
            "reweighting": lambda: Reweighting(lambdas),
            "min_diff": lambda: MinDiff(names, lambdas[names[0]]),
        }
        return make[self.arm.objective]()


def describe_training(run: RunFolder, name: str) -> Trained:
    """What the training of an arm reads.

    Raises:
        ValueError: If the cohorts are not found yet, there are none such, or the arm asks for what cannot be.
    """
    arm, config = run.arms[name], run.config
    _check_model(run, arm)
    cohorts = arm_cohorts(run, arm)
    lambdas = _lambdas(arm, [cohort.name for cohort in cohorts], config.cohorts.lambdas)
    model = dataclasses.asdict(arm.model_of(config.model))
    training = dataclasses.asdict(arm.training_of(config.training))
    read: dict[str, Any] = {
        "cohorts": [cohort.to_json() for cohort in cohorts],
        "lambdas": list(lambdas.values()),
        "labels": arm.labels if cohorts else None,
        "objective": arm.objective,
        "frozen": arm.frozen,
        "frozen_at": describe_training(run, arm.reference).digest if arm.frozen_at == "reference" else "initial",
        "model": {key: value for key, value in model.items() if (key, value) not in _ADDED},
        "training": {key: value for key, value in training.items() if key not in _NOT_TRAINED},
    }
    graph = read | {"cohorts": [cohort.name for cohort in cohorts], "lambdas": None}
    # Only where they are given, for the same reason as `_ADDED`.
    if arm.lambda_decay:
        read["lambda_decay"] = True
    if arm.start is not None:
        read["start"] = describe_training(run, arm.start).digest
    elif (earlier := earlier_run(config)) is not None:
        read["warm_start"] = [shown(earlier.path), describe_training(earlier, name).digest]
    return Trained(arm, cohorts, lambdas, _digest(read), _digest(graph))


def _lambdas(arm: Arm, cohorts: Sequence[str], of_run: Sequence[float]) -> dict[str, float]:
    """The weight of each cohort's auxiliary loss: of one weight for all, or one for each, the head cohort's first."""
    weights = list(of_run if arm.lambdas is None else arm.lambdas)
    if arm.objective in WITHOUT_LAMBDAS or not cohorts:
        return {}
    only = arm.cohorts.only if arm.cohorts else None
    if only is not None and len(weights) == 2:
        weights = [weights[0 if only == "head" else 1]]
    if len(weights) not in (1, len(cohorts)):
        raise ValueError(f"`lambdas` must be one, or one for each of {list(cohorts)}. Received: {weights}")
    weights = weights * len(cohorts) if len(weights) == 1 else weights
    if arm.objective == "min_diff" and not (len(weights) == 2 and weights[0] == weights[1]):
        raise ValueError(
            f"Arm `{arm.name}`: `min_diff` has two cohorts and one penalty, so one lambda. "
            f"Received: {dict(zip(cohorts, weights, strict=True))}"
        )
    return {name: w / len(cohorts) if arm.total_lambda else w for name, w in zip(cohorts, weights, strict=True)}


def _check_model(run: RunFolder, arm: Arm) -> None:
    model = arm.model_of(run.config.model)
    if len(run.schema.labels) > 1 and arm.objective not in _SEVERAL_LABELS:
        raise ValueError(
            f"Arm `{arm.name}`: with several labels `objective` must be one of {list(_SEVERAL_LABELS)}; the others "
            f"train one primary task. Received: {arm.objective!r} and labels {list(run.schema.labels)}"
        )
    if arm.lambda_decay and arm.training_of(run.config.training).steps_per_execution > 1:
        raise ValueError("`lambda_decay` changes lambdas at each step, so it needs `steps_per_execution: 1`")
    if arm.start is not None and run.arms[arm.start].model_of(run.config.model) != model:
        raise ValueError(f"`start` needs the same `model` as arm `{arm.start}`. Received: another")
    if arm.frozen and model.backbone != "dhen":
        raise ValueError(f"`frozen` is of the backbone 'dhen', which has the attention. Received: {model.backbone!r}")
    if arm.frozen_at == "reference" and run.arms[arm.reference].model_of(run.config.model) != model:
        raise ValueError("`frozen_at: reference` needs the reference's model. Received: another `model`")


def resolve_arms(run: RunFolder, *names: str) -> None:
    """Finds the folder of each arm's models as the configuration is now; one whose cohorts are not found has none.

    Raises:
        ValueError: If an arm is not among the run's, or cannot be.
    """
    for name in names:
        if name not in run.arms:
            raise ValueError(
                f"`arms` must hold `{name}` for this command; see `c2al experiment`. Received: {[*run.arms]}"
            )
        if run.arms[name].cohorts is None or (run.path / "cohorts.json").exists():
            run.claim_folder(name, describe_training(run, name).digest)


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
