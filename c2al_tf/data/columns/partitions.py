"""Columns that files lack and their folders name, as Hive and Spark write them: `day=2026-11-26/country=DE/`."""

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from urllib.parse import unquote

import numpy as np

from ...feature import Column
from ...names import input_name
from ...types import Array
from .csv_fields import CsvFormat, convert_texts
from .raw import Coded, CodedColumns, is_missing

NULL = "__HIVE_DEFAULT_PARTITION__"
"""What Hive and Spark write for a null."""


def folder_values(path: Path) -> dict[str, str]:
    """The columns that the folders of a file name, from the outermost on, each with its value; a null is "".

    Examples:
        >>> folder_values(Path("/logs/day=2026-11-26/city=S%C3%A3o Paulo/part-0.parquet"))
        {'day': '2026-11-26', 'city': 'São Paulo'}
    """
    parts = (part.partition("=") for part in path.absolute().parent.parts)
    return {unquote(name): "" if value == NULL else unquote(value) for name, equals, value in parts if name and equals}


def split_columns(
    path: Path, columns: Mapping[str, Column], present: Collection[str]
) -> tuple[dict[str, Column], CodedColumns]:
    """The columns that a file has, and those that it lacks and its folders name, each with the value of one row.

    Args:
        path: The file.
        columns: The columns to read.
        present: Names of those that the file has.

    Raises:
        ValueError: If a folder's value is no number where its column is one.
    """
    of_folders, inputs = folder_values(path), {*present, *map(input_name, present)}
    named = {name: each for each in of_folders for name in (input_name(each), each)}
    given = {name: of_folders[named[name]] for name in columns if name not in inputs and name in named}
    texts = {name: np.array([text], object) for name, text in given.items()}
    try:
        values = convert_texts(texts, {name: columns[name] for name in given}, CsvFormat(), path, 0)
    except ValueError as error:
        raise ValueError(f"A column that the file lacks has the value of its folder. {error}") from error
    return {name: column for name, column in columns.items() if name not in given}, values


def with_folders(load: Callable[[], CodedColumns], values: CodedColumns, rows: int) -> CodedColumns:
    """What `load` gives of some rows of a file, with the values of its folders beside it."""
    first = np.zeros(rows, np.int64)
    return {**load()} | {
        name: Coded(x.values, x.codes[first]) if isinstance(x, Coded) else x[first] for name, x in values.items()
    }


def fill_missing(values: Array | Coded, value: Array | Coded, column: Column) -> Array | Coded:
    """Values of some rows, with that of their folder in rows that have none."""
    absent = is_missing(values, column.dtype)
    missing = absent.reshape(len(absent), -1).all(1)
    if not missing.any():
        return values
    filled = values.decode() if isinstance(values, Coded) else values.copy()
    filled[missing] = (value.decode() if isinstance(value, Coded) else value)[0]
    if not isinstance(values, Coded):
        return filled
    distinct, codes = np.unique(filled, return_inverse=True)
    return Coded(distinct, codes.reshape(filled.shape))
