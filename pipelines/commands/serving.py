"""The subcommands of `c2al` for what serves: an export, a server, a client. Imports as in `commands`: on call."""

import dataclasses
from pathlib import Path
from typing import Any

import jsonargparse

from c2al_tf.storage import local_path, opened, with_urls

from .command import Command


def _add_verify_export(parser: jsonargparse.ArgumentParser) -> None:
    parser.add_argument("directory", type=Path, help="a version folder")
    parser.add_argument("--against", type=Path, help="another one, which differs in the values of its weights alone")
    parser.add_argument("--json", type=Path, help="file for the verdict as JSON")


def _add_serve(parser: jsonargparse.ArgumentParser) -> None:
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("export_dir", nargs="?", type=Path, help="base path, which holds version folders: 1, 2, ...")

    def add(name: str, *real: str, group: Any = parser, **rest: Any) -> None:
        """Adds an option with the names that tensorflow_model_server has for it."""
        group.add_argument(*dict.fromkeys((name, f"--{name[2:].replace('-', '_')}", *real)), **rest)

    switch: dict[str, Any] = {"nargs": "?", "const": True, "default": False, "type": _switch}
    add("--model-base-path", group=what, type=Path, help="the same as export_dir")
    add("--model-config-file", group=what, type=Path, help="models, in the format of tensorflow_model_server's file")
    add("--grpc-port", "--port", type=int, default=8500, help="port of the gRPC interface; 0: a free one")
    add("--rest-port", "--rest_api_port", type=int, help="port of the REST interface; 0: a free one; by default none")
    add("--model-name", default="default", help="name that requests call the model of export_dir by")
    add("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0: all")
    add("--poll-seconds", "--file_system_poll_wait_seconds", type=float, default=1.0, help="between looks for versions")
    add("--load-retries", "--max_num_load_retries", type=int, default=5, help="of a version that cannot be loaded")
    add("--load-retry-interval-micros", type=int, default=60_000_000, help="microseconds from one attempt to the next")
    add(
        "--allow-version-labels-for-unavailable-models",
        **switch,
        help="a new label may mean a version that is not loaded yet, also at the start",
    )
    add("--ssl-config-file", type=Path, help="TLS for gRPC, in the format of tensorflow_model_server's file")
    add("--enable-batching", **switch, help="merge the requests that wait")
    add("--batching-parameters-file", type=Path, help="merge requests, in the format of the real server's file")
    add(
        "--monitoring-config-file",
        type=Path,
        help="metrics, in the format of tensorflow_model_server's file; without it they are on, at its default path",
    )
    add(
        "--num-threads",
        "--tensorflow_intra_op_parallelism",
        type=int,
        default=1,
        help="threads that work on one call of a model: more are faster for thousands of rows",
    )
    add("--grpc-channel-arguments", default="", help="for gRPC's core: grpc.max_connection_age_ms=600000,...")
    add("--no-reload-config", **switch, help="refuse requests that change the models")
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
    parser.add_argument("--server", default="127.0.0.1:8500", help="gRPC address: HOST:PORT, or a gRPC target")
    parser.add_argument("--model", default="default", help="name of the model")
    parser.add_argument("--version", type=int, help="version to ask; by default the latest")
    parser.add_argument("--label", help="version to ask by its label, such as canary")
    parser.add_argument("--output", type=Path, required=True, help="predictions in the rows' order: .parquet or .csv")
    parser.add_argument("--batch-size", type=int, default=4096, help="rows per request")
    parser.add_argument("--concurrency", type=int, default=4, help="requests under way at a time")
    parser.add_argument("--timeout", type=float, default=30.0, help="deadline of a request in seconds")
    parser.add_argument("--restart", action="store_true", help="drop what an earlier call of this output has finished")
    _add_connection(parser)


def _add_reload_config(parser: jsonargparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, help="model_config_list: all models that the server shall have")
    parser.add_argument("--server", default="127.0.0.1:8500", help="gRPC address, HOST:PORT")
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds; new models are loaded meanwhile")
    _add_connection(parser)


def _add_connection(parser: jsonargparse.ArgumentParser) -> None:
    parser.add_argument(
        "--metadata", nargs="+", type=str, default=[], help="KEY=VALUE: metadata of each request, such as a token"
    )
    parser.add_argument("--ca-file", type=Path, help="TLS: PEM file of the authorities that vouch for the server")
    parser.add_argument("--cert-file", type=Path, help="mutual TLS: PEM file of the client's certificate")
    parser.add_argument("--key-file", type=Path, help="mutual TLS: PEM file of the client's private key")


