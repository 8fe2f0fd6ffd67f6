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


def _add_verify_export(parser: jsonargparse.ArgumentParser) -> None:
    parser.add_argument("directory", type=Path, help="a version folder")
    parser.add_argument("--against", type=Path, help="another one, which differs in the values of its weights alone")
    parser.add_argument("--json", type=Path, help="file for the verdict as JSON")


def _add_serve(parser: jsonargparse.ArgumentParser) -> None:
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("export_dir", nargs="?", type=Path, help="base path, which holds version folders: 1, 2, ...")
    what.add_argument("--model-config-file", type=Path, help="models as tensorflow_model_server's file lists them")
    parser.add_argument("--grpc-port", type=int, default=8500, help="port of the gRPC interface; 0: a free one")
    parser.add_argument("--rest-port", type=int, help="port of the REST interface; 0: a free one; by default none")
    parser.add_argument("--model-name", default="default", help="name that requests call the model of export_dir by")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0: all")
    parser.add_argument("--poll-seconds", type=float, default=1.0, help="between two looks for new versions")
    parser.add_argument("--ssl-config-file", type=Path, help="TLS for gRPC, as tensorflow_model_server's file has it")
    parser.add_argument("--batching-parameters-file", type=Path, help="merge requests, as the real server's file says")
    parser.add_argument("--max-requests", type=int, default=1024, help="gRPC requests at a time; more are refused")


def _add_predict(parser: jsonargparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, help="rows: .parquet, .csv or .tfrecord with the model's columns")
    parser.add_argument("--server", default="127.0.0.1:8500", help="gRPC address, HOST:PORT")
    parser.add_argument("--model", default="default", help="name of the model")
    parser.add_argument("--version", type=int, help="version to ask; by default the latest")
    parser.add_argument("--label", help="version to ask by its label, such as canary")
    parser.add_argument("--output", type=Path, required=True, help="predictions in the rows' order: .parquet or .csv")
    parser.add_argument("--batch-size", type=int, default=4096, help="rows per request")
    parser.add_argument("--timeout", type=float, default=30.0, help="deadline of a request in seconds")
    parser.add_argument("--ca-file", type=Path, help="TLS: PEM file of the authorities that vouch for the server")
    parser.add_argument("--cert-file", type=Path, help="mutual TLS: PEM file of the client's certificate")
    parser.add_argument("--key-file", type=Path, help="mutual TLS: PEM file of the client's private key")


def _add_generate(parser: jsonargparse.ArgumentParser) -> None:
    from .datasets.ads_world import SyntheticAds

    parser.add_argument("--output", type=Path, required=True, help="folder, new or to be completed")
    parser.add_argument("--format", choices=["parquet", "tfrecord"], default="parquet", help="of the files")
    parser.add_argument("--num_shards", type=int, default=1, help="files per split")
    parser.add_argument("--shard", type=int, help="write this one of the shards only, as one of several machines does")
    parser.add_argument("--jobs", type=int, default=1, help="processes; each holds the world in its memory")
    parser.add_class_arguments(SyntheticAds)


def _run(values: Any) -> None:
    from .run import run_all

    _check_one_process("run")
    run_all(_configured(values))


def _prepare(values: Any) -> None:
    from .steps import prepare_run

    _check_one_process("prepare")
    run = _configured(values)
    prepare_run(run)
    print(f"{run.path / 'data'}, {run.path / 'schema.json'}")


def _train(values: Any) -> None:
    from c2al_tf.training.distribution import is_chief, make_strategy

    from .steps import train_arm

    run = _opened(values)
    strategy = make_strategy()
    for seed in run.seeds:
        train_arm(run, seed, values.arm, strategy)
        if is_chief(strategy):
            print(run.model_file(seed, values.arm))


def _discover(values: Any) -> None:
    from .run import print_discovery
    from .steps import discover_run

    _check_one_process("discover")
    run = _opened(values)
    discover_run(run)
    print_discovery(run)


def _evaluate(values: Any) -> None:
    from .run import print_metrics
    from .steps import evaluate_run

    _check_one_process("evaluate")
    run = _opened(values)
    evaluate_run(run)
    print_metrics(run)


def _export(values: Any) -> None:
    from .steps import export_run

    _check_one_process("export")
    print(export_run(_opened(values), values.seed).directory)


def _verify_export(values: Any) -> None:
    from rich.console import Console

    from c2al_tf.files import write_json

    from .verify_export import print_checks, verify_export

    checks = verify_export(values.directory, values.against)
    print_checks(checks, Console())
    if values.json is not None:
        write_json(values.json, [dataclasses.asdict(check) for check in checks])
    failed = sum(not check.passed for check in checks)
    if failed:
        raise ValueError(f"{values.directory}: {failed} of {len(checks)} checks failed")


