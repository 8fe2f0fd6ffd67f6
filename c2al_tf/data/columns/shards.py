"""Raw columns to Parquet files."""

from collections.abc import Iterable, Mapping
from itertools import chain, islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ...files import replace_file
from ...schema import Column
from ...storage import opened
from ...types import Columns
from .arrow import arrow_type, to_arrow
from .raw import num_rows, rebatch

# Small row groups mix well when rows are shuffled, and are cheap to read.
GROUP_ROWS = 65_536
"""Rows of a row group."""


def write_parquet(path: str | Path, batches: Iterable[Columns], columns: Mapping[str, Column]) -> int:
    """Writes batches of raw columns as one Parquet file, a row group each, and returns the number of rows."""
    count = 0
    types = pa.schema([(column.name, arrow_type(column)) for column in columns.values()])
    with replace_file(path) as temporary, pq.ParquetWriter(temporary, types) as writer:
        for batch in batches:
            arrays = [to_arrow(batch[name], column) for name, column in columns.items()]
            writer.write_table(pa.Table.from_arrays(arrays, schema=types), row_group_size=GROUP_ROWS)
            count += num_rows(batch)
    return count


def write_shards(
    folder: Path, split: str, batches: Iterable[Columns], columns: Mapping[str, Column], rows_per_shard: int
) -> int:
    """Writes `<split>-00000.parquet` and so on, of at most `rows_per_shard` rows, and returns the number of rows."""
    size = min(GROUP_ROWS, rows_per_shard)
    groups = rebatch(batches, size)
    rows = 0
    for shard, group in enumerate(groups):
        # The rest of this shard is pulled from the same iterator.
        rest = islice(groups, rows_per_shard // size - 1)
        rows += write_parquet(folder / f"{split}-{shard:05d}.parquet", chain([group], rest), columns)
    return rows


def split_files(directory: str | Path, split: str) -> list[Path]:
    """Returns the files of a split that `prepare` wrote into a folder, in order.

    Raises:
        ValueError: If there are none.
    """
    folder = opened(directory) / "data"
    files = sorted(folder.glob(f"{split}-*.parquet"))
    if not files:
        raise ValueError(f"{folder}: no files `{split}-*.parquet`; `prepare` writes them")
    return files
