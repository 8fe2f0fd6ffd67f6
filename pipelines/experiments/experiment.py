"""The grid of an experiment: every arm and seed that is not trained yet, then one table of all arms."""

import time
from collections.abc import Sequence
from typing import Any

from tqdm import tqdm

from c2al_tf.cohorts import Cohort
from c2al_tf.evaluation import Evaluation
from c2al_tf.training.distribution import Strategy, make_strategy

from ..run.arms import BASELINE
from ..run.evaluation import evaluate_arm, read_test_rows
from ..run.folder import RunFolder
from ..run.run import console, print_discovery
from ..run.steps import prepare_run
from ..run.targets import arm_cohorts, discover_run
from ..run.training import describe_training, train_arm
from .results import Result, print_results, write_results


def run_experiment(run: RunFolder) -> list[Result]:
    """Trains what is not trained yet, evaluates every arm, writes `results.parquet`, `results.json`, `results.md`.

    Baselines come first: cohorts are found in their predictions. Then every choice of cohorts is made, so that an arm
    without any fails before hours of training. An interrupted experiment goes on where it stopped.

    Raises:
        ValueError: If an arm's cohorts cannot be chosen; the message names the arm.
    """
    start = time.perf_counter()
    strategy = make_strategy()
    prepare_run(run)
    others = [name for name in run.arms if name != BASELINE]
    total = sum(len(run.seeds_of(name)) for name in run.arms)
    with tqdm(total=total, desc="all models", unit="model") as progress:
        _train(run, [BASELINE], strategy, progress)
        discover_run(run)
        for name in others:
            _check_cohorts(run, name)
        _train(run, others, strategy, progress)
    print_discovery(run)
    results = evaluate_arms(run)
    write_results(run, results)
    print_results(run, results)
    console.print(f"Results: {run.path / 'results.md'}, results.parquet beside it")
    console.print(f"Time:    {time.perf_counter() - start:.0f} s")
    return results


def _train(run: RunFolder, names: Sequence[str], strategy: Strategy, progress: "tqdm[Any]") -> None:
    """Trains arms, the seeds of each one after the other: they share its compiled program."""
    for name in names:
        for seed in run.seeds_of(name):
            train_arm(run, seed, name, strategy)
            progress.update()


def _check_cohorts(run: RunFolder, name: str) -> None:
    try:
        describe_training(run, name)
    except ValueError as error:
        raise ValueError(f"Arm `{name}`: {error}") from error


def evaluate_arms(run: RunFolder) -> list[Result]:
    """Every arm on the test rows, but the baseline: compared with its reference."""
    cohorts = {name: arm_cohorts(run, arm) for name, arm in run.arms.items()}
    own = [cohort for chosen in cohorts.values() for cohort in chosen if isinstance(cohort, Cohort)]
    rows = read_test_rows(run, dict.fromkeys(own))
    results = []
    for name, arm in tqdm(run.arms.items(), desc="evaluate", unit="arm", delay=2):
        if arm.reference != name:
            tasks = [cohort for cohort in cohorts[name] if isinstance(cohort, Cohort)]
            named = dict.fromkeys(cohort.name for cohort in (*run.cohorts, *tasks))
            found: Evaluation = evaluate_arm(run, name, arm.reference, run.seeds_of(name), rows, list(named))
            results.append(Result(arm, tuple(run.seeds_of(name)), tuple(map(str, cohorts[name])), found))
    return results