def _report(values: Any) -> None:
    from .details import write_details
    from .report import write_report

    run = _opened(values)
    write_details(run)
    print(write_report(run.path))


def _serve(values: Any) -> None:
    from c2al_serving.batching import read_batching_parameters
    from c2al_serving.model_config import ModelConfig, read_model_configs
    from c2al_serving.server import serve
    from c2al_serving.tls import read_server_credentials

    file, tls, batching = values.model_config_file, values.ssl_config_file, values.batching_parameters_file
    serve(
        [ModelConfig(values.model_name, values.export_dir)] if file is None else read_model_configs(file),
        grpc_port=values.grpc_port,
        rest_port=values.rest_port,
        host=values.host,
        poll_seconds=values.poll_seconds,
        credentials=None if tls is None else read_server_credentials(tls),
        max_requests=values.max_requests,
        batching=None if batching is None else read_batching_parameters(batching),
        on_ready=lambda server: print(server, flush=True),
    )


def _predict(values: Any) -> None:
    from c2al_serving.client import PredictClient
    from c2al_serving.tls import read_channel_credentials

    from .predict import predict_file

    files = (values.ca_file, values.cert_file, values.key_file)
    with PredictClient(
        values.server,
        values.model,
        version=values.version,
        label=values.label,
        timeout=values.timeout,
        max_rows=values.batch_size,
        credentials=read_channel_credentials(*files) if any(files) else None,
    ) as client:
        rows = predict_file(values.file, client, values.output)
    print(f"{rows:,} rows: {values.output}")


def _generate(values: Any) -> None:
    from .datasets.ads_world import SyntheticAds
    from .generate import Plan, generate_files, print_truth

    parameters = SyntheticAds(**{field.name: values[field.name] for field in dataclasses.fields(SyntheticAds)})
    plan = Plan(parameters, values.output, values.format, values.num_shards)
    truth = generate_files(plan, shard=values.shard, jobs=values.jobs)
    if truth is None:
        print(f"{plan.output}: other shards are still to come; the last one writes truth.json")
        return
    print_truth(truth)
    print(f"Train on it: c2al run {plan.output}/run.yaml --data {plan.output} --run-dir runs/ads")


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
        "Trains one arm for every seed: the baseline, or C2AL once the cohorts are found. It uses all GPUs of the "
        "machine. On several machines: the same command on each, with TF_CONFIG and the run's folder shared; if one "
        "stops, all do, and the same command goes on.",
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
    "verify-export": Command(
        "Says whether a version folder is what TensorFlow Serving needs: it loads on the server's own C++ loader with "
        "XLA off, answers its warm-up requests and batches of 0 to 4,096 rows, refuses wrong inputs, and, with "
        "--against, differs from another export in the values of its weights alone.",
        "DIR [--against DIR] [--json FILE]",
        "c2al verify-export runs/census/export/1",
        _add_verify_export,
        _verify_export,
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
        "{EXPORT_DIR [--model-name NAME] | --model-config-file FILE} [--grpc-port P] [--rest-port R] [--host HOST] "
        "[--batching-parameters-file FILE] [--ssl-config-file FILE]",
        "c2al serve runs/census/export --grpc-port 8500 --rest-port 8501 --model-name census",
        _add_serve,
        _serve,
    ),
    "predict": Command(
        "Sends a file's rows to a model server and writes its predictions.",
        "FILE --server HOST:PORT [--model NAME] [--version N | --label L] --output FILE [--batch-size N] "
        "[--ca-file FILE]",
        "c2al predict rows.parquet --server localhost:8500 --model census --output predictions.parquet",
        _add_predict,
        _predict,
    ),
    "generate": Command(
        "Writes synthetic ad clicks with planted cohorts as files, and the truth about them. The head and the tail "
        "cohort are the rows of the highest and lowest 5 % of user_value: their clicks depend on other pairs of fields "
        "than the majority's, cohort_strength logits strong. DIR gets train/, validation/, test/, schema.json for "
        "make_dataset, run.yaml for `c2al run`, and truth.json: what was planted, the true click rates, and the NE "
        "that no model can beat, overall and by cohort. The same parameters give the same rows. An interrupted call "
        "goes on where it stopped. Several machines share the work: each writes its own shards, into one folder or "
        "into folders that are then put together and completed by a call without --shard.",
        "--output DIR [--format {parquet,tfrecord}] [--num-shards N [--shard I]] [--jobs K] [--PARAMETER VALUE ...]",
        "c2al generate --output data/ads --num-rows 20000000 --num-users 5000000 --num-ads 1000000 --click-rate 0.005 "
        "--num-shards 16 --jobs 2",
        _add_generate,
        _generate,
    ),
}
