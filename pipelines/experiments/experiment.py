"""The grid of an experiment: every arm and seed that is not trained yet, then one table of all arms."""

import time
from typing import Any

from tqdm import tqdm

from c2al_tf.cohorts import Cohort
from c2al_tf.storage import shown
from c2al_tf.training.distribution import Strategy, make_strategy

from ..report.evidence import brief, label
from ..report.terminal import console
from ..run.arms import BASELINE
from ..run.evaluation import TestRows, evaluate_arm, read_test_rows
from ..run.folder import RunFolder
from ..run.recipe import describe_training
from ..run.representation import probe_model
from ..run.run import print_discovery, report_drift
from ..run.steps import prepare_run
from ..run.targets import arm_cohorts, arm_divergence, discover_run
from ..run.training import train_arm
from ..run.truth import describe_planted
from .result import Result
from .results import print_results, write_results


def run_experiment(run: RunFolder) -> list[Result]:
    """Trains what is not trained yet, evaluates every arm, writes `results.*`, figures and `report.html`.

    These are written anew after each arm that is trained, with the arms so far: a long grid can be read while it runs.
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
        _train(run, BASELINE, strategy, progress)
        discover_run(run)
        for name in others:
            _check_cohorts(run, name)
        print_discovery(run)
        report_drift(run)
        rows = _open_test_rows(run)
        planted = describe_planted(run)
        results: list[Result] = []
        for name in others:
            trained = _train(run, name, strategy, progress)
            results.append(_evaluate(run, name, rows))
            if trained or name == others[-1]:
                write_results(run, results, planted and planted["bayes_ne"])
    print_results(run, results)
    console.print(f"Results: {shown(run.path / 'report.html')}, results.md and results.parquet beside it")
    console.print(f"Time:    {time.perf_counter() - start:.0f} s")
    return results


def _train(run: RunFolder, name: str, strategy: Strategy, progress: "tqdm[Any]") -> bool:
    """Trains the seeds of an arm one after the other, which share its compiled program; whether any was to train."""
    trained = False
    for seed in run.seeds_of(name):
        trained |= train_arm(run, seed, name, strategy)
        progress.update()
    return trained


def _check_cohorts(run: RunFolder, name: str) -> None:
    try:
        describe_training(run, name)
    except ValueError as error:
        raise ValueError(f"Arm `{name}`: {error}") from error


def _open_test_rows(run: RunFolder) -> TestRows:
    """The test rows with slices for the cohorts of every arm."""
    chosen = [cohort for arm in run.arms.values() for cohort in arm_cohorts(run, arm)]
    return read_test_rows(run, dict.fromkeys(cohort for cohort in chosen if isinstance(cohort, Cohort)))


def _evaluate(run: RunFolder, name: str, rows: TestRows) -> Result:
    """An arm on the test rows, compared with its reference."""
    arm, seeds = run.arms[name], run.seeds_of(name)
    trained = describe_training(run, name)
    slices = dict.fromkeys(cohort.name for cohort in (*run.cohorts, *trained.cohorts) if cohort.name in rows.slices)
    evaluation = evaluate_arm(run, name, arm.reference, seeds, rows, list(slices))
    probes = {
        each: [probe_model(run, seed, each, run.cohorts) for seed in seeds] if run.config.probe else []
        for each in (arm.reference, name)
    }
    cohorts, lambdas = tuple(map(str, trained.cohorts)), tuple(trained.lambdas.values())
    divergence = arm_divergence(run, arm, trained.cohorts)
    targeted = {cohort.name: brief(label(cohort)) for cohort in trained.cohorts if cohort.name in rows.slices}
    return Result(arm, tuple(seeds), cohorts, evaluation, lambdas, divergence, probes, targeted)
