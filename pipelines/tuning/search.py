"""Searches pair of cohorts and weights of their tasks on the validation rows, within a budget of models."""

import contextlib
import logging
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna

from c2al_tf.cohorts import Discovery

from ..run.arms import Arm, Choice
from ..run.config import TuneConfig

_PER_AXIS = 2
"""Pairs of one axis that are tried: an axis that is cut finely has many alike."""

_LEARNT = "learnt"
_TRIALS_PER_MODEL = 4
"""Trials are at most so many times the budget: a trial that repeats another trains nothing."""


@dataclass(frozen=True)
class Candidate:
    """A configuration that was tried.

    Args:
        arm: How it is trained.
        by_seed: NE_diff on the validation rows of each search seed that it reached, in percent.
        finished: Whether it reached all of them.
    """

    arm: Arm
    by_seed: tuple[float, ...]
    finished: bool

    @property
    def mean(self) -> float:
        """Mean of `by_seed`."""
        return float(np.mean(self.by_seed))


def pairs_to_try(discovery: Discovery, most: int) -> list[int]:
    """Ranks among the accepted pairs of those to choose from: the most divergent ones, of each axis at most two."""
    accepted = (pair for pair in discovery.pairs if pair.accepted)
    ordered = sorted(accepted, key=lambda pair: -pair.divergences[discovery.divergence])
    seen: Counter[str] = Counter()
    ranks = []
    for rank, pair in enumerate(ordered):
        seen[pair.axis] += 1
        if seen[pair.axis] <= _PER_AXIS:
            ranks.append(rank)
    return ranks[:most]


def search(
    config: TuneConfig,
    ranks: Sequence[int],
    measure: Callable[[Arm, int], float],
    *,
    first: Sequence[float],
    seed: int = 0,
) -> list[Candidate]:
    """Tries configurations, the better ones on more seeds, until the budget is spent; returns all, the best first.

    The configuration that is being tried when the budget is spent is measured to its end.

    Optuna's TPE proposes; its successive halving stops a configuration whose mean over the seeds so far is not in the
    better half of those that came as far. The run's own lambdas, and weights that are learnt, are tried first.

    Args:
        config: The budget and the ranges.
        ranks: Ranks of the pairs to choose among; empty: the cohorts are given.
        measure: Maps an arm and the number of a search seed to NE_diff on the validation rows, in percent; NaN if there
            is none. Equal arguments must give equal results.
        first: Lambdas of the head and the tail cohort to begin with.
        seed: Of the proposals.
    """
    study = optuna.create_study(
        sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=max(4, config.budget // 4)),
        pruner=optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=2),
    )
    head, tail = (min(max(weight, config.least_lambda), config.most_lambda) for weight in first)
    study.enqueue_trial({"weights": "fixed", "pair": 0, "lambda_head": head, "lambda_tail": tail})
    study.enqueue_trial({"weights": _LEARNT, "pair": 0})
    found: list[Candidate] = []
    trained: set[Any] = set()
    with _quiet():
        for number in range(_TRIALS_PER_MODEL * config.budget):
            if len(trained) >= config.budget:
                break
            found.append(_try(study, number, config, ranks, measure, trained))
    different = {(c.arm.cohorts, c.arm.lambdas, c.by_seed): c for c in reversed(found)}  # a repetition says nothing new
    return sorted(reversed(different.values()), key=lambda candidate: (not candidate.finished, candidate.mean))


def _try(
    study: optuna.Study,
    number: int,
    config: TuneConfig,
    ranks: Sequence[int],
    measure: Callable[[Arm, int], float],
    trained: set[Any],
) -> Candidate:
    """Measures one proposal seed by seed, until it is stopped or the search seeds are through."""
    trial = study.ask()
    arm = _propose(trial, number, config, ranks)
    by_seed: list[float] = []
    for at in range(config.search_seeds):
        trained.add((arm.cohorts, arm.lambdas, arm.objective, at))
        by_seed.append(measure(arm, at))
        mean = float(np.mean(by_seed))
        trial.report(mean, at + 1)
        if at + 1 < config.search_seeds and (math.isnan(mean) or trial.should_prune()):
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            return Candidate(arm, tuple(by_seed), False)
    failed = math.isnan(by_seed[-1])
    study.tell(trial, None if failed else mean, state=optuna.trial.TrialState.FAIL if failed else None)
    return Candidate(arm, tuple(by_seed), not failed)


def _propose(trial: optuna.Trial, number: int, config: TuneConfig, ranks: Sequence[int]) -> Arm:
    cohorts = Choice()
    if ranks:
        rank = ranks[trial.suggest_categorical("pair", range(len(ranks)))]
        cohorts = Choice(by="rank", rank=rank)
    if trial.suggest_categorical("weights", ("fixed", _LEARNT)) == _LEARNT:
        return Arm(f"tried_{number}", cohorts=cohorts, objective="uncertainty")
    weights = [
        trial.suggest_float(f"lambda_{which}", config.least_lambda, config.most_lambda, log=True)
        for which in ("head", "tail")
    ]
    return Arm(f"tried_{number}", cohorts=cohorts, lambdas=tuple(float(f"{weight:.3g}") for weight in weights))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Optuna logs each trial otherwise."""
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(level)
