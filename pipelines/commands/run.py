"""The steps of a run as subcommands of `c2al`: what each says of itself, its arguments, and what it calls.

What they call is imported when they are called: `--help` and the server do without TensorFlow.
"""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import jsonargparse

from c2al_tf.storage import is_url, local_path, opened, shown

from .command import Command
from .runner import RUN_BY, add_runner, runner_of

_EPILOG = "Every key can be given on the command line: --training.epochs 5 --cohorts.lambdas [0.3]"


def _add_config(parser: jsonargparse.ArgumentParser) -> None:
    from ..run.config import RunConfig

    parser.add_argument("--config", action="config", help="the YAML file, if not given as the first argument")
    parser.add_argument("--run-dir", type=Path, required=True, help="folder of the run, new or to be resumed")
    parser.add_class_arguments(RunConfig)


def _add_prepare(parser: jsonargparse.ArgumentParser) -> None:
    _add_config(parser)
    add_runner(parser, here="this process alone", beside="the run's folder")


def _add_run_dir(parser: jsonargparse.ArgumentParser) -> None:
    parser.add_argument("--run-dir", type=Path, required=True, help="folder of the run")


def _add_train(parser: jsonargparse.ArgumentParser) -> None:
    _add_run_dir(parser)
    parser.add_argument("--arm", required=True, help="which of the run's arms: baseline or c2al, or one of `arms`")


def _add_export(parser: jsonargparse.ArgumentParser) -> None:
    _add_run_dir(parser)
    parser.add_argument("--seed", type=int, help="whose model; by default the best one's on the validation rows")


def _run(values: Any) -> None:
    from ..run.run import run_all

    _check_one_process("run")
    _keep_freed_memory()
    run_all(_configured(values))


def _experiment(values: Any) -> None:
    from ..experiments.experiment import run_experiment

    _check_one_process("experiment")
    _keep_freed_memory()
    run_experiment(_configured(values))


def _tune(values: Any) -> None:
    from ..tuning.answer import print_answer, write_answer
    from ..tuning.tune import tune_run

    _check_one_process("tune")
    _keep_freed_memory()
    run = _configured(values)
    tuned = tune_run(run)
    write_answer(run, tuned)
    print_answer(run, tuned)


def _prepare(values: Any) -> None:
    from ..run.steps import prepare_run

    _check_one_process("prepare")
    run = _configured(values)
    if values.runner is None:
        prepare_run(run)
    else:
        prepare_run(run, _by_runner(values, run))
    print(f"{shown(run.path / 'data')}, {shown(run.path / 'schema.json')}")


def _by_runner(values: Any, run: Any) -> Any:
    """As `prepare`, of the files that a configuration describes."""
    from ..beam.preparation import prepare_files

    data = run.config.data
    if data.name != "files":
        raise ValueError(f"`--runner` reads files, with data.name=files. Received: data.name={data.name}")
    return functools.partial(prepare_files, data=data.path, files=data.files, runner=runner_of(values, values.run_dir))


def _train(values: Any) -> None:
    from c2al_tf.training.distribution import is_chief, make_strategy, num_workers

    from ..run.training import train_arm

    if num_workers() > 1 and is_url(values.run_dir):
        raise ValueError(
            "Several workers share a run folder on a file system that all of them reach. "
            f"Received: --run-dir {shown(local_path(values.run_dir))} and a TF_CONFIG of {num_workers()} workers"
        )
    run = _opened(values)
    if values.arm not in run.arms:
        raise ValueError(f"`--arm` must be one of the run's arms, {[*run.arms]}. Received: {values.arm}")
    _keep_freed_memory()
    strategy = make_strategy()
    for seed in run.seeds_of(values.arm):
        train_arm(run, seed, values.arm, strategy)
        if is_chief(strategy):
            print(shown(run.model_file(seed, values.arm)))


def _discover(values: Any) -> None:
    from ..run.run import print_discovery
    from ..run.targets import discover_run

    _check_one_process("discover")
    run = _opened(values)
    discover_run(run)
    print_discovery(run)


def _evaluate(values: Any) -> None:
    from ..run.run import print_metrics
    from ..run.steps import evaluate_run

    _check_one_process("evaluate")
    run = _opened(values)
    evaluate_run(run)
    print_metrics(run)


def _diagnose(values: Any) -> None:
    from ..run.run import print_diagnosis

    print_diagnosis(_opened(values))


def _export(values: Any) -> None:
    from ..run.steps import export_best

    _check_one_process("export")
    print(shown(export_best(_opened(values), values.seed).directory))


def _report(values: Any) -> None:
    from ..report.report import write_report
    from ..run.details import write_details

    run = _opened(values)
    write_details(run)
    print(shown(write_report(run.path)))


def _keep_freed_memory() -> None:
    """For processes that train; others give memory back."""
    from c2al_tf.training import keep_freed_memory

    keep_freed_memory()


def _check_one_process(command: str) -> None:
    """Stops a worker before it does what one process alone is to do."""
    from c2al_tf.training.distribution import num_workers

    if num_workers() > 1:
        raise ValueError(
            f"`c2al {command}` runs in one process, without TF_CONFIG. Received: TF_CONFIG with {num_workers()} "
            "workers. Only `c2al train` runs on several, the same command on each: `c2al prepare CONFIG --run-dir DIR` "
            "in one process, `c2al train --run-dir DIR --arm baseline` on all, `c2al discover --run-dir DIR` in one, "
            "`c2al train --run-dir DIR --arm c2al` on all, `c2al run CONFIG --run-dir DIR` in one for the rest"
        )


