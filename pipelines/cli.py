"""The command `c2al`: parses, calls a step, prints.

Steps are imported when they are called for: `--help` and the server do without TensorFlow.
"""

import dataclasses
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonargparse

from .native_log import hide_native_notes

_EPILOG = "Every key can be given on the command line: --training.epochs 5 --cohorts.lambdas [0.3]"


@dataclass(frozen=True)
class _Command:
    """A subcommand: what it does, how it is called, its arguments, and the function that gets them."""

    description: str
    usage: str
    example: str
    add_arguments: Callable[[jsonargparse.ArgumentParser], None]
    call: Callable[[Any], None]


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command; an error that a user can mend is one message and exit status 1, without a traceback."""
    hide_native_notes()
    words = _positional_config(list(sys.argv[1:] if arguments is None else arguments))
    parser = _parser(words[0] if words else "")
    values = parser.parse_args(words)
    if values.subcommand is None:
        parser.print_help()
        return
    try:
        _COMMANDS[values.subcommand].call(parser.instantiate(values)[values.subcommand])
    except KeyboardInterrupt:
        sys.exit("c2al: interrupted. The same command goes on where this one stopped.")
    except Exception as error:
        message = _message(error)
        if message is None or os.environ.get("C2AL_TRACEBACK"):
            raise
        sys.exit(f"c2al: {message}")


class _Parser(jsonargparse.ArgumentParser):
    """Lists the right keys where one is wrong."""

    command = "c2al"
    keys: Sequence[
        str
    ] = ()  # of the chosen command; without, the parser's own: jsonargparse makes some for nested keys

    def error(self, message: str, ex: Exception | None = None) -> Any:
        """Prints the error, without the long usage, and exits with status 2."""
        hint = f"See `{self.command} --help`."
        if any(words in message for words in ("not expected", "nrecognized", "does not accept", "not accepted")):
            hint = "\n  ".join(["The keys are:", *(self.keys or _keys(self))])
        sys.stderr.write(f"c2al: {message}\n{hint}\n")
        sys.exit(2)


def _keys(parser: jsonargparse.ArgumentParser) -> list[str]:
    options = {action.option_strings[-1].lstrip("-") for action in parser._actions if action.option_strings}
    names = {name for name in options if name.rpartition(".")[2] not in ("help", "config", "print_config")}
    return sorted(names - {name.rpartition(".")[0] for name in names})


def _parser(chosen: str) -> jsonargparse.ArgumentParser:
    parser = _Parser(
        prog="c2al",
        description="Cohort-Contrastive Auxiliary Learning: find the two cohorts that a trained model treats most "
        "differently, train with an auxiliary task for each, serve without them.",
        epilog="Start with: c2al run pipelines/configs/demo.yaml --run-dir runs/demo",
        allow_abbrev=False,
    )
    commands = parser.add_subcommands(title="commands", metavar="COMMAND", required=False)
    for name, command in _COMMANDS.items():
        subparser = _Parser(
            prog=f"c2al {name}",
            usage=f"c2al {name} {command.usage}",
            description=command.description,
            epilog=f"Example: {command.example}",
            allow_abbrev=False,
        )
        if name == chosen:  # the others' arguments are not needed, and loading what they are made of takes long
            command.add_arguments(subparser)
            for either in (parser, subparser):
                either.command, either.keys = subparser.prog, _keys(subparser)
        commands.add_subcommand(name, subparser, help=command.description.split(". ")[0])
    return parser


def _positional_config(words: list[str]) -> list[str]:
    """Writes `run FILE --data DIR` as what the parser knows, `run --config=FILE --data.path=DIR`."""
    if not words or words[0] not in ("run", "prepare"):
        return words
    if len(words) > 1 and not words[1].startswith("-"):
        words = [words[0], f"--config={words[1]}", *words[2:]]
    return ["--data.path" if w == "--data" else w.replace("--data=", "--data.path=") for w in words]


def _message(error: Exception) -> str | None:
    """What to tell a user, or None for an error that is no one's to mend but ours."""
    if isinstance(error, ValueError | OSError | RuntimeError) and type(error).__module__ != "builtins":
        ours = type(error).__module__.startswith(("c2al", "pipelines", "serving", "grpc"))
    else:
        ours = isinstance(error, ValueError | OSError)
    # A bad row found inside tf.data arrives as an error of TensorFlow around ours.
    marker = "ValueError: "
    if marker in str(error):
        return str(error).split(marker, 1)[1].split("\nTraceback (most recent call last)")[0].split("\n\n")[0].strip()
    return str(error) if ours else None


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
_COMMANDS = {
    "run": _Command(
        "Runs everything: prepare, baselines, discovery, C2AL models, evaluation, export, server, report. An "
        "interrupted run goes on where it stopped.",
        _CONFIGURED,
        "c2al run pipelines/configs/census.yaml --data data/census --run-dir runs/census",
        _add_config,
        _run,
    ),
    "prepare": _Command(
        "Writes a data set's rows as Parquet, and the schema of their columns.",
        _CONFIGURED,
        "c2al prepare pipelines/configs/census.yaml --data data/census --run-dir runs/census",
        _add_config,
        _prepare,
    ),
    "train": _Command(
        "Trains one arm for every seed: the baseline, or C2AL once the cohorts are found.",
        "--run-dir DIR --arm {baseline,c2al}",
        "c2al train --run-dir runs/census --arm baseline",
        _add_train,
        _train,
    ),
    "discover": _Command(
        "Finds the cohorts that the baseline treats most differently, on the validation rows.",
        "--run-dir DIR",
        "c2al discover --run-dir runs/census",
        _add_run_dir,
        _discover,
    ),
    "evaluate": _Command(
        "Compares the arms by cohort on the test rows, with intervals over seeds and rows.",
        "--run-dir DIR",
        "c2al evaluate --run-dir runs/census",
        _add_run_dir,
        _evaluate,
    ),
    "export": _Command(
        "Exports a C2AL model, primary head only, for TensorFlow Serving. It is published only once it is proved.",
        "--run-dir DIR [--seed SEED]",
        "c2al export --run-dir runs/census",
        _add_export,
        _export,
    ),
    "report": _Command(
        "Writes report.html of an evaluated and exported run.",
        "--run-dir DIR",
        "c2al report --run-dir runs/census",
        _add_run_dir,
        _report,
    ),
    "serve": _Command(
        "Serves an export as tensorflow_model_server does, over gRPC and REST.",
        "EXPORT_DIR [--grpc-port P] [--rest-port R] [--model-name NAME] [--host HOST]",
        "c2al serve runs/census/export --grpc-port 8500 --rest-port 8501 --model-name census",
        _add_serve,
        _serve,
    ),
    "predict": _Command(
        "Sends a file's rows to a model server and writes its predictions.",
        "FILE --server HOST:PORT [--model NAME] --output FILE [--batch-size N] [--timeout SECONDS]",
        "c2al predict rows.parquet --server localhost:8500 --model census --output predictions.parquet",
        _add_predict,
        _predict,
    ),
}
