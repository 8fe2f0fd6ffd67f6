"""The subcommands of `c2al` for what serves: an export, a server, a client. Imports as in `commands`: on call."""

import dataclasses
from pathlib import Path
from typing import Any

import jsonargparse

from .command import Command


def _add_verify_export(parser: jsonargparse.ArgumentParser) -> None:
    parser.add_argument("directory", type=Path, help="a version folder")
    parser.add_argument("--against", type=Path, help="another one, which differs in the values of its weights alone")
    parser.add_argument("--json", type=Path, help="file for the verdict as JSON")


def _add_serve(parser: jsonargparse.ArgumentParser) -> None:
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("export_dir", nargs="?", type=Path, help="base path, which holds version folders: 1, 2, ...")
    what.add_argument("--model-config-file", type=Path, help="models, in the format of tensorflow_model_server's file")
    parser.add_argument("--grpc-port", type=int, default=8500, help="port of the gRPC interface; 0: a free one")
    parser.add_argument("--rest-port", type=int, help="port of the REST interface; 0: a free one; by default none")
    parser.add_argument("--model-name", default="default", help="name that requests call the model of export_dir by")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0: all")
    parser.add_argument("--poll-seconds", type=float, default=1.0, help="between two looks for new versions")
    parser.add_argument(
        "--ssl-config-file", type=Path, help="TLS for gRPC, in the format of tensorflow_model_server's file"
    )
    parser.add_argument("--enable-batching", action="store_true", help="merge the requests that wait")
    parser.add_argument(
        "--batching-parameters-file", type=Path, help="merge requests, in the format of the real server's file"
    )
    parser.add_argument(
        "--monitoring-config-file",
        type=Path,
        help="metrics, in the format of tensorflow_model_server's file; without it they are on, at its default path",
    )
    parser.add_argument("--max-requests", type=int, default=1024, help="requests at a time; more are refused")
    parser.add_argument(
        "--reuse-port",
        action="store_true",
        help="share the gRPC port with other processes that do, as one keeps about one core busy",
    )


def _add_predict(parser: jsonargparse.ArgumentParser) -> None:
    parser.add_argument(
        "file", type=Path, help="rows with the model's columns: Parquet, CSV or TFRecord, a file, a folder or a pattern"
    )
    parser.add_argument("--server", default="127.0.0.1:8500", help="gRPC address, HOST:PORT")
    parser.add_argument("--model", default="default", help="name of the model")
    parser.add_argument("--version", type=int, help="version to ask; by default the latest")
    parser.add_argument("--label", help="version to ask by its label, such as canary")
    parser.add_argument("--output", type=Path, required=True, help="predictions in the rows' order: .parquet or .csv")
    parser.add_argument("--batch-size", type=int, default=4096, help="rows per request")
    parser.add_argument("--concurrency", type=int, default=4, help="requests under way at a time")
    parser.add_argument("--timeout", type=float, default=30.0, help="deadline of a request in seconds")
    parser.add_argument("--restart", action="store_true", help="drop what an earlier call of this output has finished")
    _add_tls(parser)


def _add_reload_config(parser: jsonargparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, help="model_config_list: all models that the server shall have")
    parser.add_argument("--server", default="127.0.0.1:8500", help="gRPC address, HOST:PORT")
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds; new models are loaded meanwhile")
    _add_tls(parser)


def _add_tls(parser: jsonargparse.ArgumentParser) -> None:
    parser.add_argument("--ca-file", type=Path, help="TLS: PEM file of the authorities that vouch for the server")
    parser.add_argument("--cert-file", type=Path, help="mutual TLS: PEM file of the client's certificate")
    parser.add_argument("--key-file", type=Path, help="mutual TLS: PEM file of the client's private key")


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


