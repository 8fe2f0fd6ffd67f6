"""What runs a pipeline over files of any number of rows, as the command line says it."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonargparse

from c2al_tf.storage import local_path, shown

if TYPE_CHECKING:
    from ..beam.totals import Runner

RUN_BY = "[--runner NAME] [--runner-options KEY=VALUE ...] [--scratch URL]"
"""What a command's usage says of it."""


def add_runner(parser: jsonargparse.ArgumentParser, here: str, beside: str) -> None:
    """Adds the arguments; `here` says what runs it without a runner, `beside` where sums are by default."""
    parser.add_argument("--runner", type=str, help=f"Beam's runner, such as DirectRunner; by default {here}")
    parser.add_argument(
        "--runner-options", nargs="+", type=str, default=[], help="options of the runner, such as direct_num_workers=2"
    )
    parser.add_argument(
        "--scratch", type=str, help=f"folder or URL for sums, which all workers reach; by default {beside}"
    )


def runner_of(values: Any, folder: Path) -> "Runner":
    """The runner that the arguments say; its sums are in `folder` unless they say where."""
    from c2al_tf.extras import require

    from ..beam.totals import Runner

    if values.runner is not None:
        require("beam")
    options = tuple(option if option.startswith("--") else f"--{option}" for option in values.runner_options)
    return Runner(values.runner, options, values.scratch or shown(local_path(folder).absolute()))
