"""A `Schema` from the columns that another library declares."""

import dataclasses
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from ...feature import Column, Feature
from ...names import input_name
from ...schema import Schema
from .arrow import fields_of_frame, from_arrow_field
from .unknown import Unknown


def make_schema(
    source: Any,
    *,
    labels: Sequence[str] = ("label",),
    axes: Sequence[str | Sequence[str]] = (),
    axis_columns: Sequence[str] = (),
    weight: str | None = None,
    ignore: Collection[str] = (),
    features: Sequence[Feature] = (),
    num_hash_buckets: int = 100_000,
    length: int | None = None,
) -> Schema:
    """Makes a schema of columns that are declared elsewhere; no rows are read, `prepare` learns from rows.

    Every column becomes a feature but those that are named as something else:

    - strings and integers: ids, by the vocabulary that `source` knows, else hashed. Known are a FeatureSpace's, the
      domains of a `schema.pbtxt`, pandas' categories, and 0 and 1 of booleans.
    - floats and decimals: numbers, scaled by `log`, or as a FeatureSpace does.
    - `shape=()` or `(1,)`: one value a row; `(n,)`, lists, VarLenFeature and RaggedFeature: several ids, those beyond
      the length cut off. A row holds one float at most.
    - a null is a `"slot"`, or the spec's `default_value`; an `"error"` for a FixedLenFeature without one, and for an
      Arrow field that is not nullable.

    A FeatureSpace's crosses are no columns and left out. Of several out-of-vocabulary ids one is left.

    Args:
        source: A parsing spec of `tf.io`, the path of a `schema.pbtxt`, an adapted `keras.utils.FeatureSpace`, a
            `pyarrow.Schema`, or a pandas DataFrame.
        labels: Columns in {0, 1}; the first is the primary label.
        axes: Semantic axes: columns, or pairs of columns to be crossed.
        axis_columns: Columns that serve as axes without being features.
        weight: Column of row weights.
        ignore: Columns that are not used.
        features: What takes the place of features by their names: amounts that are integers, vocabularies, buckets.
        num_hash_buckets: Number of hash buckets of ids whose values are not known.
        length: Padded number of values per row where `source` does not say it; 1 makes a VarLenFeature a single value.

    Returns:
        The schema, with features in the order of `source`, under the names that `input_name` makes.

    Raises:
        ValueError: If a column is named that `source` lacks, or one cannot be a feature.
    """
    unknown = Unknown(num_hash_buckets, length)
    declared, to_feature = _read(source)
    targets = [*labels, *([] if weight is None else [weight])]
    if not _is_feature_space(source):  # which has no labels
        _check_present("labels` and `weight", targets, declared)
    _check_present("axis_columns", axis_columns, declared)
    _check_present("ignore", ignore, declared)
    for name in filter(declared.__contains__, targets):
        _check_number(name, to_feature(name, declared[name], Unknown(1, 1)).column, declared[name])
    names = {name: input_name(name) for name in declared if name not in {*targets, *axis_columns, *ignore}}
    given = {feature.name: feature for feature in features}
    _check_present("features", given, names.values())
    crossed = [(axis,) if isinstance(axis, str) else axis for axis in axes]
    return Schema(
        tuple(
            given.get(ours) or dataclasses.replace(to_feature(name, declared[name], unknown), name=ours)
            for name, ours in names.items()
        ),
        tuple(labels),
        tuple(tuple(names.get(name, name) for name in axis) for axis in crossed),
        tuple(to_feature(name, declared[name], unknown).column for name in axis_columns),
        weight,
    )


def _read(source: Any) -> tuple[Mapping[str, Any], Callable[[str, Any, Unknown], Feature]]:
    """The declarations of columns by name, and what makes a feature of one. Only what a source needs is loaded."""
    if isinstance(source, Mapping):
        from .parsing_spec import from_spec

        return source, from_spec
    if isinstance(source, str | Path):
        from .metadata import from_metadata, read_features

        return {feature.name: feature for feature in read_features(source)}, from_metadata
    if isinstance(source, pa.Schema):
        return {field.name: (field, ()) for field in source}, from_arrow_field
    if _is_feature_space(source):
        from .feature_space import from_feature_space

        return source.features, from_feature_space
    if hasattr(source, "iloc"):
        return fields_of_frame(source), from_arrow_field
    raise ValueError(
        "`source` must be a parsing spec of `tf.io`, the path of a schema.pbtxt, a FeatureSpace, a pyarrow.Schema or a "
        f"pandas DataFrame. Received: {type(source)}"
    )


def _is_feature_space(source: Any) -> bool:
    return hasattr(source, "preprocessors") and hasattr(source, "features")


def _check_present(argument: str, names: Iterable[str], present: Iterable[str]) -> None:
    if absent := sorted({*names} - {*present}):
        raise ValueError(f"`{argument}` must name columns of `source`. Received: {absent}; there are {sorted(present)}")


def _check_number(name: str, column: Column, declared: Any) -> None:
    if column.dtype == "string" or column.length is not None:
        raise ValueError(f"Label or weight `{name}` must be one number a row. Received: {declared}")
