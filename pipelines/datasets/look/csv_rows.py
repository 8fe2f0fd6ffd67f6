"""Some rows of CSV files for `c2al init`: delimiter, header and types are found from the texts."""

import contextlib
import csv
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from c2al_tf.data.columns.csv_fields import CsvFormat, read_names, read_texts
from c2al_tf.data.columns.formats import is_gzip
from c2al_tf.storage import fetched

from .found_files import check_same, spread, unpacked_size

_DELIMITERS = ",;\t|"


class CsvRows:
    """Reads rows of CSV files of one format.

    Args:
        train: The training files; the first one shows the format.
        others: Files whose columns must be the same.
    """

    with_nulls: frozenset[str] = frozenset()

    def __init__(self, train: Sequence[Path], others: Sequence[Path]) -> None:
        self.csv = _readable(train[0], _detect_format(train[0]))
        names = {path: read_names(path, self.csv) for path in (*train, *others)}
        for path, found in names.items():
            if not found:
                raise ValueError(f"{path}: the file has no rows; at least one is needed")
        check_same(names)
        self.names = list(names[train[0]])

    def rows(self, paths: Sequence[Path], quota: int) -> tuple[dict[str, pa.Array], int, bool]:
        """At most `quota` rows as texts, the number of rows in the files, and whether it is counted."""
        chosen = spread(paths)
        blocks: dict[str, list[Any]] = {name: [] for name in self.names}
        num_rows, all_read = 0, len(chosen) == len(paths)
        for path in chosen:
            of_file, wanted = 0, max(quota // len(chosen), 1)
            for block in read_texts(path, self.names, self.csv):
                size = len(block[self.names[0]])
                for name, values in block.items():
                    blocks[name].append(pa.array(values[: wanted - of_file], pa.string()))
                of_file += size
                if of_file > wanted:
                    all_read = False
                    break
            if of_file == 0:
                raise ValueError(f"{path}: the file has no rows; at least one is needed")
            num_rows += min(of_file, wanted)
        columns = {name: pa.concat_arrays(parts) for name, parts in blocks.items()}
        if all_read:
            return columns, num_rows, True
        per_row = sum(_text_bytes(column) + num_rows for column in columns.values()) / num_rows
        return columns, round(unpacked_size(paths) / per_row), False

    def joined(self, name: str, parts: Sequence[pa.Array]) -> pa.Array:
        """Texts of the training files and of the others as one column of the type that all of them read as."""
        return _typed(pa.concat_arrays(parts), self.csv.delimiter)


def _readable(path: Path, csv_format: CsvFormat) -> CsvFormat:
    """The format, without quoting or with line breaks in quoted fields where the first rows can be read only so."""
    for candidate in (csv_format, replace(csv_format, quote_char=None), replace(csv_format, newlines_in_values=True)):
        with contextlib.suppress(ValueError):
            names = read_names(path, candidate)
            for _ in islice(read_texts(path, names, candidate) if names else (), 1):
                pass
            return candidate
    return csv_format


def _detect_format(path: Path) -> CsvFormat:
    """The delimiter that splits the first lines into equally many fields, and whether the first line is a header."""
    with pa.input_stream(str(fetched(path)), compression="gzip" if is_gzip(path) else None) as stream:
        text = stream.read(1 << 16).decode("utf-8-sig", errors="replace")
    lines = text.splitlines()[: 50 if len(text) < 1 << 16 else -1][:50]
    best, most = ",", 1
    for delimiter in _DELIMITERS:
        widths = {len(row) for row in csv.reader(lines, delimiter=delimiter) if row}
        if len(widths) == 1 and max(widths) > most:
            best, most = delimiter, max(widths)
    first = next(islice(csv.reader(lines, delimiter=best), 1), [])
    # A blank name alone is that of the index which pandas wrote.
    if lines[1:] and any(_is_number(name) for name in first):
        return CsvFormat(tuple(f"column_{i}" for i in range(1, len(first) + 1)), best)
    return CsvFormat(delimiter=best)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _typed(texts: pa.Array, delimiter: str) -> pa.Array:
    """Texts as whole numbers or numbers where all of them read as such, and as lists where many hold a `|`."""
    texts = pc.if_else(pc.is_in(texts, value_set=pa.array(["", *CsvFormat().null_values])), None, texts)
    present = max(len(texts) - texts.null_count, 1)
    split = delimiter != "|" and (pc.sum(pc.match_substring(texts, "|")).as_py() or 0) >= 0.01 * present
    if split:
        texts = pc.split_pattern(texts, "|")
    if texts.null_count == len(texts):
        return pa.nulls(len(texts))
    flat = pc.list_flatten(texts) if split else texts
    if pc.any(pc.match_substring_regex(flat, r"^[+-]?0\d")).as_py():
        return texts  # 00123 is a code, not the number 123
    if not split and pc.all(pc.match_substring_regex(texts, r"^(?i:true|false)$")).as_py():
        return texts.cast(pa.bool_())
    if not split and pc.all(pc.match_substring_regex(texts, r"^[+-]?\d+\.0$")).as_py():
        return texts.cast(pa.float64()).cast(pa.int64())  # as pandas writes whole numbers of a column with nulls
    for dtype in (pa.int64(),) if split else (pa.int64(), pa.float64()):
        with contextlib.suppress(pa.ArrowInvalid):
            return texts.cast(pa.list_(dtype) if split else dtype)
    return texts


def _text_bytes(texts: pa.Array) -> int:
    return pc.sum(pc.binary_length(texts)).as_py() or 0
