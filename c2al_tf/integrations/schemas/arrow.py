"""The columns of an Arrow schema or a pandas DataFrame."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from ...data.columns.arrow import is_list, undeclared_dtype
from ...feature import Feature, Missing
from .unknown import Unknown


def fields_of_frame(frame: Any) -> dict[str, tuple[pa.Field, Sequence[Any]]]:
    """Each column of a DataFrame as an Arrow field, and its categories."""
    fields = pa.Schema.from_pandas(frame, preserve_index=False)
    return {
        field.name: (field, frame[field.name].cat.categories if pa.types.is_dictionary(field.type) else ())
        for field in fields
    }


def from_arrow_field(name: str, declared: tuple[pa.Field, Sequence[Any]], unknown: Unknown) -> Feature:
    """The feature of an Arrow field, with the categories that are known of it.

    Raises:
        ValueError: If it is of a type that no feature has.
    """
    field, categories = declared
    of_lists = is_list(field.type)
    stored = field.type.value_type if of_lists else field.type
    dtype = undeclared_dtype(stored)
    if dtype is None or (of_lists and dtype == "float32"):
        raise ValueError(
            f"Feature `{name}` must be of strings, integers, booleans, floats, decimals, dictionaries of these, or "
            "lists of strings or integers. Derive an age, an hour or a weekday from a time, or `ignore` it. "
            f"Received: {field.type}"
        )
    length = None
    if of_lists:
        length = (
            field.type.list_size if pa.types.is_fixed_size_list(field.type) else unknown.length_of(name, field.type)
        )
    if pa.types.is_boolean(stored):
        categories = (0, 1)
    of_type = {"string": str, "int64": int, "float32": float}[dtype]
    missing: Missing = "slot" if field.nullable else "error"
    return unknown.feature(name, dtype, length, missing, vocabulary=[of_type(value) for value in categories])
