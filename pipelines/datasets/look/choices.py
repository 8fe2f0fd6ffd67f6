"""What `c2al init` makes of each column: label, weight, feature or nothing, and why."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from .column_names import (
    AMOUNTS,
    CYCLES,
    TIMES,
    WEIGHTS,
    is_id,
    is_named_label,
    label_rank,
    names_a_person,
    names_a_thing,
    words_of,
)
from .columns import SeenColumn

_HASHED_FROM = 50_000
_MOST_BUCKETS = 1_000_000


@dataclass(frozen=True)
class Choice:
    """What a column is for.

    Args:
        column: The column.
        role: What it becomes.
        reason: Why, and what was seen.
        spec: The feature's declaration, in the order in which it is written.
    """

    column: SeenColumn
    role: Literal["label", "weight", "feature", "left out"]
    reason: str
    spec: Mapping[str, Any] = field(default_factory=dict)


def choose_roles(
    columns: Sequence[SeenColumn], label: str | None = None, num_rows: int = 0, is_whole: bool = True
) -> list[Choice]:
    """Decides what each column is for.

    Args:
        columns: What was seen.
        label: The column with the label; the likeliest one if not given.
        num_rows: Number of training rows.
        is_whole: Whether all of them were seen.

    Raises:
        ValueError: If no column can be the label, or that which is given cannot.
    """
    chosen = _label(columns, label)
    names = {column.name for column in columns}
    rows = _Rows(num_rows, is_whole, names, chosen.column.name)
    return [chosen if c.name == chosen.column.name else _role(c, rows) for c in columns]


@dataclass(frozen=True)
class _Rows:
    number: int
    is_whole: bool
    names: set[str]
    label: str


def _label(columns: Sequence[SeenColumn], wanted: str | None) -> Choice:
    binary = {column.name: column for column in columns if column.is_binary}
    if wanted is not None:
        return _wanted_label({column.name: column for column in columns}, wanted, list(binary))
    if not binary:
        two = [f"{c.name} ({c.stored}, most often {c.top!r})" for c in columns if c.distinct == 2]
        raise ValueError(
            "A column must be the label: 0 and 1 (or false and true), no nulls, both seen. Received: none such; "
            f"columns of two values are {two}; all columns are {[c.name for c in columns][:20]}. Write one with 0 and "
            "1, or take more rows with --rows if one label is rare"
        )
    ranked = sorted(binary, key=lambda name: (label_rank(name), -list(binary).index(name)))
    name, others = ranked[0], ranked[1:]
    named = [other for other in ranked if is_named_label(other)]
    what = f"{_share(1 - _rate(binary[name]))} of the rows are 0, {_share(_rate(binary[name]))} are 1"
    if len(named) != 1 and others:
        what += f". A GUESS: these hold 0 and 1 too: {', '.join(others)}; say which with --label"
    return Choice(binary[name], "label", what)


def _wanted_label(columns: Mapping[str, SeenColumn], wanted: str, binary: list[str]) -> Choice:
    column = columns.get(wanted)
    if column is None or not column.is_binary:
        held = "no such column" if column is None else f"`{wanted}`: {describe(column)}"
        raise ValueError(
            f"`label` must be a column of 0 and 1 (or false and true) without nulls. Received: {held}. "
            f"Such columns are {binary}"
        )
    return Choice(column, "label", f"as given; {_share(_rate(column))} of the rows are 1")


def _rate(column: SeenColumn) -> float:
    return float(column.numbers.mean())


def describe(column: SeenColumn) -> str:
    """What was seen, in a few words."""
    parts = [f"{column.distinct:,} distinct value{'s' if column.distinct != 1 else ''}"]
    if len(column.numbers):
        parts.append(f"{column.numbers[0]:.6g} to {column.numbers[-1]:.6g}")
    if column.lengths is not None:
        parts.append(f"up to {column.lengths[1]} a row")
    if column.top_share >= 0.5:
        parts.append(f"{_share(column.top_share)} are {str(column.top)[:30]!r}")
    if column.nulls:
        parts.append(f"{_share(column.nulls / column.rows)} nulls")
    else:
        parts.append("nulls in rows that were not read" if column.has_nulls else "no nulls")
    return ", ".join(parts)


def _share(share: float) -> str:
    return f"{share:.3%}" if share < 0.001 else f"{share:.1%}"


def _role(column: SeenColumn, rows: _Rows) -> Choice:
    if column.name.lower() in WEIGHTS and _can_weigh(column):
        return Choice(column, "weight", f"by its name; {describe(column)}. Row weights, if that is what they are")
    reason = _why_left_out(column, rows)
    if reason:
        return Choice(column, "left out", reason)
    if column.dtype == "float32" or (column.dtype == "int64" and not _is_category(column)):
        return _numeric(column, rows)
    return _categorical(column, rows)


def _can_weigh(column: SeenColumn) -> bool:
    numbers = column.numbers
    return len(numbers) > 0 and bool(numbers[0] >= 0) and numbers[-1] > 0 and column.finite and not column.has_nulls


def _why_left_out(column: SeenColumn, rows: _Rows) -> str | None:
    name, words = column.name, words_of(column.name)
    rules = {
        "a date or time: derive an age, an hour or a weekday from it": _is_time(column, words),
        f"of type {column.stored}; strings, integers, booleans, floats and lists of these can be read": (
            column.dtype is None
        ),
        "no row has a value": column.distinct == 0,
        f"every row has the value {str(column.top)[:40]!r}": column.distinct == 1 and not column.has_nulls,
        "a weight of the row rather than a feature; write `weight: " + name + "` if the rows count by it": (
            words[-1:] == ["weight"] and {*words} & {"instance", "sample", "row", "example"} != set()
        ),
        f"it holds infinite numbers, or numbers too large for {column.dtype}": not column.finite,
        "lists of numbers cannot be a feature, unless they are whole numbers, names of things": (
            column.lengths is not None and column.dtype == "float32"
        ),
        f"another label, by its name and its values 0 and 1: beside `{rows.label}` it may give the answer away": (
            column.is_binary and is_named_label(name)
        ),
        f"an id by its name, stored as {column.stored}: write whole numbers or strings": (
            column.dtype == "float32" and is_id(words)
        ),
    }
    rules |= _one_row_each(column, words, rows)
    return next((reason for reason, holds in rules.items() if holds), None)


def _one_row_each(column: SeenColumn, words: Sequence[str], rows: _Rows) -> dict[str, bool]:
    if column.lengths is not None or column.dtype == "float32" or column.present < 100:
        return {}
    share = column.distinct / column.present
    thing = not rows.is_whole and names_a_thing(words)
    text = column.dtype == "string" or _is_category(column)
    return {
        "the number of the row: it rises from row to row": share == 1 and column.rises,
        f"nearly every row has a value of its own ({describe(column)}): a model learns nothing of it": (
            text and not thing and share > 0.95
        ),
    }


def _is_time(column: SeenColumn, words: Sequence[str]) -> bool:
    numbers = column.numbers
    return column.is_date or bool(len(numbers) and numbers[0] >= 1e6 and {*words} & TIMES)


def _is_category(column: SeenColumn) -> bool:
    """Whether whole numbers are names rather than amounts."""
    if column.lengths is not None:
        return True
    words = words_of(column.name)
    if words and not is_id(words) and {words[0], words[-1]} & AMOUNTS:
        return column.distinct <= 2
    few = column.distinct <= (31 if {*words} & CYCLES else 20)
    return is_id(words) or few or column.numbers[-1] > 1e9


def _numeric(column: SeenColumn, rows: _Rows) -> Choice:
    few = column.top_share >= 0.5 and column.distinct > 50
    spec: dict[str, Any] = {"name": column.name, "kind": "numeric"}
    spec["num_buckets"] = 10_000 if few else 20 if rows.number < 20_000 else 100
    note = "; buckets this fine give rare amounts buckets of their own" if few else ""
    if f"{column.name}_value" in rows.names:
        spec["scaling"] = "none"
        note += f"; its scaled value would be the input `{column.name}_value`, the name of a column"
    elif column.numbers[0] >= 0 and column.quantile(0.99) > 10 * (column.quantile(0.5) + 1):
        spec["scaling"] = "log"
        note += "; a long tail, so its logarithm"
    return Choice(column, "feature", f"{describe(column)}: an amount{note}", spec | _missing(column))


def _categorical(column: SeenColumn, rows: _Rows) -> Choice:
    spec: dict[str, Any] = {"name": column.name, "kind": "categorical", "dtype": column.dtype}
    note, expected = "", _expected_distinct(column, rows)
    if expected > _HASHED_FROM or (column.distinct > 1000 and column.distinct > 0.2 * column.values):
        spec["num_hash_buckets"] = min(_round_up(2 * expected), _MOST_BUCKETS)
        about = "" if expected == column.distinct else f", about {expected:,} in all rows"
        note = f"{about}: too many for a vocabulary, so hashed"
    elif column.distinct > 20 and column.rare > 0.1 * column.distinct:
        spec["min_count"] = 5 if rows.number < 1_000_000 else 20
        note = f"; {column.rare:,} values have fewer than 5 rows and are one value, unknown"
    if column.lengths is not None:
        spec |= {"length": column.lengths[0], "combiner": "mean"}
        note += f"; 99% of the rows have at most {column.lengths[0]}"
    if 0 < column.not_numbers < 0.2 and column.distinct > 20 and not is_id(words_of(column.name)):
        note += f"; {_share(column.not_numbers)} are no numbers: empty fields there would make it numeric"
    if column.dtype == "int64" and column.lengths is None:
        note += "; whole numbers taken for names"
    return Choice(column, "feature", describe(column) + note, spec | _missing(column))


def _missing(column: SeenColumn) -> dict[str, str]:
    return {"missing": "slot"} if column.has_nulls else {}


def _expected_distinct(column: SeenColumn, rows: _Rows) -> int:
    """Distinct values of all training rows: Chao's estimate, by the values that were seen once and twice."""
    if rows.is_whole:
        return column.distinct
    unseen = column.once**2 / (2 * max(column.twice, 1))
    return int(min(column.distinct + unseen, column.distinct * max(rows.number / max(column.present, 1), 1)))


def _round_up(number: float) -> int:
    """The next 1, 2 or 5 with zeros."""
    power = 10 ** math.floor(math.log10(max(number, 1)))
    return int(next(power * step for step in (1, 2, 5, 10) if power * step >= number))


def find_unit(choices: Sequence[Choice], is_whole: bool) -> str | None:
    """The feature that names a person, with several rows each."""
    for choice in choices:
        column, words = choice.column, words_of(choice.column.name)
        single = choice.spec.get("kind") == "categorical" and column.lengths is None and column.distinct > 50
        named = is_id(words) and names_a_person(words) and words[-1] not in ("type", "code")
        if single and named and (not is_whole or column.distinct < 0.95 * column.present):
            return column.name
    return None
