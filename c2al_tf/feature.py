"""A feature: a raw column, and the model inputs that it becomes."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from .fields import check_fields
from .types import MISSING_INT, MISSING_STRING

DType: TypeAlias = Literal["string", "int64", "float32"]
Missing: TypeAlias = Literal["error", "slot", "default"]
Combiner: TypeAlias = Literal["mean", "sum"]
Scaling: TypeAlias = Literal["none", "standard", "log"]


@dataclass(frozen=True)
class Column:
    """A raw column: its name, type and, where a row holds several values, their padded number."""

    name: str
    dtype: DType
    length: int | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        check_count(self.name, "length", self.length)


@dataclass(frozen=True)
class CategoricalFeature:
    """A categorical column and the integer ids that its values become.

    Id 0 is "no value" (and the padding of a multi-valued feature). With a vocabulary, id 1 is out-of-vocabulary and
    `vocabulary[i]` has id `2 + i`; hashed, a value has id `1 + hash mod num_hash_buckets`.

    Args:
        name: The raw column, and the model's input.
        dtype: `"string"` or `"int64"`.
        vocabulary: The known values, most frequent first, each once. Exactly one of this and `num_hash_buckets` is
            given.
        num_hash_buckets: Number of hash buckets.
        length: Padded number of values per row of a multi-valued feature.
        combiner: How the embeddings of a multi-valued feature are combined.
        missing: What a null means: an `"error"`, a value of its own (`"slot"`), or the `"default"`.
        default: The value that stands for a null, with `missing="default"`.
        shares: Name of another categorical feature with the same vocabulary, or as many buckets, whose embeddings this
            one uses: the items that a user saw last, and the item that is shown.
    """

    name: str
    dtype: Literal["string", "int64"]
    vocabulary: tuple[str, ...] | tuple[int, ...] | None = None
    num_hash_buckets: int | None = None
    length: int | None = None
    combiner: Combiner = "mean"
    missing: Missing = "error"
    default: str | int | None = None
    shares: str | None = None

    def __post_init__(self) -> None:
        if (self.vocabulary is None) == (self.num_hash_buckets is None):
            raise ValueError(
                f"Feature `{self.name}` needs exactly one of `vocabulary` and `num_hash_buckets`. Received: "
                f"vocabulary={self.vocabulary!r:.60}, num_hash_buckets={self.num_hash_buckets}"
            )
        check_word(self.name, "dtype", self.dtype, ("string", "int64"))
        check_word(self.name, "combiner", self.combiner, get_args(Combiner))
        check_count(self.name, "num_hash_buckets", self.num_hash_buckets)
        check_count(self.name, "length", self.length)
        is_value, rule = (_is_text, _TEXT) if self.dtype == "string" else (_is_integer, _INTEGER)
        _check_missing(self, is_value, rule)
        known: set[str | int] = set()
        for value in self.vocabulary or ():
            if not is_value(value) or value in known:
                raise ValueError(
                    f"`vocabulary` of feature `{self.name}` must hold distinct values, each {rule}. Received: {value!r}"
                    + (" twice" if is_value(value) else "")
                )
            known.add(value)

    @property
    def column(self) -> Column:
        """The raw column that this feature is made from."""
        return Column(self.name, self.dtype, self.length)

    @property
    def num_ids(self) -> int:
        """Number of different ids, and so of embedding rows."""
        if self.num_hash_buckets is not None:
            return 1 + self.num_hash_buckets
        return 2 + len(self.vocabulary or ())

    @property
    def inputs(self) -> dict[str, Column]:
        """The model inputs that this feature is encoded to; every `"int64"` there is an int32 id."""
        return {self.name: Column(self.name, "int64", self.length)}


@dataclass(frozen=True)
class NumericFeature:
    """A numeric column: a bucket id and, unless `scaling="none"`, a scaled value.

    Id 0 is "no value", and bucket `i`, the values in `[boundaries[i - 1], boundaries[i])`, has id `1 + i`. The scaled
    value is `(t(x) - mean) / std`, with `t(x) = sign(x) log(1 + |x|)` for `scaling="log"` and `t(x) = x` for
    `"standard"`; it is 0 where there is none.

    Args:
        name: The raw column, and the model's input for the id. The scaled value is the input `<name>_value`.
        scaling: How the value is scaled.
        mean: Mean of `t(x)`.
        std: Standard deviation of `t(x)`, above 0.
        boundaries: Bucket boundaries, increasing. Empty: one bucket.
        missing: What a NaN means: an `"error"`, a bucket of its own (`"slot"`), or the `"default"`.
        default: The value that stands for a NaN, with `missing="default"`.
    """

    name: str
    scaling: Scaling = "none"
    mean: float = 0.0
    std: float = 1.0
    boundaries: tuple[float, ...] = ()
    missing: Missing = "error"
    default: float | None = None

    def __post_init__(self) -> None:
        if any(a >= b for a, b in zip(self.boundaries, self.boundaries[1:], strict=False)):
            raise ValueError(f"`boundaries` of feature `{self.name}` must increase. Received: {self.boundaries}")
        if not self.std > 0:
            raise ValueError(f"`std` of feature `{self.name}` must be above 0. Received: {self.std}")
        check_word(self.name, "scaling", self.scaling, get_args(Scaling))
        _check_missing(self, _is_number, "a finite number")

    @property
    def column(self) -> Column:
        """The raw column that this feature is made from."""
        return Column(self.name, "float32")

    @property
    def num_ids(self) -> int:
        """Number of different ids, and so of embedding rows."""
        return 2 + len(self.boundaries)

    @property
    def value_input(self) -> str | None:
        """Name of the model input that holds the scaled value, if there is one."""
        return None if self.scaling == "none" else f"{self.name}_value"

    @property
    def inputs(self) -> dict[str, Column]:
        """The model inputs that this feature is encoded to; every `"int64"` there is an int32 id."""
        inputs = {self.name: Column(self.name, "int64")}
        if self.value_input is not None:
            inputs[self.value_input] = Column(self.value_input, "float32")
        return inputs


Feature: TypeAlias = CategoricalFeature | NumericFeature


_TEXT = 'a string other than "", which stands for a null'
_INTEGER = f"an integer of 64 bits other than {MISSING_INT}, which stands for a null"


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value != MISSING_STRING


def _is_integer(value: object) -> bool:
    return type(value) is int and MISSING_INT < value < 2**63


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]


def check_word(name: str, field: str, word: object, words: Sequence[str]) -> None:
    """Raises ValueError unless a feature's field has one of the words that it may have."""
    if word not in words:
        raise ValueError(f"`{field}` of feature `{name}` must be one of {', '.join(words)}. Received: {field}={word!r}")


def check_count(name: str, field: str, count: object, least: int = 1) -> None:
    """Raises ValueError unless a feature's field is None or a whole number that is large enough."""
    if count is not None and (type(count) is not int or count < least):
        raise ValueError(
            f"`{field}` of feature `{name}` must be a whole number of at least {least}. Received: {field}={count!r}"
        )


def _check_missing(feature: Feature, is_value: Callable[[object], bool], rule: str) -> None:
    check_word(feature.name, "missing", feature.missing, get_args(Missing))
    if feature.default is not None and not is_value(feature.default):
        raise ValueError(f"`default` of feature `{feature.name}` must be {rule}. Received: {feature.default!r}")
    if (feature.missing == "default") != (feature.default is not None):
        raise ValueError(
            f"Feature `{feature.name}` needs a `default` with missing='default', and only then. "
            f"Received: missing={feature.missing!r}, default={feature.default!r}"
        )
