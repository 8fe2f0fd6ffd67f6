"""Synthetic ad clicks with planted cohorts: a log of any length in constant memory, with its true probabilities."""

import dataclasses
import math
from collections.abc import Callable, Iterator

import numpy as np
from scipy.special import expit

from c2al_tf.cohorts import Cohort, Interval
from c2al_tf.data.preparation.learned_schema import build_schema
from c2al_tf.data.preparation.source import FeatureSpec, Source
from c2al_tf.schema import CategoricalFeature, Column, Feature, Schema
from c2al_tf.types import Array, Columns

from .ads_world import (
    BLOCK_ROWS,
    DECOYS,
    NAMES,
    SyntheticAds,
    make_world,
    random_stream,
)

__all__ = [
    "SyntheticAds",
    "count_shard_rows",
    "generate",
    "make_schema",
    "open_source",
    "planted_cohorts",
    "raw_columns",
    "true_probabilities",
]

_MAX_VOCABULARY = 1_000_000
"""Values of an id above which it is hashed, as ids of that many values are in production."""


def open_source(parameters: SyntheticAds) -> Source:
    """The click log as a source of raw columns. The true click probability is not among them."""

    def stream(split: str) -> Callable[[], Iterator[Columns]]:
        return lambda: (columns for columns, _ in generate(parameters, split))

    return Source(
        features=(
            *(_id_feature(name, size) for name, size in parameters.id_values.items()),
            *(FeatureSpec(name, "categorical", "string") for name in NAMES),
            # As many buckets as make a planted cohort one of them.
            FeatureSpec("user_value", "numeric", "float32", num_buckets=20, scaling="log"),
        ),
        label="click",
        axes=(("user_value",), *((name,) for name in DECOYS), ("age_group", "surface")),
        splits={split: stream(split) for split in parameters.split_rows},
        num_rows=parameters.split_rows,
    )


def _id_feature(name: str, size: int) -> FeatureSpec:
    return FeatureSpec(name, "categorical", "int64", num_hash_buckets=size if size > _MAX_VOCABULARY else None)


def raw_columns(parameters: SyntheticAds) -> dict[str, Column]:
    """The log's columns and their types."""
    source = open_source(parameters)
    features = {spec.name: Column(spec.name, spec.dtype or "float32") for spec in source.features}
    return {**features, source.label: Column(source.label, "float32")}


def make_schema(parameters: SyntheticAds) -> Schema:
    """The schema that an endless log would teach: every value is in its vocabulary, whether rows hold it or not.

    The buckets of `user_value` are learnt from the first block of the log.
    """
    source = open_source(parameters)
    schema = build_schema([next(generate(parameters, "train"))[0]], source)

    def complete(feature: Feature) -> Feature:
        if not isinstance(feature, CategoricalFeature) or feature.vocabulary is None:
            return feature
        if feature.dtype == "string":
            return dataclasses.replace(feature, vocabulary=NAMES[feature.name])
        return dataclasses.replace(feature, vocabulary=tuple(range(parameters.id_values[feature.name])))

    return dataclasses.replace(schema, features=tuple(map(complete, schema.features)))


def generate(
    parameters: SyntheticAds, split: str, *, shard: int = 0, num_shards: int = 1
) -> Iterator[tuple[Columns, Array]]:
    """Yields batches of raw columns, the label `click` among them, with their true click probabilities.

    The same parameters give the same rows. Shards share no row and together hold every row, whatever their number.

    Raises:
        ValueError: If there is no such split or shard.
    """
    if split not in parameters.split_rows:
        raise ValueError(f"`split` must be one of {list(parameters.split_rows)}. Received: split={split!r}")
    if not 0 <= shard < num_shards:
        raise ValueError(f"`shard` must be in [0, {num_shards}). Received: shard={shard}")
    num_rows = parameters.split_rows[split]
    for block in _blocks(num_rows, shard, num_shards):
        columns, probability = _draw_block(parameters, split, block)
        # A block is always drawn whole, so that a longer log begins with the rows of a shorter one.
        rows = slice(num_rows - block * BLOCK_ROWS)
        yield {name: column[rows] for name, column in columns.items()}, probability[rows]


def count_shard_rows(parameters: SyntheticAds, split: str, shard: int, num_shards: int) -> int:
    """Number of rows that `generate` yields for a shard of a split."""
    num_rows = parameters.split_rows[split]
    return sum(min(BLOCK_ROWS, num_rows - block * BLOCK_ROWS) for block in _blocks(num_rows, shard, num_shards))


def _blocks(num_rows: int, shard: int, num_shards: int) -> range:
    return range(shard, math.ceil(num_rows / BLOCK_ROWS), num_shards)


def _draw_block(parameters: SyntheticAds, split: str, block: int) -> tuple[Columns, Array]:
    world = make_world(parameters)
    rng = random_stream(parameters, split, block)
    fields, user_value = world.draw_fields(rng)
    probability = expit(world.logits(parameters, fields, user_value))
    columns = {
        name: np.array(NAMES[name], dtype=object)[value] if name in NAMES else value.astype(np.int64)
        for name, value in fields.items()
    }
    click = (rng.random(BLOCK_ROWS) < probability).astype(np.float32)
    return {**columns, "user_value": user_value, "click": click}, probability


def true_probabilities(parameters: SyntheticAds, split: str) -> Array:
    """The true click probabilities of a split's rows, in their order: the best predictions there can be."""
    return np.concatenate([probability for _, probability in generate(parameters, split)])


def planted_cohorts(parameters: SyntheticAds) -> tuple[Cohort, Cohort]:
    """The head and the tail cohort: the truth that discovery should find."""
    world, share = make_world(parameters), parameters.cohort_share
    head = Interval("user_value", low=world.head_from, quantiles=(1 - share, 1.0))
    tail = Interval("user_value", high=world.tail_below, quantiles=(0.0, share))
    return Cohort("head", (head,)), Cohort("tail", (tail,))
