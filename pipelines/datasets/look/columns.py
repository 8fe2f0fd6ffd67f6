"""What `c2al init` sees of a column: its type, values, nulls and range."""

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from c2al_tf.feature import DType
from c2al_tf.types import Array

_DATE = r"^\d{4}-\d{2}-\d{2}([ T]\d{2}:\d{2}.*)?$|^\d{1,2}[/.]\d{1,2}[/.]\d{4}"


@dataclass(frozen=True)
class SeenColumn:
    """What is seen of a column in some rows.

    Args:
        name: The column.
        stored: Its type in the files.
        dtype: The type it is read as; None if it cannot be read.
        rows: Rows that were read.
        nulls: Rows without a value.
        has_nulls: Whether there are nulls, also in rows that were not read.
        values: Number of values.
        distinct: Number of different values.
        once: Number of values that one row has.
        twice: Number of values that two rows have.
        rare: Number of values that fewer than five rows have.
        top: The most frequent value.
        top_share: Share of the values that are this one.
        lengths: The largest number of values in all but 1 % of the rows, and in any; None if a row holds one value.
        numbers: The finite numbers, sorted; empty for texts and lists.
        finite: Whether every number is finite, as float32, or fits in an int64.
        is_date: Whether values are dates or times.
        not_numbers: Share of the texts that are no numbers.
        rises: Whether the numbers rise from row to row.
    """

    name: str
    stored: str
    dtype: DType | None
    rows: int
    nulls: int
    has_nulls: bool
    values: int = 0
    distinct: int = 0
    once: int = 0
    twice: int = 0
    rare: int = 0
    top: object = None
    top_share: float = 0.0
    lengths: tuple[int, int] | None = None
    numbers: Array = field(default_factory=lambda: np.zeros(0), repr=False)
    finite: bool = True
    is_date: bool = False
    not_numbers: float = 0.0
    rises: bool = False

    @property
    def present(self) -> int:
        """Rows with a value."""
        return self.rows - self.nulls

    @property
    def is_binary(self) -> bool:
        """Whether every row holds 0 or 1, and some hold each."""
        values = np.unique(self.numbers) if self.distinct == 2 else ()
        return list(values) == [0, 1] and not self.has_nulls

    def quantile(self, share: float) -> float:
        """The number that a share of the numbers is not above."""
        return float(self.numbers[min(int(share * len(self.numbers)), len(self.numbers) - 1)])


def look_at(name: str, values: pa.Array, has_nulls: bool = False) -> SeenColumn:
    """Describes a column.

    Args:
        name: The column.
        values: Some rows.
        has_nulls: Whether other rows hold nulls.
    """
    stored, is_list = values.type, _is_list(values.type)
    dtype = _read_as(stored.value_type if is_list else stored)
    if pa.types.is_temporal(stored) or dtype is None or values.null_count == len(values):
        date = pa.types.is_temporal(stored)
        return SeenColumn(name, str(stored), dtype, len(values), values.null_count, has_nulls, is_date=date)
    lengths = pc.fill_null(pc.list_value_length(values), 0).to_numpy(zero_copy_only=False) if is_list else None
    flat = pc.list_flatten(values) if is_list else values
    if pa.types.is_dictionary(flat.type):
        flat = flat.cast(flat.type.value_type)
    if pa.types.is_boolean(flat.type):
        flat = flat.cast(pa.int64())
    if dtype == "string":
        flat = pc.if_else(pc.equal(flat, ""), None, flat)
    elif pa.types.is_floating(flat.type):
        flat = pc.if_else(pc.is_nan(flat), None, flat)
    numbers = _numbers(flat, dtype) if not is_list else np.zeros(0)
    nulls = int((lengths == 0).sum()) if lengths is not None else flat.null_count
    counted = pc.value_counts(flat.drop_null())
    counts = counted.field("counts").to_numpy(zero_copy_only=False) if len(counted) else np.zeros(0, int)
    limit = float(np.finfo(np.float32).max) if dtype == "float32" else 2.0**63 - 1024  # the next float64 is 2**63
    texts = counted.field("values") if dtype == "string" and not is_list else None
    return SeenColumn(
        name,
        str(stored),
        dtype,
        len(values),
        nulls,
        has_nulls or nulls > 0,
        int(counts.sum()),
        len(counts),
        int((counts == 1).sum()),
        int((counts == 2).sum()),
        int((counts < 5).sum()),
        counted.field("values")[int(counts.argmax())].as_py() if len(counts) else None,
        float(counts.max() / counts.sum()) if len(counts) else 0.0,
        None if lengths is None else (max(int(np.quantile(lengths, 0.99)), 1), int(lengths.max())),
        np.sort(numbers),
        bool((np.abs(numbers) <= limit).all()),
        texts is not None and _all_match(texts, _DATE),
        0.0 if texts is None else _share_of_no_numbers(counted),
        len(numbers) > 1 and bool((np.diff(numbers) > 0).all()),
    )


def _is_list(stored: pa.DataType) -> bool:
    return pa.types.is_list(stored) or pa.types.is_large_list(stored) or pa.types.is_fixed_size_list(stored)


def _read_as(stored: pa.DataType) -> DType | None:
    if pa.types.is_dictionary(stored):
        stored = stored.value_type
    if pa.types.is_string(stored) or pa.types.is_large_string(stored):
        return "string"
    if pa.types.is_integer(stored) or pa.types.is_boolean(stored):
        return "int64"
    return "float32" if pa.types.is_floating(stored) else None


def _numbers(flat: pa.Array, dtype: DType) -> Array:
    if dtype == "string":
        return np.zeros(0)
    return flat.cast(pa.float64(), safe=False).drop_null().to_numpy(zero_copy_only=False)


def _all_match(texts: pa.Array, pattern: str) -> bool:
    return len(texts) > 0 and bool(pc.all(pc.match_substring_regex(texts, pattern)).as_py())


def _share_of_no_numbers(counted: pa.Array) -> float:
    number = pc.match_substring_regex(counted.field("values"), r"^[+-]?([1-9]\d*|0)?(\.\d*)?([eE][+-]?\d+)?$")
    rows = pc.sum(pc.if_else(number, 0, counted.field("counts"))).as_py()
    return float(rows / pc.sum(counted.field("counts")).as_py())
