"""One error for the first bad rows of a file, so that a user mends them together."""

from collections.abc import Callable, Sequence

import pyarrow as pa

MOST_BAD_ROWS = 10
"""Bad rows of a file that an error names."""

_BLOCK = 1024


def bad_rows_error(source: str, found: Sequence[tuple[int, str]]) -> ValueError:
    """The error for rows, each with its number and what it breaks.

    Examples:
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


def failing_rows(count: int, convert: Callable[[int, int], object]) -> list[int]:
    """The first of `count` rows, `MOST_BAD_ROWS` and one more at most, for which `convert` fails.

    Args:
        count: Number of rows.
        convert: Takes the first of some rows and their number, and raises pa.ArrowInvalid if one is bad.
    """
    found: list[int] = []
    for start in range(0, count, _BLOCK):
        if _fails(convert, start, _BLOCK):
            found += [row for row in range(start, min(start + _BLOCK, count)) if _fails(convert, row, 1)]
            if len(found) > MOST_BAD_ROWS:
                break
    return found[: MOST_BAD_ROWS + 1]


def _fails(convert: Callable[[int, int], object], start: int, rows: int) -> bool:
    try:
        convert(start, rows)
    except pa.ArrowInvalid:
        return True
    return False


def _too(rows: Sequence[int]) -> str:
    named = ", ".join(map(str, rows))
    return f" (row{'s' if len(rows) > 1 else ''} {named} too)" if rows else ""