def _verify_export(values: Any) -> None:
    from rich.console import Console

    from c2al_tf.files import write_json

    from .verify_export import print_checks, verify_export

    checks = verify_export(opened(values.directory), values.against and opened(values.against))
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
    monitoring, folder = values.monitoring_config_file, values.export_dir or values.model_base_path
    serve(
        [ModelConfig(values.model_name, local_path(folder).absolute())] if file is None else read_model_configs(file),
        grpc_port=values.grpc_port,
        rest_port=values.rest_port,
        host=values.host,
        poll_seconds=values.poll_seconds if values.poll_seconds > 0 else None,
        retries=values.load_retries,
        retry_seconds=values.load_retry_interval_micros / 1e6,
        allow_unavailable_labels=values.allow_version_labels_for_unavailable_models,
        num_threads=values.num_threads,
        reloads=not values.no_reload_config,
        channel_arguments=_channel_arguments(values.grpc_channel_arguments),
        credentials=None if tls is None else read_server_credentials(tls),
        max_requests=values.max_requests,
        batching=batching,
        metrics_path=PATH if monitoring is None else read_metrics_path(monitoring),
        reuse_port=values.reuse_port,
        on_ready=lambda server: print(server, flush=True),
    )


def _switch(text: str | bool) -> bool:
    """`true` or `false`: the real server's switches may be given so."""
    if str(text).lower() not in ("true", "false"):
        raise ValueError(f"must be true or false. Received: {text}")
    return str(text).lower() == "true"


def _channel_arguments(text: str) -> dict[str, int | str]:
    """`name=value,...`, as the real server takes them: numbers where they are some."""
    pairs = [each.partition("=") for each in text.split(",") if each]
    if not all(separator for _, separator, _ in pairs):
        raise ValueError(f"--grpc-channel-arguments must be name=value,name=value. Received: {text}")
    return {name: int(value) if value.lstrip("-").isdecimal() else value for name, _, value in pairs}


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
        metadata=_metadata(values),
    ) as client:
        rows = predict_file(values.file, client, values.output, concurrency=values.concurrency, restart=values.restart)
    print(with_urls(f"{rows:,} rows: {values.output}"))


def _reload_config(values: Any) -> None:
    from c2al_serving.admin import reload_config
    from c2al_serving.config.model_config import from_proto, read_config

    config = read_config(values.file)
    connection = {"credentials": _credentials(values), "metadata": _metadata(values)}
    reload_config(values.server, config, timeout=values.timeout, **connection)
    print(f"{values.server}: OK. Models: {', '.join(model.name for model in from_proto(config))}")


def _credentials(values: Any) -> Any:
    from c2al_serving.config.tls import read_channel_credentials

    files = (values.ca_file, values.cert_file, values.key_file)
    return read_channel_credentials(*files) if any(files) else None


def _metadata(values: Any) -> dict[str, str]:
    wrong = [word for word in values.metadata if "=" not in word]
    if wrong:
        raise ValueError(f"`--metadata` must be KEY=VALUE. Received: {wrong[0]}")
    return dict(word.split("=", 1) for word in values.metadata)


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
        "[--ssl-config-file FILE] [--num-threads N] [--max-requests N] [--reuse-port] [--no-reload-config] ...",
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
        "[--concurrency N] [--timeout SECONDS] [--restart] [--metadata KEY=VALUE ...] "
        "[--ca-file FILE [--cert-file FILE --key-file FILE]]",
        "c2al predict rows.parquet --server localhost:8500 --model census --output predictions.parquet",
        _add_predict,
        _predict,
        ("client", "cohorts"),
    ),
    "reload-config": Command(
        "Has a running model server serve other models, versions and labels, without a restart. It needs TensorFlow "
        "Serving's ModelService; it is tested with the embedded server.",
        "FILE --server HOST:PORT [--timeout SECONDS] [--metadata KEY=VALUE ...] "
        "[--ca-file FILE [--cert-file FILE --key-file FILE]]",
        "c2al reload-config serving/model_server/canary.config --server localhost:8500",
        _add_reload_config,
        _reload_config,
        ("client",),
    ),
}
