"""Which files hold the rows, and which of their columns is what."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import pyarrow.parquet as pq

from c2al_tf.data.columns.arrow import undeclared_dtype
from c2al_tf.data.columns.formats import as_paths, format_of
from c2al_tf.data.columns.partitions import folder_values
from c2al_tf.feature import Column, DType
from c2al_tf.names import input_name
from c2al_tf.storage import footer, stat_of
from c2al_tf.types import Columns


@dataclass(frozen=True)
class Log:
    """Files of rows, and which of their columns is what.

    Args:
        files: Files, folders of them, or patterns.
        label: Column of 0 and 1.
        weight: Column of weights, at least 0.
        unit: Column of ids (a user, say) whose rows are not independent.
        dtypes: Column to `string`, `int64` or `float32`, where the files do not say it.
    """

    files: tuple[str, ...]
    label: str
    weight: str | None = None
    unit: str | None = None
    dtypes: dict[str, DType] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the columns."""
        return tuple(filter(None, (self.label, self.weight, self.unit)))

    def of_rows(self, batch: Columns) -> dict[str, Any]:
        """Labels, weights and units of a batch, as `count_cohorts`, `count_sizes` and `count_arms` name them."""
        named = {"labels": self.label, "weights": self.weight, "units": self.unit}
        return {name: batch[column] for name, column in named.items() if column is not None}

    def columns(self, names: Iterable[str], numbers: Iterable[str] = ()) -> dict[str, Column]:
        """The columns of these names and its own, each of the type given, else as the first Parquet file stores it.

        What a folder of the first file names, such as `day=2026-11-26`, and a Parquet file lacks, is a string.

        Args:
            names: Further columns.
            numbers: Columns that are read as `float32`, whatever they are stored as.

        Raises:
            ValueError: If a type is not known, or a column is not there.
        """
        known: dict[str, DType] = {**dict.fromkeys(numbers, "float32"), **self.dtypes}
        wanted = list(dict.fromkeys([*names, *self.names, *numbers]))
        if missing := [name for name in wanted if name not in known]:
            known |= self._stored(missing)
        return {name: Column(name, known[name]) for name in wanted}

    def _stored(self, names: list[str]) -> dict[str, DType]:
        files = [path for path in as_paths(self.files) if stat_of(path)[0]]
        of_folders = {each for path in files[:1] for name in folder_values(path) for each in (name, input_name(name))}
        path = next((path for path in files if format_of(path) == "parquet"), None)
        if path is None and of_folders >= {*names}:
            return dict.fromkeys(names, "string")
        if path is None:
            raise ValueError(
                "`dtypes` must say of CSV and TFRecord files whether columns are string, int64 or float32. "
                f"Received: nothing for {', '.join(names)}"
            )
        schema, found = pq.read_schema(footer(path)), dict[str, DType]()
        for name in names:
            if name not in schema.names and name in of_folders:
                found[name] = "string"
                continue
            if name not in schema.names:
                raise ValueError(f"{path}: no column `{name}`. Received: {', '.join(schema.names)}")
            dtype = undeclared_dtype(schema.field(name).type)
            if dtype is None:
                raise ValueError(
                    f"{path}: column `{name}` must hold strings or numbers, or `dtypes` say what it is read as. "
                    f"Received: {schema.field(name).type}"
                )
            found[name] = dtype
        return found
