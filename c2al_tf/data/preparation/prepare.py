"""A source of rows to sharded Parquet files and a schema, in one streaming pass."""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from tqdm import tqdm

from ...files import replace_directory
from ...schema import Schema
from ...types import Columns
from ..columns.raw import num_rows
from ..columns.shards import write_shards
from .learned_schema import SchemaLearner
from .source import SPLITS, Source


def prepare(source: Source, directory: str | Path, *, rows_per_shard: int = 1_000_000, progress: bool = True) -> Schema:
    """Writes `data/<split>-<shard>.parquet` and `schema.json` into a folder, and returns the schema.

    Each split is read once. The schema is learnt from `"train"` alone. The folder `data` appears whole, in the place of
    an older one, or not at all.

    Args:
        source: Where the rows come from.
        directory: The folder.
        rows_per_shard: Most rows per file.
        progress: Whether to show progress bars.

    Raises:
        ValueError: If a split is missing or empty, or a row breaks a rule (see `checks`).
    """
    if sorted(source.splits) != sorted(SPLITS):
        raise ValueError(f"A source must have the splits {list(SPLITS)}. Received: {sorted(source.splits)}")
    if rows_per_shard < 1:
        raise ValueError(f"`rows_per_shard` must be at least 1. Received: rows_per_shard={rows_per_shard}")
    directory = Path(directory)
    streams = {split: _stream(source, split, progress) for split in SPLITS}
    first = next(streams["train"])
    learner = SchemaLearner(source, first)
    streams["train"] = chain([first], streams["train"])
    with replace_directory(directory / "data") as folder:
        for split, stream in streams.items():
            batches = _checked(stream, learner, split)
            write_shards(folder, split, batches, learner.draft.columns, rows_per_shard)
    schema = learner.schema()
    schema.save(directory / "schema.json")
    return schema


def _stream(source: Source, split: str, progress: bool) -> Iterator[Columns]:
    """Yields the batches of a split that have rows, behind a progress bar."""
    total = (source.num_rows or {}).get(split)
    rows = 0
    with tqdm(total=total, desc=f"prepare {split}", unit=" rows", unit_scale=True, disable=not progress) as bar:
        for batch in source.splits[split]():
            if num_rows(batch):
                yield batch
                rows += num_rows(batch)
                bar.update(num_rows(batch))
    if rows == 0:
        raise ValueError(f"The split {split!r} has no rows; each of {list(SPLITS)} needs at least one")


def _checked(stream: Iterator[Columns], learner: SchemaLearner, split: str) -> Iterator[Columns]:
    first_row = 0
    for batch in stream:
        rows = learner.check(batch, split, first_row)
        if split == "train":
            learner.learn(rows)
        yield rows
        first_row += num_rows(rows)
