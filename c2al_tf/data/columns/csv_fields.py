"""CSV files as blocks of fields: their format, header, quoting and encoding."""

import contextlib
import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from ...feature import Column, DType
from ...storage import fetched
from ...types import Array, Columns
from .arrow import ARROW_TYPES, arrow_type, coded_from_arrow, from_arrow
from .bad_rows import bad_rows_error, failing_rows
from .formats import is_gzip
from .raw import MISSING, Coded, CodedColumns


@dataclass(frozen=True)
class CsvFormat:
    r"""How CSV files are written. Multiple values of a row are separated by `|`; an empty field is a null.

    Args:
        column_names: Names of the columns, for files without a header line.
        delimiter: What separates the fields of a line.
        quote_char: What a field begins and ends with that holds delimiters or, doubled, this character itself; `None`
            for files that do not quote.
        newlines_in_values: Whether quoted fields may hold line breaks. Otherwise one is an error, as a field that
            begins with a quotation mark by accident takes in the lines after it.
        escape: What stands before a quotation mark or delimiter that is part of a field, such as Spark's backslash.
        null_values: Fields that are nulls beside an empty one. `\N` is Hive's and MySQL's; with a backslash as
            `escape` it reads as `N`, which may be a value.
    """

    column_names: tuple[str, ...] | None = None
    delimiter: str = ","
    quote_char: str | None = '"'
    newlines_in_values: bool = False
    escape: str | None = None
    null_values: tuple[str, ...] = ("\\N",)

    def __post_init__(self) -> None:
        for name in ("delimiter", "quote_char", "escape"):
            value = getattr(self, name)
            if value is not None and len(value.encode()) != 1:
                raise ValueError(f"`{name}` must be one ASCII character. Received: {name}={value!r}")

    @property
    def quoting(self) -> dict[str, Any]:
        """These rules as options of the module `csv`."""
        given: dict[str, Any] = {"delimiter": self.delimiter, "escapechar": self.escape}
        if self.quote_char is None:
            return given | {"quoting": csv.QUOTE_NONE}
        return given | {"quotechar": self.quote_char}


def read_names(path: Path, csv_format: CsvFormat) -> Sequence[str]:
    """Returns the names of the columns, without the blanks around them; none if the file is empty.

    Raises:
        ValueError: If the header is not UTF-8 or a quoted name does not end on its line.
    """
    try:
        return csv_format.column_names or [name.strip() for name in _header(path, csv_format)]
    except OSError as error:
        raise ValueError(f"{path}: not valid CSV: {error}") from error


def _header(path: Path, csv_format: CsvFormat) -> list[str]:
    with _open_text(path) as text:
        lines = csv.reader(text, **csv_format.quoting)
        try:
            # An empty line is a header with a column that has no name.
            header = [name for row in islice(lines, 1) for name in row or [""]]
        except csv.Error as error:  # a field larger than any name
            raise _open_quote(path, 1, csv_format) from error
    if lines.line_num > 1 and not csv_format.newlines_in_values:
        raise _open_quote(path, 1, csv_format)
    for name in header:
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise _no_utf8(path, "header", repr(name.encode(errors="surrogateescape"))) from error
    return header


@contextmanager
def _open_text(path: Path) -> Iterator[io.TextIOWrapper]:
    # Blocks are decoded at once: invalid bytes pass here, and each field is checked where it is used.
    with _open_bytes(path) as stream:
        yield io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="")


def _open_bytes(path: Path) -> pa.NativeFile:
    return pa.input_stream(fetched(path), compression="gzip" if is_gzip(path) else None)


def read_texts(path: Path, names: Sequence[str], csv_format: CsvFormat) -> Iterator[Columns]:
    """Yields blocks of the fields of some columns as texts.

    Raises:
        ValueError: If a line has another number of fields than the first, a field is not UTF-8, or a quoted field does
            not end on its line (see `CsvFormat`).
    """
    present = read_names(path, csv_format)
    checks_quotes = csv_format.quote_char is not None and not csv_format.newlines_in_values
    options = pacsv.ConvertOptions(
        # A quotation mark takes in lines also in a column that nobody reads.
        include_columns=None if checks_quotes else list(names),
        column_types=dict.fromkeys(present, pa.binary()),
        strings_can_be_null=False,
    )
    first_row = 0
    try:
        with (
            _open_bytes(path) as stream,
            pacsv.open_csv(
                stream, _read_options(present, csv_format), _parse_options(csv_format, len(present)), options
            ) as reader,
        ):
            for block in reader:
                if checks_quotes and any(map(_has_line_break, block.columns)):
                    raise _open_quote(path, _line_of_open_quote(path, csv_format), csv_format)
                yield {name: _decode(block[name], name, path, first_row) for name in names}
                first_row += block.num_rows
    except (pa.ArrowInvalid, OSError) as error:
        if csv_format.column_names is None and _is_header_alone(path, csv_format):
            return
        line = _line_of_open_quote(path, csv_format) if checks_quotes and isinstance(error, pa.ArrowInvalid) else None
        raise (
            _open_quote(path, line, csv_format) if line else ValueError(f"{path}: not valid CSV: {error}")
        ) from error


def _is_header_alone(path: Path, csv_format: CsvFormat) -> bool:
    """Whether nothing follows the header: without an end of its line it is no block of rows to Arrow."""
    with _open_text(path) as text:
        return len(list(islice(csv.reader(text, **csv_format.quoting), 2))) < 2


