"""Columns as people have them, read as one value per row: NumPy arrays, tensors, lists and what pandas has."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np

from ..types import MISSING_INT, MISSING_STRING, Array

_KINDS = {
    "string": r"object|string|str\d*",
    "integer": r"u?int\d+",
    "boolean": r"bool",
    "float": r"b?float\d+",
}
_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str, bytes),
    "boolean": (bool, np.bool_),  # before integers, which Python's booleans are too
    "integer": (int, np.integer),
    "float": (float, np.floating),
}
_MISSING: dict[str, Any] = {"string": MISSING_STRING, "integer": MISSING_INT, "float": np.nan}


class Table(Protocol):
    """Columns by name: a dict, also of dicts, or a pandas DataFrame."""

    def __contains__(self, name: Any, /) -> bool: ...

    def __iter__(self) -> Iterator[Any]: ...

    def __getitem__(self, name: Any, /) -> Any: ...


class RawColumn(NamedTuple):
    """A column that has been read. In a table it stands for itself, so that a column is read once for many cohorts.

    Attributes:
        values: One value per row, (rows,), NumPy array or tensor. `c2al_tf.types` says how a missing value is spelt.
        kind: `string`, `integer`, `boolean` or `float`.
    """

    values: Any
    kind: str

    def take(self, rows: Array) -> "RawColumn":
        """The same column of some rows."""
        return self._replace(values=self.values[rows])


def raw_column(columns: Table, name: str) -> RawColumn:
    """Reads a column; tensors stay tensors.

    A column is a NumPy array, a tensor, a list, or a pandas Series, Index, Categorical or other array, of shape (rows,)
    or (rows, 1). Bytes are decoded, and None, NaN and what pandas has for "no value" become a missing value.

    Args:
        columns: Columns by name.
        name: Of the column; `user/age` is the column `age` of the dict `user`.

    Raises:
        ValueError: If there is no such column, it has several values per row, no or several types, bytes that are no
            UTF-8, or booleans among which one is missing.
    """
    column, what = find_column(columns, name), f"column `{name}`"
    return column if isinstance(column, RawColumn) else _read(_array(column, what), what)


def raw_columns(columns: Table, names: Iterable[str]) -> dict[str, RawColumn]:
    """Reads columns as NumPy arrays, each once; `raw_column` says which forms they may have.

    Examples:
        >>> raw_columns({"city": [b"rome", None]}, ["city"])["city"].values.tolist()
        ['rome', '']
    """
    found = {name: (find_column(columns, name), f"column `{name}`") for name in dict.fromkeys(names)}
    return {
        name: column if isinstance(column, RawColumn) else _read(np.asarray(_array(column, what)), what)
        for name, (column, what) in found.items()
    }


def row_values(values: Any, name: str) -> Array:
    """Labels or weights, in any of the forms of `raw_column`, as a NumPy array (rows,)."""
    return np.asarray(_read(np.asarray(_array(values, f"`{name}`")), f"`{name}`").values)


def row_ids(values: Any, name: str) -> Array:
    """Ids of rows as a NumPy array (rows,); they may be objects of several types."""
    return np.asarray(_one_per_row(np.asarray(_array(values, f"`{name}`")), f"`{name}`"))


def find_column(columns: Table, name: str) -> Any:
    """The column of a name, or of a path through dicts, as it is given.

    Raises:
        ValueError: If there is none.
    """
    found: Any = columns
    for part in [name] if name in columns else name.split("/"):
        found = found[part] if (found is columns or isinstance(found, Mapping)) and part in found else {}
    if isinstance(found, Mapping):
        raise ValueError(f"No column `{name}` in the data. Columns there: {', '.join(column_names(columns))}")
    return found


def column_names(columns: Table) -> list[str]:
    """The names by which `find_column` finds columns: those in dicts by path."""
    names = []
    for name in columns:
        inner = columns[name] if isinstance(columns, Mapping) else None
        names += [f"{name}/{part}" for part in column_names(inner)] if isinstance(inner, Mapping) else [str(name)]
    return names


def _array(values: Any, what: str) -> Any:
    """A NumPy array of what a list or pandas holds, numbers without the missing values of pandas; or a tensor."""
    if isinstance(values, list | tuple):
        return np.array(values, dtype=object)
    values = getattr(values, "array", values)  # of a Series or an Index
    if hasattr(values, "categories"):
        return _of_categories(values, what)
    if not hasattr(values, "isna"):
        return values
    kind, missing = values.dtype.kind, np.asarray(values.isna()).any()
    if kind in "iu" and missing:
        return values.to_numpy(np.int64, na_value=MISSING_INT)
    if kind == "f" and missing:
        return values.to_numpy(values.dtype.numpy_dtype, na_value=np.nan)
    if kind in "iufb" and not missing:
        return values.to_numpy(values.dtype.numpy_dtype)
    return np.asarray(values)


def _of_categories(values: Any, what: str) -> Array:
    """The rows of a pandas Categorical, whose code -1, no value, finds the value that is last."""
    categories, kind = _read(np.asarray(_array(values.categories, what)), what)
    codes = np.asarray(values.codes)
    if (codes >= 0).all():
        return categories[codes]
    dtype = np.int64 if kind == "integer" else categories.dtype
    return np.append(categories.astype(dtype), np.array([_missing(kind, what)], dtype))[codes]


def _missing(kind: str, what: str) -> Any:
    """How a column of this kind spells that it has no value."""
    if kind not in _MISSING:
        raise ValueError(
            f"{_capital(what)} must have a value in every row, since booleans have none for a missing one. "
            "Received: a missing value; make it a column of integers or strings"
        )
    return _MISSING[kind]


def _read(values: Any, what: str) -> RawColumn:
    values = _one_per_row(values, what)
    if isinstance(values, np.ndarray) and values.dtype.kind in "OST":
        values = _of_objects(values, what)
    for kind, pattern in _KINDS.items():
        if re.fullmatch(pattern, values.dtype.name):
            return RawColumn(values, kind)
    raise ValueError(
        f"{_capital(what)} must hold strings, integers, booleans or floats. Received: dtype {values.dtype.name}"
    )


def _one_per_row(values: Any, what: str) -> Any:
    shape = tuple(values.shape)
    if len(shape) == 2 and shape[1] == 1:
        return values[:, 0]
    if len(shape) != 1:
        raise ValueError(
            f"{_capital(what)} must have one value per row, shape (rows,) or (rows, 1); multi-valued columns are not "
            f"cut. Received: {what} of shape {shape}"
        )
    return values


def _of_objects(values: Array, what: str) -> Array:
    """Python objects (rows,) as strings, which are objects too, or as numbers."""
    if {*map(type, values)} <= {str}:  # a fortieth of a second for a million
        return values.astype(object, copy=False)
    objects = [None if _is_missing(value) else value for value in values.tolist()]
    types = {*map(type, objects)} - {type(None)}
    kind = _kind_of(types)
    if kind is None:
        raise ValueError(
            f"{_capital(what)} must hold strings, integers, booleans or floats, all of one type. "
            f"Received: {', '.join(sorted(t.__name__ for t in types))}"
        )
    missing = _missing(kind, what) if None in objects else None
    if kind == "string":
        return np.array([missing if value is None else _text(value, what) for value in objects], object)
    dtype = {"integer": np.int64, "float": np.float64, "boolean": np.bool_}[kind]
    return np.array([missing if value is None else value for value in objects], dtype)


def _kind_of(types: Collection[type]) -> str | None:
    """Of objects of these types; None of types that do not fit together. Integers and floats are floats."""
    kinds = {next((kind for kind, known in _TYPES.items() if issubclass(t, known)), None) for t in types}
    if kinds == {"integer", "float"}:
        return "float"
    return "string" if not kinds else kinds.pop() if len(kinds) == 1 else None


def _is_missing(value: Any) -> bool:
    if isinstance(value, float | np.floating):
        return bool(np.isnan(value))
    return value is None or type(value).__name__ in ("NAType", "NaTType")  # of pandas, which is not imported


def _text(value: str | bytes, what: str) -> str:
    if isinstance(value, str):
        return str(value)
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{_capital(what)} must hold text, its bytes in UTF-8. Received: {value!r}") from error


def _capital(what: str) -> str:
    return what[0].upper() + what[1:]
