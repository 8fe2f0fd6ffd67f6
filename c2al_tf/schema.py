"""What a data set's columns mean: features, labels and semantic axes, as frozen values with a JSON form."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from .feature import (
    CategoricalFeature as CategoricalFeature,
    Column as Column,
    Feature as Feature,
    NumericFeature as NumericFeature,
)
from .files import read_json, write_json
from .names import can_be_input, input_name


@dataclass(frozen=True)
class Schema:
    """The columns of a data set.

    Args:
        features: What the model sees. Their names begin with a letter and go on with letters, digits and `_`: they
            become the inputs of the served model.
        labels: Columns in {0, 1}; the first is the primary label.
        axes: Semantic axes: each the name of one raw column, or of two to be crossed.
        axis_columns: Raw columns that serve as axes without being features.
        weight: Column of row weights, at least 0.
    """

    features: tuple[Feature, ...]
    labels: tuple[str, ...] = ("label",)
    axes: tuple[tuple[str, ...], ...] = ()
    axis_columns: tuple[Column, ...] = ()
    weight: str | None = None

    def __post_init__(self) -> None:
        names = [name for feature in self.features for name in feature.inputs]
        names += [*self.labels, *(column.name for column in self.axis_columns)]
        names += [] if self.weight is None else [self.weight]
        unfit = [feature.name for feature in self.features if not can_be_input(feature.name)]
        if unfit:
            raise ValueError(
                "A feature's name must begin with a letter, go on with letters from a to z, digits and `_`, and be "
                "neither a word of Python nor `self`: it becomes an input of the served model. Files are read by the "
                f"names that `input_name` makes, too: {[input_name(name) for name in unfit]}. Received: {unfit}"
            )
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ValueError(f"Every column and model input needs a name of its own. Received twice: {repeated}")
        _check_shares(self.features)
        for axis in self.axes:
            for name in axis:
                if name not in self.columns:
                    raise ValueError(
                        f"Axis `{'*'.join(axis)}` names no column. Received: {name!r}; there are {sorted(self.columns)}"
                    )

    @property
    def columns(self) -> dict[str, Column]:
        """All raw columns by name: features, axis columns, labels, weight."""
        columns = [feature.column for feature in self.features] + list(self.axis_columns)
        columns += [Column(name, "float32") for name in self.labels]
        columns += [] if self.weight is None else [Column(self.weight, "float32")]
        return {column.name: column for column in columns}

    @property
    def inputs(self) -> dict[str, Column]:
        """The model's inputs by name, in the order of the features; every `"int64"` there is an int32 id."""
        return {name: column for feature in self.features for name, column in feature.inputs.items()}

    def to_json(self) -> dict[str, Any]:
        """The schema as plain JSON values."""
        kinds = {CategoricalFeature: "categorical", NumericFeature: "numeric"}
        value = dataclasses.asdict(self)
        value["features"] = [{"kind": kinds[type(f)], **dataclasses.asdict(f)} for f in self.features]
        return value

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`.

        Raises:
            ValueError: If a key is unknown or missing, or a feature's kind is unknown.
        """
        fields = _known(cls, value)
        return cls(
            features=tuple(_feature_from_json(feature) for feature in fields.pop("features", ())),
            labels=tuple(fields.pop("labels", ("label",))),
            axes=tuple(tuple(axis) for axis in fields.pop("axes", ())),
            axis_columns=tuple(Column(**_known(Column, column)) for column in fields.pop("axis_columns", ())),
            **fields,
        )

    def save(self, path: str | Path) -> None:
        """Writes the schema as JSON."""
        write_json(path, self.to_json())

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Reads what `save` wrote."""
        return cls.from_json(read_json(path))


def _check_shares(features: Sequence[Feature]) -> None:
    owners = {f.name: f for f in features if isinstance(f, CategoricalFeature) and f.shares is None}
    for feature in features:
        if not isinstance(feature, CategoricalFeature) or feature.shares is None:
            continue
        owner = owners.get(feature.shares)
        if owner is None:
            raise ValueError(
                f"`shares` of feature `{feature.name}` must name a categorical feature that has embeddings of its own. "
                f"Received: shares={feature.shares!r}; there are {sorted(owners)}"
            )
        ids, theirs = ((f.dtype, f.vocabulary, f.num_hash_buckets) for f in (feature, owner))
        if ids != theirs:
            raise ValueError(
                f"Feature `{feature.name}` must have the dtype and the vocabulary, or as many buckets, of "
                f"`{owner.name}`, whose embeddings it shares. Received: {ids!r:.80} and {theirs!r:.80}"
            )


def _feature_from_json(value: Mapping[str, Any]) -> Feature:
    kinds = {"categorical": CategoricalFeature, "numeric": NumericFeature}
    kind = kinds.get(value.get("kind", ""))
    if kind is None:
        raise ValueError(f"A feature's `kind` must be one of {sorted(kinds)}. Received: {value.get('kind')!r}")
    fields = _known(kind, {name: item for name, item in value.items() if name != "kind"})
    return kind(**{name: tuple(item) if isinstance(item, list) else item for name, item in fields.items()})


def _known(kind: type, value: Mapping[str, Any]) -> dict[str, Any]:
    names: Sequence[str] = [field.name for field in dataclasses.fields(kind)]
    unknown = sorted(set(value) - set(names))
    if unknown:
        raise ValueError(f"Unknown keys for {kind.__name__}. Received: {unknown}; there are {sorted(names)}")
    return dict(value)
