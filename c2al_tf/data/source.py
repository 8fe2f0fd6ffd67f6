"""Rows and what a person declares of them, before anything is learnt from the data."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from ..schema import Column, Combiner, DType, Missing, Scaling
from ..types import Columns

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class FeatureSpec:
    """What a person declares of a feature; `prepare` finds the rest in the data.

    Args:
        name: The raw column.
        kind: Whether its values are names or amounts.
        dtype: Type of a categorical column; None: that of the first batch.
        min_count: Rows in which a value must appear to be in the vocabulary.
        max_size: Largest size of the vocabulary.
        num_hash_buckets: Hashes into so many buckets instead of having a vocabulary.
        length: Padded number of values per row of a multi-valued column.
        combiner: How the embeddings of a multi-valued column are combined.
        num_buckets: Number of buckets of a numeric column, cut at its quantiles; 0 or 1: one bucket.
        scaling: How the value of a numeric column is scaled.
        missing: What a null means.
        default: What stands for a null, with `missing="default"`.
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

    def __post_init__(self) -> None:
        if self.kind not in ("categorical", "numeric"):
            raise ValueError(f"`kind` of `{self.name}` must be 'categorical' or 'numeric'. Received: {self.kind!r}")
        wrong = self.dtype == "float32" if self.kind == "categorical" else self.dtype not in (None, "float32")
        if wrong:
            raise ValueError(
                f"`dtype` of `{self.name}` must be 'string' or 'int64' for a categorical feature and 'float32' for a "
                f"numeric one. Received: kind={self.kind!r}, dtype={self.dtype!r}"
            )
        if self.kind == "numeric" and (self.length is not None or self.num_hash_buckets is not None):
            raise ValueError(
                f"`length` and `num_hash_buckets` of `{self.name}` are for categorical features. "
                f"Received: length={self.length}, num_hash_buckets={self.num_hash_buckets}"
            )


@dataclass(frozen=True)
class Source:
    """Rows, and what they mean.

    Args:
        features: What the model will see.
        label: Column in {0, 1}.
        axes: Semantic axes: each the name of one raw column, or of two to be crossed.
        splits: Opens a fresh stream of batches of raw columns for `"train"`, `"validation"` and `"test"`.
        axis_columns: Raw columns that serve as axes without being features.
        num_rows: Rows per split, for progress bars.
    """

    features: tuple[FeatureSpec, ...]
    label: str
    axes: tuple[tuple[str, ...], ...]
    splits: Mapping[str, Callable[[], Iterator[Columns]]]
    axis_columns: tuple[Column, ...] = ()
    num_rows: Mapping[str, int] | None = None