def _serve(values: Any) -> None:
    from c2al_serving.config.batching_parameters import BatchingParameters, read_batching_parameters
    from c2al_serving.config.model_config import ModelConfig, read_model_configs
    from c2al_serving.config.monitoring import PATH, read_metrics_path
    from c2al_serving.config.tls import read_server_credentials
    from c2al_serving.server import serve

    file, tls, batching = values.model_config_file, values.ssl_config_file, None
    if values.batching_parameters_file is not None:
        batching = read_batching_parameters(values.batching_parameters_file)
    elif values.enable_batching:
        batching = BatchingParameters()
    monitoring = values.monitoring_config_file
    serve(
        [ModelConfig(values.model_name, values.export_dir)] if file is None else read_model_configs(file),
        grpc_port=values.grpc_port,
        rest_port=values.rest_port,
        host=values.host,
        poll_seconds=values.poll_seconds,
        credentials=None if tls is None else read_server_credentials(tls),
        max_requests=values.max_requests,
        batching=batching,
        metrics_path=PATH if monitoring is None else read_metrics_path(monitoring),
        reuse_port=values.reuse_port,
        on_ready=lambda server: print(server, flush=True),
    )


def _predict(values: Any) -> None:
    from c2al_serving.client import PredictClient

    from ..prediction.predict import predict_file

    with PredictClient(
        values.server,
        values.model,
        version=values.version,
        label=values.label,
        timeout=values.timeout,
        max_rows=values.batch_size,
        credentials=_credentials(values),
    ) as client:
        rows = predict_file(values.file, client, values.output, concurrency=values.concurrency, restart=values.restart)
    print(f"{rows:,} rows: {values.output}")


def _reload_config(values: Any) -> None:
    from c2al_serving.admin import reload_config
    from c2al_serving.config.model_config import from_proto, read_config

    config = read_config(values.file)
    reload_config(values.server, config, credentials=_credentials(values), timeout=values.timeout)
    print(f"{values.server}: OK. Models: {', '.join(model.name for model in from_proto(config))}")


def _credentials(values: Any) -> Any:
    from c2al_serving.config.tls import read_channel_credentials

    files = (values.ca_file, values.cert_file, values.key_file)
    return read_channel_credentials(*files) if any(files) else None


SERVING_COMMANDS = {
    "verify-export": Command(
        "Says whether a version folder is what TensorFlow Serving needs. It loads on the server's own C++ loader with "
        "XLA off, answers its warm-up requests and batches of 0 to 4,096 rows, refuses wrong inputs, and, with "
        "--against, differs from another export in the values of its weights alone.",
        "DIR [--against DIR] [--json FILE]",
        "c2al verify-export runs/census/export/1",
        _add_verify_export,
        _verify_export,
        ("serving", "train"),
    ),
    "serve": Command(
        "Serves an export over gRPC and REST with TensorFlow Serving's API; serving/model_server/README.md says where "
        "tensorflow_model_server differs.",
        "{EXPORT_DIR [--model-name NAME] | --model-config-file FILE} [--grpc-port P] [--rest-port R] [--host HOST] "
        "[--poll-seconds N] [--enable-batching | --batching-parameters-file FILE] [--monitoring-config-file FILE] "
        "[--ssl-config-file FILE] [--max-requests N] [--reuse-port]",
        "c2al serve runs/census/export --grpc-port 8500 --rest-port 8501 --model-name census",
        _add_serve,
        _serve,
        ("serving",),
    ),
    "predict": Command(
        "Sends a file's rows to a model server and writes its predictions, a row for each row in their order. One "
        "version gives them all: the one that answers first. What is finished is kept in OUTPUT.parts/ until all is: "
        "however a call ends, the same call goes on where the finished parts end, and OUTPUT is then what one call "
        "would have written. An input, server, model or batch size other than theirs is an error, and --restart begins "
        "anew.",
        "FILE --server HOST:PORT [--model NAME] [--version N | --label L] --output FILE [--batch-size N] "
        "[--concurrency N] [--timeout SECONDS] [--restart] [--ca-file FILE [--cert-file FILE --key-file FILE]]",
        "c2al predict rows.parquet --server localhost:8500 --model census --output predictions.parquet",
        _add_predict,
        _predict,
        ("client", "cohorts"),
    ),
    "reload-config": Command(
        "Has a running model server serve other models, versions and labels, without a restart. It needs TensorFlow "
        "Serving's ModelService; it is tested with the embedded server.",
        "FILE --server HOST:PORT [--timeout SECONDS] [--ca-file FILE [--cert-file FILE --key-file FILE]]",
        "c2al reload-config serving/model_server/canary.config --server localhost:8500",
        _add_reload_config,
        _reload_config,
        ("client",),
    ),
}