def _configured(values: Any) -> Any:
    """The folder of the run that `CONFIG --run-dir DIR` describes."""
    from ..run.config import RunConfig
    from ..run.folder import RunFolder
    from ..run.warm_start import with_earlier_cohorts

    config = RunConfig(**{field.name: values[field.name] for field in dataclasses.fields(RunConfig)})
    return RunFolder.start(opened(values.run_dir), with_earlier_cohorts(config))


def _opened(values: Any) -> Any:
    """The folder of a run that `c2al prepare` or `c2al run` started."""
    from ..run.folder import RunFolder, read_config

    folder = opened(values.run_dir)
    file = folder / "config.json"
    if not file.exists():
        raise ValueError(f"{file} is not there. Run `c2al prepare CONFIG --run-dir {folder}` first")
    return RunFolder(folder, read_config(file))


_CONFIGURED = f"CONFIG --run-dir DIR [--data DIR] [--KEY VALUE ...]\n\n{_EPILOG}"
RUN_COMMANDS = {
    "run": Command(
        "Runs everything: prepare, baselines, discovery, C2AL models, evaluation, export, server, report. An "
        "interrupted run goes on where it stopped.",
        _CONFIGURED,
        "c2al run pipelines/configs/census.yaml --data data/census --run-dir runs/census",
        _add_config,
        _run,
        ("experiments",),
    ),
    "experiment": Command(
        "Trains any number of arms over paired seeds and compares each with its reference, overall and by cohort, with "
        "intervals: the `arms` of the configuration. Arms that train alike are trained once, also by another "
        "experiment in the same folder. Writes results.parquet (arm, seed, slice, metric, value), results.json, "
        "results.md and figures. An interrupted experiment goes on where it stopped.",
        _CONFIGURED,
        "c2al experiment pipelines/configs/census_arms.yaml --data data/census --run-dir runs/census",
        _add_config,
        _experiment,
        ("experiments",),
    ),
    "tune": Command(
        "Says what to do: use C2AL, do not use it, or undecided. It chooses axis, pair of cohorts and lambdas on the "
        "validation rows, until `tune.budget` models are trained, on `tune.search_seeds` seeds, then trains the best "
        "one and baselines on `seeds` other seeds, and reads the test rows once. Undecided says what would decide: "
        "more seeds or more test rows. Writes tune.md, tune.json, and recommended.yaml for `c2al run`. An interrupted "
        "call goes on where it stopped.",
        _CONFIGURED,
        "c2al tune pipelines/configs/census.yaml --data data/census --run-dir runs/census_tuned --seeds 8",
        _add_config,
        _tune,
        ("experiments",),
    ),
    "prepare": Command(
        "Writes a data set's rows as Parquet, and the schema of their columns. With --runner Beam does it, of files "
        "of any number of rows; an interrupted call then goes on where it stopped.",
        f"CONFIG --run-dir DIR [--data DIR] [--KEY VALUE ...] {RUN_BY}\n\n{_EPILOG}",
        "c2al prepare pipelines/configs/census.yaml --data data/census --run-dir runs/census",
        _add_prepare,
        _prepare,
        ("experiments",),
    ),
    "train": Command(
        "Trains one arm for every seed: the baseline, or another one once the cohorts are found. It uses all GPUs of "
        "the machine. On several machines: the same command on each, with TF_CONFIG and the run's folder shared; if "
        "one stops, all do, and the same command goes on.",
        "--run-dir DIR --arm ARM",
        "c2al train --run-dir runs/census --arm baseline",
        _add_train,
        _train,
        ("experiments",),
    ),
    "discover": Command(
        "Finds the cohorts that the baselines treat most differently, on the validation rows.",
        "--run-dir DIR",
        "c2al discover --run-dir runs/census",
        _add_run_dir,
        _discover,
        ("experiments",),
    ),
    "evaluate": Command(
        "Compares the arms by cohort on the test rows, with intervals over seeds and rows.",
        "--run-dir DIR",
        "c2al evaluate --run-dir runs/census",
        _add_run_dir,
        _evaluate,
        ("experiments",),
    ),
    "diagnose": Command(
        "Names the failure signatures and break conditions of an evaluated run, each with the numbers behind it and "
        "what to change; or says that there are none.",
        "--run-dir DIR",
        "c2al diagnose --run-dir runs/census",
        _add_run_dir,
        _diagnose,
        ("experiments",),
    ),
    "export": Command(
        "Exports a C2AL model, primary head only, for TensorFlow Serving. It is published only once it is proved.",
        "--run-dir DIR [--seed SEED]",
        "c2al export --run-dir runs/census",
        _add_export,
        _export,
        ("experiments",),
    ),
    "report": Command(
        "Writes report.html of an evaluated and exported run.",
        "--run-dir DIR",
        "c2al report --run-dir runs/census",
        _add_run_dir,
        _report,
        ("train", "report"),
    ),
}
