"""What is found, as tables on a terminal."""

import sys
from collections.abc import Mapping

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from c2al_tf.cohorts import RULES, Discovery, Pair

# Where the output is no terminal, Rich would take it for one of 80 columns. Data may hold ":fire:".
console = Console(width=None if sys.stdout.isatty() else 120, emoji=False)


def print_pairs(discovery: Discovery, most: int = 8) -> None:
    """Prints the accepted pairs, the most divergent first, and how many were refused for what."""
    accepted = [pair for pair in discovery.pairs if pair.accepted]
    table = Table(title=f"Pairs of cohorts that pass the guard: {len(accepted):,} of {len(discovery.pairs):,}")
    for name in ("head cohort", "tail cohort", f"{discovery.divergence} [95 % interval]", "positive rates"):
        table.add_column(name)
    for pair in accepted[:most]:
        rates = " / ".join("-" if s.positive_rate is None else f"{s.positive_rate:.3%}" for s in (pair.head, pair.tail))
        names = (pair.head.cohort.name, pair.tail.cohort.name)
        table.add_row(*names, escape(divergence_text(pair, discovery.divergence)), rates)
    console.print(table)
    refused = len(discovery.pairs) - len(accepted)
    if refused:
        reasons = "; ".join(f"{count:,} {RULES[rule]}" for rule, count in discovery.refusals.most_common())
        console.print(f"Refused: {refused:,} pairs ({reasons})")


def divergence_text(pair: Pair, name: str) -> str:
    """A pair's divergence with its interval."""
    interval = "-" if pair.interval is None else "[{:.4f}, {:.4f}]".format(*pair.interval)
    return f"{pair.divergences[name]:.4f} {interval}"


def difference_text(difference: Mapping[str, float | None]) -> str:
    """An NE_diff with its interval."""
    if difference["percent"] is None or difference["low"] is None:
        return "-"
    return f"{difference['percent']:+.3f} % [{difference['low']:+.3f}, {difference['high']:+.3f}]"


def number_text(value: float | None) -> str:
    """A figure such as an NE."""
    return "-" if value is None else f"{value:.4f}"
