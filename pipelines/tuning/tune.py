"""Searches on the validation rows with some seeds, decides on the test rows with others, which chose nothing."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tqdm import tqdm

from c2al_tf.cohorts import Cohort
from c2al_tf.evaluation import Evaluation, Recommendation, recommend
from c2al_tf.training import NonFiniteLossError
from c2al_tf.training.distribution import Strategy, make_strategy

from ..run.arms import BASELINE, C2AL, Arm
from ..run.config import RunConfig
from ..run.evaluation import evaluate_arm, read_test_rows
from ..run.folder import RunFolder
from ..run.recipe import describe_training
from ..run.steps import prepare_run, validation_ne
from ..run.targets import discover_run
from ..run.training import train_arm
from .search import Candidate, pairs_to_try, search


@dataclass(frozen=True)
class Tuned:
    """What `tune_run` came to.

    Args:
        candidates: What was tried, the best first; empty if no pair of cohorts passed the guard.
        cohorts: The cohorts of the best one.
        seeds: The paired seeds that decide, none of which took part in the search.
        evaluation: The best one, as the arm `c2al`, against the baseline on the test rows.
        recommendation: What to do; None if no pair of cohorts passed the guard.
        refusals: How many pairs the guard refused by each rule, if none passed it.
    """

    candidates: tuple[Candidate, ...]
    cohorts: tuple[Cohort, ...] = ()
    seeds: tuple[int, ...] = ()
    evaluation: Evaluation | None = None
    recommendation: Recommendation | None = None
    refusals: Mapping[str, int] = field(default_factory=dict)

    @property
    def best(self) -> Arm:
        """The best configuration, under the name that it is evaluated by."""
        return dataclasses.replace(self.candidates[0].arm, name=C2AL)

    @property
    def answer(self) -> str:
        """`use`, `do not use` or `undecided`."""
        return "do not use" if self.recommendation is None else self.recommendation.answer


def tune_run(run: RunFolder) -> Tuned:
    """Finds the best pair of cohorts and weights on the validation rows, and says whether to use it.

    The search seeds find the cohorts and choose among configurations by NE on the validation rows. The best one is
    then trained with `seeds` others, and compared with baselines of these seeds on the test rows, which nothing else
    reads. An interrupted call goes on where it stopped: models that are there are not trained again, and the search
    makes the same proposals.

    Raises:
        ValueError: If the configuration has arms of its own, or cannot be tuned.
    """
    check_tunable(run.config)
    tune, strategy = run.config.tune, make_strategy()
    prepare_run(run)
    searching = with_seeds(run, run.config.first_seed, tune.search_seeds)
    total = 2 * run.config.seeds + tune.search_seeds + tune.budget
    with tqdm(total=total, desc="all models", unit="model") as progress:
        _train(searching, BASELINE, strategy, progress, ("validation",))
        discover_run(searching)
        _check_discovery(searching)
        ranks = [] if run.discovery.given else pairs_to_try(run.discovery, tune.pairs)
        if not ranks and not run.discovery.given:
            return Tuned((), refusals=dict(run.discovery.refusals.most_common()))
        candidates = _search(searching, ranks, strategy, progress)
        best = candidates[0]
        if not best.finished:
            raise ValueError(
                "A configuration is chosen by its NE on the validation rows, which need positives and negatives. "
                "Received: no NE from any configuration that was tried"
            )
        deciding = with_arms(
            with_seeds(run, run.config.first_seed + tune.search_seeds, run.config.seeds),
            dataclasses.replace(best.arm, name=C2AL),
        )
        for name in (BASELINE, C2AL):
            _train(deciding, name, strategy, progress, ("validation", "test"))
    cohorts = describe_training(deciding, C2AL).cohorts
    evaluation = evaluate_tuned(deciding, cohorts)
    recommendation = recommend(evaluation, C2AL, [cohort.name for cohort in cohorts], worth=tune.worth)
    return Tuned(tuple(candidates), cohorts, tuple(deciding.seeds), evaluation, recommendation)


def check_tunable(config: RunConfig) -> None:
    """Raises ValueError if the configuration leaves nothing for `c2al tune` to choose."""
    if config.arms:
        raise ValueError(
            "`c2al tune` makes its own arms; `c2al experiment` compares those of a configuration. "
            f"Received: arms={[arm.name for arm in config.arms]}"
        )
    if config.warm_start is not None:
        raise ValueError(
            "`c2al tune` searches with models that begin anew: leave out `warm_start`, which `c2al run` knows. "
            f"Received: warm_start={config.warm_start}"
        )
    heads = len(config.cohorts.given) or config.cohorts.num_cohorts
    if heads != 2:
        raise ValueError(f"`c2al tune` chooses the weights of two cohorts. Received: {heads} cohorts")


def _check_discovery(run: RunFolder) -> None:
    """Raises ValueError if other seeds than the search's found the cohorts: some of them may be to decide."""
    number = run.discovery.num_seeds
    if not run.discovery.given and number != run.config.tune.search_seeds:
        raise ValueError(
            f"The cohorts in {run.path} were found with {number} baselines, of which some may be among the seeds that "
            f"decide; `tune.search_seeds` is {run.config.tune.search_seeds}. Choose another --run-dir"
        )


def with_seeds(run: RunFolder, first: int, number: int) -> RunFolder:
    """The same folder with other paired seeds."""
    return RunFolder(run.path, dataclasses.replace(run.config, first_seed=first, seeds=number))


def with_arms(run: RunFolder, *arms: Arm) -> RunFolder:
    """The same folder with other arms beside the baseline."""
    return RunFolder(run.path, dataclasses.replace(run.config, arms=(Arm(BASELINE), *arms)))


def evaluate_tuned(run: RunFolder, cohorts: Sequence[Cohort]) -> Evaluation:
    """The arm `c2al` against the baseline on the test rows, with the slices of its own cohorts named beforehand."""
    rows = read_test_rows(run, targeted=cohorts)
    return evaluate_arm(run, C2AL, BASELINE, run.seeds, rows, [cohort.name for cohort in cohorts])


def _train(run: RunFolder, name: str, strategy: Strategy, progress: "tqdm[Any]", scored: Sequence[str]) -> None:
    for seed in run.seeds:
        train_arm(run, seed, name, strategy, scored)
        progress.update()


def _search(run: RunFolder, ranks: Sequence[int], strategy: Strategy, progress: "tqdm[Any]") -> list[Candidate]:
    """All candidates, the best first."""

    def measure(arm: Arm, at: int) -> float:
        trying = with_arms(run, arm)
        seed = trying.seeds[at]
        try:
            train_arm(trying, seed, arm.name, strategy, scored=())
        except NonFiniteLossError:
            return math.nan  # these weights diverge: others may not
        finally:
            progress.update()
        difference = validation_ne(trying, seed, arm.name) / validation_ne(trying, seed, BASELINE) - 1
        return 100 * difference if math.isfinite(difference) else math.nan

    lambdas = run.config.cohorts.lambdas
    first = (lambdas[0], lambdas[-1])
    return search(run.config.tune, ranks, measure, first=first, seed=run.config.first_seed)
