"""The command `c2al`: parses, calls a subcommand, says what went wrong."""

import atexit
import contextlib
import gc
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import jsonargparse

from c2al_tf.extras import MissingExtraError, as_missing_extra, require
from c2al_tf.storage import opened, with_urls

from .commands import COMMANDS
from .native_log import hide_native_notes


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command; an error that a user can mend is one message and exit status 1, without a traceback."""
    hide_native_notes()
    if arguments is None:
        _collect_garbage_less_often()
    try:
        words = _positional_config(list(sys.argv[1:] if arguments is None else arguments))
    except (OSError, ValueError) as error:
        sys.exit(f"c2al: {with_urls(str(error))}")
    chosen = words[0] if words else ""
    _check_extras(chosen)
    parser = _parser(chosen)
    values = parser.parse_args(words)
    if values.subcommand is None:
        parser.print_help()
        return
    try:
        with _notes():
            COMMANDS[values.subcommand].call(parser.instantiate(values)[values.subcommand])
    except KeyboardInterrupt:
        sys.exit("c2al: interrupted. The same command keeps what is finished and does the rest.")
    except Exception as error:
        message = _message(error)
        if message is None or os.environ.get("C2AL_TRACEBACK"):
            raise
        sys.exit(f"c2al: {with_urls(message)}")


def _collect_garbage_less_often() -> None:
    """Saves 3 to 5 s of every process: Python looks for cycles among the million objects of TensorFlow's import.

    By default it looks after every 700 new objects, and again at the exit, when the system takes all memory back.
    """
    gc.set_threshold(50_000)
    atexit.register(gc.freeze)


def _check_extras(chosen: str) -> None:
    """Before anything is done: a run would miss some of it hours later."""
    try:
        require(*COMMANDS[chosen].extras if chosen in COMMANDS else ())
    except MissingExtraError as error:
        sys.exit(f"c2al: {error}")


@contextlib.contextmanager
def _notes() -> Iterator[None]:
    """Shows what the library logs, such as whether XLA compiles, on stderr."""
    logger, handler = logging.getLogger("c2al_tf"), logging.StreamHandler(sys.stderr)
    level, propagate = logger.level, logger.propagate
    logger.setLevel(logging.INFO)
    logger.propagate = False  # TensorFlow's import gives the root logger a handler, which would say it again.
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate


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
        sys.stderr.write(with_urls(f"c2al: {message}\n{hint}\n"))
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
    for name, command in COMMANDS.items():
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
    if words[:1] == ["generate"]:
        return [_underscored(word) if word.startswith("--") else word for word in words]
    if not words or words[0] not in ("run", "experiment", "tune", "prepare"):
        return words
    if len(words) > 1 and not words[1].startswith("-"):
        words = [words[0], f"--config={words[1]}", *words[2:]]
    for place, word in enumerate(words):
        if word == "--config" and place + 1 < len(words):
            words[place + 1] = str(opened(words[place + 1]))
        elif word.startswith("--config="):
            words[place] = f"--config={opened(word.partition('=')[2])}"
    return ["--data.path" if w == "--data" else w.replace("--data=", "--data.path=") for w in words]


def _underscored(word: str) -> str:
    """Writes `--num-rows=1` as the parser names it, `--num_rows=1`."""
    name, equals, value = word[2:].partition("=")
    return f"--{name.replace('-', '_')}{equals}{value}"


def _message(error: Exception) -> str | None:
    """What to tell a user, or None for an error that is no one's to mend but ours."""
    if isinstance(error, ModuleNotFoundError) and (missing := as_missing_extra(error)):
        return str(missing)  # what an option needs beside the command's extras, such as TensorFlow for TFRecord
    if isinstance(error, ValueError | OSError | RuntimeError) and type(error).__module__ != "builtins":
        ours = type(error).__module__.startswith(("c2al", "pipelines", "serving", "grpc"))
    else:
        ours = isinstance(error, ValueError | OSError)
    # A bad row found inside tf.data arrives as an error of TensorFlow around ours.
    marker = "ValueError: "
    if marker in str(error):
        return str(error).split(marker, 1)[1].split("\nTraceback (most recent call last)")[0].split("\n\n")[0].strip()
    return str(error) if ours else None
