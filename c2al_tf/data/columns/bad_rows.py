"""One error for the first bad rows of a file, so that a user mends them together."""

from collections.abc import Sequence

MOST_BAD_ROWS = 10
"""Bad rows of a file that an error names."""


def bad_rows_error(source: str, found: Sequence[tuple[int, str]]) -> ValueError:
    """The error for rows, each with its number and what it breaks.

    >>> no_number = "`x` is no number"
    >>> print(bad_rows_error("a.csv", [(3, "`y` must be 0 or 1. Received: 2"), (5, no_number), (7, no_number)]))
    a.csv: row 3: `y` must be 0 or 1. Received: 2
      row 5: `x` is no number (row 7 too)
    """
    rows_of: dict[str, list[int]] = {}
    for row, what in sorted(found)[:MOST_BAD_ROWS]:
        rows_of.setdefault(what, []).append(row)
    lines = [f"row {first}: {what}{_too(others)}" for what, (first, *others) in rows_of.items()]
    more = ["and more"] if len(found) > MOST_BAD_ROWS else []
    return ValueError("\n  ".join([f"{source}: {lines[0]}", *lines[1:], *more]))


def _too(rows: Sequence[int]) -> str:
    named = ", ".join(map(str, rows))
    return f" (row{'s' if len(rows) > 1 else ''} {named} too)" if rows else ""
