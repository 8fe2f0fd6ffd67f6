"""Rows and their declaration, before anything is learnt from the data."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Literal

from ...feature import (
    CategoricalFeature,
    Column,
    Combiner,
    DType,
    Feature,
    Missing,
    NumericFeature,
    Scaling,
    check_count,
    check_word,
)
from ...types import Columns

SPLITS = ("train", "validation", "test")

# Fields that apply to one kind of feature only.
_ONLY = {
    "categorical": ("min_count", "max_size", "num_hash_buckets", "length", "combiner", "shares"),
    "numeric": ("num_buckets", "scaling"),
}


@dataclass(frozen=True)
class FeatureSpec:
    """The declaration of a feature; `prepare` learns the rest from the data.

    Args:
        name: The raw column.
        kind: `"categorical"` for names, `"numeric"` for amounts.
        dtype: Type of a categorical column; None: that of the first batch.
        min_count: Rows in which a value must appear to be in the vocabulary.
        max_size: Largest size of the vocabulary.
        num_hash_buckets: Number of hash buckets, instead of a vocabulary.
        length: Padded number of values per row of a multi-valued column.
        combiner: How the embeddings of a multi-valued column are combined.
        num_buckets: Number of buckets of a numeric column, cut at its quantiles; 0 or 1: one bucket.
        scaling: How the value of a numeric column is scaled.
        missing: What a null means.
        default: The value that replaces a null, with `missing="default"`.
        shares: Categorical feature whose vocabulary and embeddings this one uses. The vocabulary is learnt from both
            columns; that feature's fields limit its size.
    """

    name: str
    kind: Literal["categorical", "numeric"]
    dtype: DType | None = None
    min_count: int = 1
    max_size: int | None = None
    num_hash_buckets: int | None = None
    length: int | None = None
    combiner: Combiner = "mean"
    num_buckets: int = 0
    scaling: Scaling = "standard"
    missing: Missing = "error"
    default: str | int | float | None = None
    shares: str | None = None

    def __post_init__(self) -> None:
        check_word(self.name, "kind", self.kind, tuple(_ONLY))
        wrong = self.dtype == "float32" if self.kind == "categorical" else self.dtype not in (None, "float32")
        if wrong:
            raise ValueError(
                f"`dtype` of feature `{self.name}` must be 'string' or 'int64' for a categorical feature and 'float32' "
                f"for a numeric one. Received: kind={self.kind!r}, dtype={self.dtype!r}"
            )
        other = "numeric" if self.kind == "categorical" else "categorical"
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in _ONLY[other] and value != field.default:
                raise ValueError(
                    f"`{field.name}` of feature `{self.name}` is for {other} features. "
                    f"Received: kind={self.kind!r}, {field.name}={value!r}"
                )
        if self.shares is not None and (self.min_count, self.max_size) != (1, None):
            raise ValueError(
                f"`min_count` and `max_size` of feature `{self.name}` are those of `{self.shares}`, whose vocabulary "
                f"it shares. Received: min_count={self.min_count}, max_size={self.max_size}"
            )
        check_count(self.name, "min_count", self.min_count)
        check_count(self.name, "max_size", self.max_size)
        check_count(self.name, "num_buckets", self.num_buckets, least=0)
        # The feature checks the other rules. Any type that fits serves for one that is not declared.
        self.draft(self.dtype or ("int64" if isinstance(self.default, int) else "string"))

    def draft(self, dtype: DType) -> Feature:
        """The feature with nothing learnt yet.

        Args:
            dtype: The type of a categorical column, where none is declared.
        """
        if self.kind == "numeric":
            default = float(self.default) if type(self.default) is int else self.default
            return NumericFeature(self.name, self.scaling, missing=self.missing, default=default)  # type: ignore[arg-type]
        return CategoricalFeature(
            self.name,
            self.dtype or dtype,  # type: ignore[arg-type]
            vocabulary=() if self.num_hash_buckets is None else None,
            num_hash_buckets=self.num_hash_buckets,
            length=self.length,
            combiner=self.combiner,
            missing=self.missing,
            default=self.default,  # type: ignore[arg-type]
            shares=self.shares,
        )


@dataclass(frozen=True)
class Source:
    """Rows and the meaning of their columns.

    Args:
        features: The model's features.
        label: Column in {0, 1}.
        axes: Semantic axes: each the name of one raw column, or of two to be crossed.
        splits: Opens a fresh stream of batches of raw columns for `"train"`, `"validation"` and `"test"`.
        axis_columns: Raw columns that serve as axes without being features.
        num_rows: Rows per split, for progress bars.
        weight: Column of row weights, at least 0. Rows of weight 0 stay, but nothing is learnt from them.
        more_labels: Further labels in {0, 1}, each a primary task of its own.
    """

    features: tuple[FeatureSpec, ...]
    label: str
    axes: tuple[tuple[str, ...], ...]
    splits: Mapping[str, Callable[[], Iterator[Columns]]]
    axis_columns: tuple[Column, ...] = ()
    num_rows: Mapping[str, int] | None = None
    weight: str | None = None
    more_labels: tuple[str, ...] = ()

    @property
    def labels(self) -> tuple[str, ...]:
        """All labels, the one that cohorts are found by first."""
        return (self.label, *self.more_labels)
