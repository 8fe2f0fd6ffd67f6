"""The subcommands of `c2al`: what each says of itself, its arguments, and what it calls.

What they call is imported when they are called: `--help` and the server do without TensorFlow.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonargparse

_EPILOG = "Every key can be given on the command line: --training.epochs 5 --cohorts.lambdas [0.3]"


@dataclass(frozen=True)
class Command:
    """A subcommand: what it does, how it is called, its arguments, and the function that gets them."""

    description: str
    usage: str
    example: str
    add_arguments: Callable[[jsonargparse.ArgumentParser], None]
    call: Callable[[Any], None]


def _add_config(parser: jsonargparse.ArgumentParser) -> None:
    from .config import RunConfig

    parser.add_argument("--config", action="config", help="the YAML file, if not given as the first argument")
    parser.add_argument("--run-dir", type=Path, required=True, help="folder of the run, new or to be resumed")
    parser.add_class_arguments(RunConfig)


def _add_run_dir(parser: jsonargparse.ArgumentParser) -> None:
    parser.add_argument("--run-dir", type=Path, required=True, help="folder of the run")


def _add_train(parser: jsonargparse.ArgumentParser) -> None:
    _add_run_dir(parser)
    parser.add_argument("--arm", choices=["baseline", "c2al"], required=True, help="which of the two models")


def _add_export(parser: jsonargparse.ArgumentParser) -> None:
    _add_run_dir(parser)
    parser.add_argument("--seed", type=int, help="whose model; by default the best one's on the validation rows")


def _add_serve(parser: jsonargparse.ArgumentParser) -> None:
    parser.add_argument("export_dir", type=Path, help="base path, which holds version folders: 1, 2, ...")
    parser.add_argument("--grpc-port", type=int, default=8500, help="port of the gRPC interface; 0: a free one")
    parser.add_argument("--rest-port", type=int, help="port of the REST interface; 0: a free one; by default none")
    parser.add_argument("--model-name", default="default", help="name that requests call the model by")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0: all")


def _add_predict(parser: jsonargparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, help="rows: .parquet, .csv or .tfrecord with the model's columns")
    parser.add_argument("--server", default="127.0.0.1:8500", help="gRPC address, HOST:PORT")
    parser.add_argument("--model", default="default", help="name of the model")
    parser.add_argument("--output", type=Path, required=True, help="predictions in the rows' order: .parquet or .csv")
    parser.add_argument("--batch-size", type=int, default=4096, help="rows per request")
    parser.add_argument("--timeout", type=float, default=30.0, help="deadline of a request in seconds")


def _run(values: Any) -> None:
    from .run import run_all

    run_all(_configured(values))


def _prepare(values: Any) -> None:
    from .steps import prepare_run

    run = _configured(values)
    prepare_run(run)
    print(f"{run.path / 'data'}, {run.path / 'schema.json'}")


def _train(values: Any) -> None:
    from .steps import train_arm

    run = _opened(values)
    for seed in run.seeds:
        train_arm(run, seed, values.arm)
        print(run.model_file(seed, values.arm))


def _discover(values: Any) -> None:
    from .run import print_discovery
    from .steps import discover_run

    run = _opened(values)
    discover_run(run)
    print_discovery(run)


def _evaluate(values: Any) -> None:
    from .run import print_metrics
    from .steps import evaluate_run

    run = _opened(values)
    evaluate_run(run)
    print_metrics(run)


def _export(values: Any) -> None:
    from .steps import export_run

    print(export_run(_opened(values), values.seed).directory)


def _report(values: Any) -> None:
    from .details import write_details
    from .report import write_report

    run = _opened(values)
    write_details(run)
    print(write_report(run.path))


def _serve(values: Any) -> None:
    from c2al_serving.server import serve

    serve(
        values.export_dir,
        grpc_port=values.grpc_port,
        rest_port=values.rest_port,
        model_name=values.model_name,
        host=values.host,
        on_ready=lambda server: print(server, flush=True),
    )


def _predict(values: Any) -> None:
    from .predict import predict_file

    rows = predict_file(
        values.file, values.server, values.model, values.output, batch_size=values.batch_size, timeout=values.timeout
    )
    print(f"{rows:,} rows: {values.output}")


def _configured(values: Any) -> Any:
    """The folder of the run that `CONFIG --run-dir DIR` describes."""
    from .config import RunConfig
    from .run_folder import RunFolder

    config = RunConfig(**{field.name: values[field.name] for field in dataclasses.fields(RunConfig)})
    return RunFolder.start(values.run_dir, config)


def _opened(values: Any) -> Any:
    """The folder of a run that `c2al prepare` or `c2al run` started."""
    from .config import load_config
    from .run_folder import RunFolder

    file = values.run_dir / "config.json"
    if not file.exists():
        raise ValueError(f"{file} is not there. Run `c2al prepare CONFIG --run-dir {values.run_dir}` first")
    return RunFolder(values.run_dir, load_config(file))


_CONFIGURED = f"CONFIG --run-dir DIR [--data DIR] [--KEY VALUE ...]\n\n{_EPILOG}"
COMMANDS = {
    "run": Command(
        "Runs everything: prepare, baselines, discovery, C2AL models, evaluation, export, server, report. An "
        "interrupted run goes on where it stopped.",
        _CONFIGURED,
        "c2al run pipelines/configs/census.yaml --data data/census --run-dir runs/census",
        _add_config,
        _run,
    ),
    "prepare": Command(
        "Writes a data set's rows as Parquet, and the schema of their columns.",
        _CONFIGURED,
        "c2al prepare pipelines/configs/census.yaml --data data/census --run-dir runs/census",
        _add_config,
        _prepare,
    ),
    "train": Command(
        "Trains one arm for every seed: the baseline, or C2AL once the cohorts are found.",
        "--run-dir DIR --arm {baseline,c2al}",
        "c2al train --run-dir runs/census --arm baseline",
        _add_train,
        _train,
    ),
    "discover": Command(
        "Finds the cohorts that the baseline treats most differently, on the validation rows.",
        "--run-dir DIR",
        "c2al discover --run-dir runs/census",
        _add_run_dir,
        _discover,
    ),
    "evaluate": Command(
        "Compares the arms by cohort on the test rows, with intervals over seeds and rows.",
        "--run-dir DIR",
        "c2al evaluate --run-dir runs/census",
        _add_run_dir,
        _evaluate,
    ),
    "export": Command(
        "Exports a C2AL model, primary head only, for TensorFlow Serving. It is published only once it is proved.",
        "--run-dir DIR [--seed SEED]",
        "c2al export --run-dir runs/census",
        _add_export,
        _export,
    ),
    "report": Command(
        "Writes report.html of an evaluated and exported run.",
        "--run-dir DIR",
        "c2al report --run-dir runs/census",
        _add_run_dir,
        _report,
    ),
    "serve": Command(
        "Serves an export as tensorflow_model_server does, over gRPC and REST.",
        "EXPORT_DIR [--grpc-port P] [--rest-port R] [--model-name NAME] [--host HOST]",
        "c2al serve runs/census/export --grpc-port 8500 --rest-port 8501 --model-name census",
        _add_serve,
        _serve,
    ),
    "predict": Command(
        "Sends a file's rows to a model server and writes its predictions.",
        "FILE --server HOST:PORT [--model NAME] --output FILE [--batch-size N] [--timeout SECONDS]",
        "c2al predict rows.parquet --server localhost:8500 --model census --output predictions.parquet",
        _add_predict,
        _predict,
    ),
}