def _read_options(names: Sequence[str], csv_format: CsvFormat) -> pacsv.ReadOptions:
    skipped = 0 if csv_format.column_names else 1
    return pacsv.ReadOptions(column_names=list(names), skip_rows_after_names=skipped, block_size=8 << 20)


def _parse_options(csv_format: CsvFormat, num_columns: int) -> pacsv.ParseOptions:
    return pacsv.ParseOptions(
        delimiter=csv_format.delimiter,
        quote_char=csv_format.quote_char or False,
        escape_char=csv_format.escape or False,
        newlines_in_values=csv_format.newlines_in_values,
        # In a file with one column an empty line is a row with a null.
        ignore_empty_lines=num_columns > 1,
    )


def _has_line_break(fields: pa.Array) -> bool:
    if not len(fields):
        return False
    _, offsets, data = fields.buffers()
    ends = np.frombuffer(offsets, np.int32)[[fields.offset, fields.offset + len(fields)]]
    characters = np.frombuffer(data or b"", np.uint8)[slice(*ends)]
    return bool((characters == ord("\n")).any() or (characters == ord("\r")).any())


def _line_of_open_quote(path: Path, csv_format: CsvFormat) -> int | None:
    """The first line, from 1, that ends within a quoted field."""
    line = 1
    with _open_text(path) as text:
        rows = csv.reader(text, **csv_format.quoting)
        try:
            for row in rows:
                # The file's last line may be open too: then its end is within the field.
                if rows.line_num > line or (row and row[-1].endswith(("\n", "\r"))):
                    return line
                line = rows.line_num + 1
        except csv.Error:  # a field above the limit of this module
            return line if rows.line_num > line else None
    return None


def _open_quote(path: Path, line: int | None, csv_format: CsvFormat) -> ValueError:
    where = f"line {line}: a" if line else "a"
    return ValueError(
        f"{path}: {where} quoted field must end on its line; set `quote_char` to null for files that do not quote, or "
        f"`newlines_in_values` to true for fields with line breaks. Received: a field that begins with "
        f"{csv_format.quote_char!r} and goes on in the next line"
    )


def convert_texts(
    texts: Columns, columns: Mapping[str, Column], csv_format: CsvFormat, path: Path, first_row: int
) -> CodedColumns:
    """Maps texts of fields, (rows,) by column, to raw columns, with strings coded.

    Raises:
        ValueError: If a field is no number where its column is one.
    """
    return {name: _convert(texts[name], column, csv_format, path, first_row) for name, column in columns.items()}


def _convert(values: Array, column: Column, csv_format: CsvFormat, path: Path, first_row: int) -> Array | Coded:
    texts = pa.array(values)
    if column.length is None and column.dtype == "string":
        distinct, codes = coded_from_arrow(texts, column)
        is_null = np.isin(distinct, csv_format.null_values)
        return Coded(np.where(is_null, MISSING["string"], distinct) if is_null.any() else distinct, codes)
    nulls = pa.array(["", *csv_format.null_values], pa.string())
    texts = pc.if_else(pc.is_in(texts, value_set=nulls), None, texts)
    try:
        return coded_from_arrow(_parse(texts, column), column)
    except pa.ArrowInvalid as error:
        raise bad_rows_error(str(path), _no_numbers(texts, column, first_row)) from error


def _parse(texts: pa.Array, column: Column) -> pa.Array:
    if column.length is None:
        return _parse_flat(texts, column.dtype)
    lists = pc.split_pattern(texts, "|")
    parsed = _parse_flat(pc.list_flatten(lists), column.dtype)
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
    return pa.ListArray.from_arrays(pa.array(np.append(0, np.cumsum(lengths)), pa.int32()), parsed)


def _parse_flat(texts: pa.Array, dtype: DType) -> pa.Array:
    try:
        return texts.cast(ARROW_TYPES[dtype])
    except pa.ArrowInvalid:
        # As pandas writes booleans, and integers of a column with nulls: `True`, `12345.0`.
        texts = pc.replace_substring_regex(texts, r"^([+-]?\d+)\.0*$", r"\1")
        with contextlib.suppress(pa.ArrowInvalid):
            return texts.cast(ARROW_TYPES[dtype])
        for pattern, number in ((r"^(?i:true)$", "1"), (r"^(?i:false)$", "0")):
            texts = pc.replace_substring_regex(texts, pattern, number)
        return texts.cast(ARROW_TYPES[dtype])


def _no_numbers(texts: pa.Array, column: Column, first_row: int) -> list[tuple[int, str]]:
    rule = f"field `{column.name}` must be of type {arrow_type(column)}"
    bad = failing_rows(len(texts), lambda start, rows: _parse(texts.slice(start, rows), column))
    return [(first_row + row, f"{rule}. Received: {texts[row].as_py()!r}") for row in bad]


def _decode(fields: pa.Array, name: str, path: Path, first_row: int) -> Array:
    try:
        return from_arrow(fields, Column(name, "string"))
    except pa.ArrowInvalid:
        for row, field in enumerate(fields.to_pylist(), first_row):
            try:
                field.decode()
            except UnicodeDecodeError as error:
                raise _no_utf8(path, f"row {row}: field `{name}`", repr(field)) from error
        raise


def _no_utf8(path: Path, where: str, received: str) -> ValueError:
    return ValueError(
        f"{path}: {where}: not UTF-8; convert the file, for example with `iconv -f latin1 -t utf-8 OLD > NEW`. "
        f"Received: {received:.80}"
    )
