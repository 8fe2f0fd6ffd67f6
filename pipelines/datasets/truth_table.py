"""The truth about generated rows as a table."""

import sys
from collections.abc import Mapping

from rich.console import Console
from rich.table import Table

from .ads_truth import Truths


def print_truth(truth: Mapping[str, Truths]) -> None:
    """Prints the truth by split and cohort as a table."""
    table = Table(
        title="The truth about the rows",
        caption="Bayes NE: what the true probabilities are expected to have, and no model can beat. NE: what they have "
        "on these clicks, to hold a model's NE beside.",
        caption_justify="left",
    )
    for name in ("split", "cohort", "rows", "clicks", "true click rate", "Bayes NE", "NE"):
        table.add_column(name, justify="left" if name in ("split", "cohort") else "right")
    for split, by_cohort in truth.items():
        for name, t in by_cohort.items():
            rate = "-" if t.click_rate is None else f"{t.click_rate:.4%}"
            table.add_row(split, name, f"{t.rows:,}", f"{t.clicks:,}", rate, _number(t.bayes_ne), _number(t.ne))
        table.add_section()
    Console(width=None if sys.stdout.isatty() else 120).print(table)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
