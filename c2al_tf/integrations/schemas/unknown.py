"""What no declaration of columns says of a feature."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ...data.columns.raw import MISSING
from ...feature import CategoricalFeature, DType, Feature, Missing, NumericFeature


@dataclass(frozen=True)
class Unknown:
    """What `make_schema` takes for all features whose declaration does not say it.

    Args:
        num_hash_buckets: Number of hash buckets of ids without a vocabulary.
        length: Padded number of values per row where it varies.
    """

    num_hash_buckets: int
    length: int | None

    def length_of(self, name: str, declared: object) -> int:
        """The length of a feature whose rows hold any number of values."""
        if self.length is None:
            raise ValueError(
                f"`length` must be given, the most values of a row that count, as feature `{name}` declares no number "
                f"of them. Received: length=None; {declared}"
            )
        return self.length

    def feature(
        self,
        name: str,
        dtype: DType,
        length: int | None = None,
        missing: Missing = "error",
        default: Any = None,
        vocabulary: Sequence[Any] = (),
    ) -> Feature:
        """A feature: numbers by their logarithm, ids by their vocabulary if there is one, else hashed."""
        if dtype == "float32":
            return NumericFeature(name, "log", missing=missing, default=default)
        known = tuple(value for value in vocabulary if value != MISSING[dtype])
        buckets = None if known else self.num_hash_buckets
        return CategoricalFeature(name, dtype, known or None, buckets, length, missing=missing, default=default)
