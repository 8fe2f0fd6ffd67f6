"""`c2al init`: writes the configuration of a run on your own files, from a look at them."""

import sys
from pathlib import Path
from typing import Any

import jsonargparse

from c2al_tf.storage import is_there, local_path, shown

from .command import Command


def _add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    parser.add_argument("data", type=str, help="folder of the files, a pattern that matches them, or a file")
    parser.add_argument("--output", type=Path, default=Path("run.yaml"), help="the file to be written")
    parser.add_argument("--label", type=str, help="column with the label; by default the likeliest one of 0 and 1")
    parser.add_argument("--rows", type=int, default=200_000, help="rows to read at most")
    parser.add_argument("--overwrite", type=bool, default=False, help="whether to replace a file that is there")


def _init(values: Any) -> None:
    from c2al_tf.files import replace_file

    from ..datasets.look.found_files import find_files
    from ..datasets.look.sample import read_sample
    from ..datasets.look.yaml_text import as_yaml, make_draft

    output = local_path(values.output)
    if is_there(output) and not values.overwrite:
        raise ValueError(
            f"{output} is there; give another --output, or --overwrite true to replace it. Received: --output {output}"
        )
    found = find_files(values.data)
    draft = make_draft(found, read_sample(found, values.rows), values.label)
    with replace_file(output) as temporary:
        temporary.write_text(as_yaml(draft), encoding="utf-8")
    print_draft(draft, output)


def print_draft(draft: Any, output: Path) -> None:
    """Prints what was found as a table, and the next command."""
    import shlex

    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(width=None if sys.stdout.isatty() else 120, emoji=False)
    folder, run_dir = shown(draft.found.folder), shlex.quote(f"runs/{output.stem}")
    table = Table("column", "stored as", "becomes", "seen", title=escape(f"{folder}: what its columns are"))
    for choice in draft.choices:
        style = {"label": "green", "weight": "green", "left out": "yellow"}.get(choice.role)
        becomes = choice.spec.get("kind", choice.role)
        table.add_row(*map(escape, (choice.column.name, choice.column.stored, becomes, choice.reason)), style=style)
    console.print(table)
    for split, pattern in draft.found.patterns.items():
        console.print(escape(f"{split + ':':12}{pattern} ({draft.found.notes[split]})"))
    console.print(escape(f"Written: {shown(output)}. Read its comments, then:"))
    console.print(
        escape(f"  c2al run {shlex.quote(shown(output))} --data {shlex.quote(folder)} --run-dir {run_dir}"),
        soft_wrap=True,
    )


INIT_COMMANDS = {
    "init": Command(
        "Looks at Parquet, CSV or TFRecord files and writes the YAML of a run on them, with a comment for each choice: "
        "which files train and test, which column is the label, which are features and of what kind, what cohorts may "
        "be cut along. It trains nothing.",
        "DATA [--output FILE] [--label COLUMN] [--rows N] [--overwrite true]",
        "c2al init data/clicks --output clicks.yaml",
        _add_arguments,
        _init,
        ("experiments",),
    )
}
