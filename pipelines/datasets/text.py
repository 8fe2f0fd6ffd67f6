"""Text files without a header line, as they come from archives: a malformed line is named, never dropped."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv


def read_lines(path: Path, names: Sequence[str], separator: str, encoding: str = "utf8") -> pa.Table:
    """Returns the fields of a file, compressed or not, as columns of strings without blanks around them.

    Args:
        path: The file.
        names: Names of the fields of a line.
        separator: What stands between two fields. If it is longer than a character, no field may hold a tab.
        encoding: The file's encoding.

    Raises:
        ValueError: If the file is empty or damaged, or a line has another number of fields.
    """
    bad: list[pacsv.InvalidRow] = []

    def note(row: pacsv.InvalidRow) -> str:
        bad.append(row)
        return "skip"

    delimiter = separator if len(separator) == 1 else "\t"
    try:
        with pa.input_stream(path, compression="detect") as stream:
            content = stream.read().replace(separator.encode(), delimiter.encode())
        table = pacsv.read_csv(
            pa.BufferReader(content),
            # Threads would leave the line numbers unknown.
            pacsv.ReadOptions(column_names=list(names), use_threads=False, encoding=encoding),
            pacsv.ParseOptions(
                delimiter=delimiter, quote_char=False, ignore_empty_lines=False, invalid_row_handler=note
            ),
            pacsv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False),
        )
    except (pa.ArrowInvalid, OSError) as error:
        raise ValueError(f"{path}: must be a whole, non-empty text file: {error}") from error
    if bad:
        raise ValueError(
            f"{path}: line {bad[0].number} must have {len(names)} fields, separated by `{separator}`. Received: "
            f"{bad[0].actual_columns} fields: {bad[0].text.replace(delimiter, separator)!r:.80}"
        )
    return pa.table({name: pc.utf8_trim_whitespace(table[name]) for name in names})


def whole_numbers(table: pa.Table, name: str, path: Path) -> pa.ChunkedArray:
    """Returns a column of `read_lines` as integers.

    Raises:
        ValueError: If a field is not a whole number.
    """
    texts = table[name]
    check_lines(pc.match_substring_regex(texts, r"^-?\d{1,18}$"), texts, path, f"`{name}` must be a whole number")
    return texts.cast(pa.int64())


def check_lines(holds: pa.ChunkedArray, texts: pa.ChunkedArray, path: Path, rule: str) -> None:
    """Raises ValueError for the first line where a rule does not hold.

    Args:
        holds: Whether the rule holds, for each line.
        texts: What it is about, for each line.
        path: The file.
        rule: The rule in words.
    """
    row = pc.index(holds, False).as_py()
    if row >= 0:
        raise ValueError(f"{path}: line {row + 1}: {rule}. Received: {texts[row].as_py()!r}")
