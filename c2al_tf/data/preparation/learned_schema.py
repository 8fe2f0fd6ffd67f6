"""A schema learnt from rows: vocabularies, quantile boundaries, means and standard deviations."""

import copy
import dataclasses
from collections.abc import Iterable
from typing import Any

import numpy as np

from ...feature import CategoricalFeature, DType, NumericFeature
from ...schema import Schema
from ...types import Array, Columns
from ..columns.bad_rows import bad_rows_error
from ..columns.checks import find_bad_rows
from ..columns.raw import as_raw, is_missing, num_rows
from .source import FeatureSpec, Source
from .statistics import Counts, Moments, Quantiles


def build_schema(batches: Iterable[Columns], source: Source) -> Schema:
    """Returns the schema of a source, learnt from one pass over `batches`; `source.splits` is not looked at.

    Raises:
        ValueError: If there are no rows, or a row breaks a rule (see `checks`).
    """
    learner = None
    first_row = 0
    for batch in filter(num_rows, batches):
        learner = learner or SchemaLearner(source, batch)
        learner.learn(learner.check(batch, "rows", first_row))
        first_row += num_rows(batch)
    if learner is None:
        raise ValueError("A schema is learnt from at least one row. Received: none")
    return learner.schema()


class SchemaLearner:
    """Learns a schema from batches of raw columns. What is learnt from parts of the rows adds up by `+=`, from 0.

    If a feature has a `default`, a row without a value counts as a row with the default. Other missing values and rows
    of weight 0 do not count. Every other row counts once, whatever its weight.

    Args:
        source: Declares the columns.
        first: The first batch, which determines the types that are not declared.
    """

    def __init__(self, source: Source, first: Columns) -> None:
        features = tuple(spec.draft(_dtype(spec, first)) for spec in source.features)
        self.draft = Schema(features, source.labels, source.axes, source.axis_columns, source.weight)
        self._counts = {spec.name: Counts(spec.name) for spec in source.features}
        self._learners: dict[str, _Vocabulary | _Scale] = {}
        specs = {spec.name: spec for spec in source.features}
        for spec, feature in zip(source.features, features, strict=True):
            if isinstance(feature, NumericFeature):
                self._learners[feature.name] = _Scale(spec, feature)
            elif feature.vocabulary is not None:
                owner = feature.shares or feature.name
                self._learners[feature.name] = _Vocabulary(specs[owner], feature, self._counts[owner])

    def check(self, batch: Columns, split: str, first_row: int) -> Columns:
        """Returns a batch as raw columns of the schema's types.

        Raises:
            ValueError: If a column is absent or of a wrong type, or a row breaks a rule.
        """
        rows, found = self.find_bad_rows(batch, split, first_row)
        if found:
            raise bad_rows_error(split, found)
        return rows

    def find_bad_rows(self, batch: Columns, split: str, first_row: int) -> tuple[Columns, list[tuple[int, str]]]:
        """As `check`, but returns the rows that break a rule, too; see `checks.find_bad_rows`."""
        rows = {}
        for name, column in self.draft.columns.items():
            if name not in batch:
                raise ValueError(f"{split}: no column `{name}`; present are {sorted(batch)}")
            rows[name] = as_raw(batch[name], column, split)
            if len(rows[name]) != num_rows(batch):
                raise ValueError(
                    f"{split}: column `{name}` must have as many rows as the others, {num_rows(batch):,}. "
                    f"Received: {len(rows[name]):,}"
                )
        return rows, find_bad_rows(rows, self.draft, first_row)

    def learn(self, rows: Columns) -> None:
        """Learns from rows that `check` returned."""
        weight = self.draft.weight
        counted = slice(None) if weight is None else rows[weight] > 0
        for name, learner in self._learners.items():
            values = rows[name][counted]
            if len(values):
                learner.update(values)

    def __iadd__(self, other: "SchemaLearner") -> "SchemaLearner":
        """Adds what `other`, of the same source, has learnt from other rows."""
        for name, counts in self._counts.items():
            counts.merge(other._counts[name])
        for name, learner in self._learners.items():
            added = other._learners[name]
            if isinstance(learner, _Scale) and isinstance(added, _Scale):
                learner.merge(added)
        return self

    def __radd__(self, other: int) -> "SchemaLearner":
        """Lets a sum start at 0; it does not change its first summand."""
        return copy.deepcopy(self) if other == 0 else NotImplemented

    def schema(self) -> Schema:
        """The schema of all rows so far."""
        learnt = {name: learner.learnt() for name, learner in self._learners.items()}
        features = tuple(dataclasses.replace(f, **learnt.get(f.name, {})) for f in self.draft.features)
        return dataclasses.replace(self.draft, features=features)


class _Vocabulary:
    """Learns a vocabulary. Features that share one count into the same `counts`; `spec` is that of its owner."""

    def __init__(self, spec: FeatureSpec, feature: CategoricalFeature, counts: Counts) -> None:
        self.spec, self.feature, self.counts = spec, feature, counts

    def update(self, values: Array) -> None:
        values = values.reshape(len(values), -1)
        present = ~is_missing(values, self.feature.dtype)
        self.counts.update(values[present])
        if self.feature.default is not None:
            empty = int((~present.any(axis=1)).sum())
            self.counts.update(np.repeat(np.array([self.feature.default], values.dtype), empty))

    def learnt(self) -> dict[str, Any]:
        return {"vocabulary": self.counts.vocabulary(self.spec.min_count, self.spec.max_size)}


class _Scale:
    def __init__(self, spec: FeatureSpec, feature: NumericFeature) -> None:
        self.spec, self.feature, self.moments, self.quantiles = spec, feature, Moments(), Quantiles()

    def update(self, values: Array) -> None:
        if self.feature.default is not None:
            values = np.where(np.isnan(values), np.float32(self.feature.default), values)
        values = values[~np.isnan(values)].astype(np.float64)
        if self.spec.num_buckets > 1:
            self.quantiles.update(values)
        if self.feature.scaling == "log":
            values = np.sign(values) * np.log1p(np.abs(values))
        if self.feature.scaling != "none":
            self.moments.update(values)

    def merge(self, other: "_Scale") -> None:
        self.moments.merge(other.moments)
        self.quantiles.merge(other.quantiles)

    def learnt(self) -> dict[str, Any]:
        boundaries = self.quantiles.boundaries(self.spec.num_buckets)
        return {"boundaries": boundaries, "mean": self.moments.mean, "std": self.moments.std}


def _dtype(spec: FeatureSpec, first: Columns) -> DType:
    if spec.dtype is not None or spec.kind == "numeric":
        return spec.dtype or "float32"
    name = spec.name
    if name not in first:
        raise ValueError(f"No column `{name}` in the data; present are {sorted(first)}")
    kind = np.asarray(first[name]).dtype.kind
    if kind not in "OUTiub":
        raise ValueError(
            f"Categorical column `{name}` must hold strings or integers; declare it numeric otherwise. "
            f"Received: {np.asarray(first[name]).dtype}"
        )
    return "string" if kind in "OUT" else "int64"
