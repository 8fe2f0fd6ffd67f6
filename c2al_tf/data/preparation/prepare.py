"""A source of rows to sharded Parquet files and a schema, in one streaming pass."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ...files import replace_directory
from ...schema import Feature, Schema
from ...storage import local_path
from ...types import Columns
from ..columns.raw import num_rows
from ..columns.shards import write_shards
from .learned_schema import SchemaLearner
from .negatives import WEIGHT, check_rate, check_share, sample_negatives, with_weight
from .source import SPLITS, Source


def prepare(
    source: Source,
    directory: str | Path,
    *,
    rows_per_shard: int = 1_000_000,
    negative_sampling: float | None = None,
    schema: Schema | None = None,
    progress: bool = True,
) -> Schema:
    """Writes `data/<split>-<shard>.parquet` and `schema.json` into a folder, and returns the schema.

    Each split is read once. The schema is learnt from the rows of `"train"` that are written, and from no others: with
    `negative_sampling` too, a value of a vocabulary is in at least `min_count` rows that a model trains on. The folder
    `data` appears whole, in the place of an older one, or not at all.

    Args:
        source: Where the rows come from.
        directory: The folder.
        rows_per_shard: Most rows per file.
        negative_sampling: Share, in (0, 1], of the training rows with label 0 to be kept, always the same ones, at the
            inverse weight. All other rows stay as they are; without a weight of their own they get a weight of 1.
            None: every row is kept.
        schema: What the columns mean, of an earlier day say. None: it is learnt.
        progress: Whether to show progress bars.

    Raises:
        ValueError: If a split is missing or empty, a row breaks a rule (see `checks`), also one that is not kept,
            negatives are to be sampled where they are fewer than the positives, or `schema` is of other columns.
    """
    check_share(negative_sampling)
    if sorted(source.splits) != sorted(SPLITS):
        raise ValueError(f"A source must have the splits {list(SPLITS)}. Received: {sorted(source.splits)}")
    if rows_per_shard < 1:
        raise ValueError(f"`rows_per_shard` must be at least 1. Received: rows_per_shard={rows_per_shard}")
    directory = local_path(directory)
    source = source if negative_sampling is None else with_weight(source)
    streams = {split: _stream(source, split, progress) for split in SPLITS}
    first = next(streams["train"])
    learner = SchemaLearner(source, first)
    if schema is not None:
        schema = with_axes_of(schema, learner.draft)
    streams["train"] = chain([first], streams["train"])
    with replace_directory(directory / "data") as folder:
        for split, stream in streams.items():
            batches = _checked(stream, learner, split)
            if split == "train" and negative_sampling is not None:
                batches = _sampled(batches, source.label, source.weight or WEIGHT, negative_sampling)
            if split == "train" and schema is None:
                batches = _learned(batches, learner)
            write_shards(folder, split, batches, learner.draft.columns, rows_per_shard)
    schema = schema or learner.schema()
    schema.save(directory / "schema.json")
    return schema


def with_axes_of(schema: Schema, draft: Schema) -> Schema:
    """A schema that was learnt from other rows, with the axes of these.

    Raises:
        ValueError: If it is of other columns.
    """
    there, here = (
        {
            "features": [_declared(feature) for feature in each.features],
            "labels": each.labels,
            "weight": each.weight,
        }
        for each in (schema, draft)
    )
    for name, found in there.items():
        if found != here[name]:
            raise ValueError(f"`schema` must be of the rows' {name}. Received: {found}, the rows have {here[name]}")
    return replace(schema, axes=draft.axes, axis_columns=draft.axis_columns)


def _declared(feature: Feature) -> dict[str, Any]:
    """What is not learnt of a feature."""
    learnt = ("vocabulary", "mean", "std", "boundaries")
    return {"kind": type(feature).__name__} | {k: v for k, v in vars(feature).items() if k not in learnt}


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
        yield learner.check(batch, split, first_row)
        first_row += num_rows(batch)


def _sampled(batches: Iterator[Columns], label: str, weight: str, share: float) -> Iterator[Columns]:
    rows = positives = 0
    for batch in batches:
        yield sample_negatives(batch, label, weight, share, first_row=rows)
        rows += num_rows(batch)
        positives += int(batch[label].sum())
    check_rate(positives, rows)


def _learned(batches: Iterator[Columns], learner: SchemaLearner) -> Iterator[Columns]:
    for batch in batches:
        learner.learn(batch)
        yield batch
