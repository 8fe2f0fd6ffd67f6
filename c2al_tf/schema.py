"""What a data set's columns mean: features, labels and semantic axes, as frozen values with a JSON form."""

import dataclasses
import keyword
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self, TypeAlias, get_args

from .files import read_json, write_json
from .types import MISSING_INT, MISSING_STRING

DType: TypeAlias = Literal["string", "int64", "float32"]
Missing: TypeAlias = Literal["error", "slot", "default"]
Combiner: TypeAlias = Literal["mean", "sum"]
Scaling: TypeAlias = Literal["none", "standard", "log"]

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


@dataclass(frozen=True)
class Column:
    """A raw column: its name, type and, where a row holds several values, their padded number."""

    name: str
    dtype: DType
    length: int | None = None


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
    """

    name: str
    dtype: Literal["string", "int64"]
    vocabulary: tuple[str, ...] | tuple[int, ...] | None = None
    num_hash_buckets: int | None = None
    length: int | None = None
    combiner: Combiner = "mean"
    missing: Missing = "error"
    default: str | int | None = None

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
        unfit = [feature.name for feature in self.features if not _can_be_input(feature.name)]
        if unfit:
            raise ValueError(
                "A feature's name must begin with a letter, go on with letters from a to z, digits and `_`, and be "
                "neither a word of Python nor `self`: it becomes an input of the served model. Rename the column. "
                f"Received: {unfit}"
            )
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ValueError(f"Every column and model input needs a name of its own. Received twice: {repeated}")
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


def _can_be_input(name: str) -> bool:
    return bool(_NAME.fullmatch(name)) and not keyword.iskeyword(name) and name != "self"


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
