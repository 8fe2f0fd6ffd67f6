"""How an export turns raw columns into what the model reads: by a schema, or as the model's team does it."""

from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ..data.columns.raw import MISSING, as_raw
from ..data.columns.wire import to_examples
from ..data.inputs.features import FeatureEncoder
from ..form import inputs_of
from ..schema import Schema
from ..training.batches import inputs_of_batch
from ..types import MISSING_INT, Array, Columns, Tensor

Encode = Callable[[Mapping[str, Tensor]], Any]
"""Maps raw columns by name to what the model reads."""


@dataclass(frozen=True)
class Reading:
    """What an export takes, and how it becomes what the model reads.

    Args:
        specs: The raw columns by name, (batch, ...).
        encode: Maps them to what the model reads.
        parse: Maps serialized tf.Examples (batch,) to the raw columns.
        write: Writes raw columns as serialized tf.Examples, the inverse of `parse`.
        schema: The schema, if it decides all this.
        owner: What holds the tables of `encode`, beside the model.
    """

    specs: Mapping[str, tf.TensorSpec]
    encode: Encode
    parse: Callable[[Tensor], Mapping[str, Tensor]]
    write: Callable[[Columns], list[bytes]]
    schema: Schema | None = None
    owner: Any = None

    def columns(self, sample: Columns) -> dict[str, Array]:
        """The raw columns of a sample, in the dtypes and shapes of `specs`.

        Raises:
            ValueError: If a column is missing, has other rows, or cannot be held by its dtype.
        """
        missing = [name for name in self.specs if name not in sample]
        sizes = {len(sample[name]) for name in self.specs if name in sample}
        if missing or len(sizes) != 1 or 0 in sizes:
            raise ValueError(
                "`sample` must have a column of each input, all with as many rows, at least one. "
                f"Received: columns of {sorted(sizes)} rows, without {missing}"
            )
        if self.schema:
            return {f.name: as_raw(sample[f.name], f.column, "sample") for f in self.schema.features}
        return {name: _in_form(name, sample[name], spec) for name, spec in self.specs.items()}


def by_schema(schema: Schema) -> Reading:
    """Raw columns as `schema` describes them, encoded as it says."""
    encoder = FeatureEncoder(schema)
    columns = {feature.name: feature.column for feature in schema.features}
    first, spec = next(iter(encoder.raw_specs.items()))

    def encode(raw: Mapping[str, Tensor]) -> Any:
        # A model of one feature may take a request of another rank; several are joined, and must have one.
        return encoder({**raw, first: tf.ensure_shape(raw[first], spec.shape)})

    return Reading(
        encoder.raw_specs, encode, encoder.parse_examples, lambda rows: to_examples(rows, columns), schema, encoder
    )


def by_model(
    model: keras.Model, sample: Columns, preprocess: Encode | None, parsing: Mapping[str, Any] | None = None
) -> Reading:
    """Raw columns as the model reads them itself, or as `preprocess` does.

    A functional model's own inputs say names, dtypes and shapes; for a subclass, or before `preprocess`, the columns of
    `sample` do, float64 as float32. One that `parsing` says to be of variable length has any number of values a row.
    """
    functional = (
        preprocess is None and isinstance(model, keras.Function | keras.Sequential) and hasattr(model, "inputs")
    )
    specs = _input_specs(model) if functional else {name: _spec_of(name, column) for name, column in sample.items()}
    optional = {name: x for name, x in (parsing or {}).items() if name in specs and isinstance(x, tf.io.VarLenFeature)}
    specs |= {name: tf.TensorSpec((None, None), x.dtype, name) for name, x in optional.items()}
    read = preprocess or (_as_inputs(model) if functional else dict)

    def encode(columns: Mapping[str, Tensor]) -> Any:
        # A request of another rank is refused here: a reshape in the model would take it.
        return inputs_of_batch(read({n: tf.ensure_shape(columns[n], spec.shape) for n, spec in specs.items()}), model)

    stored = {name: tf.io.FixedLenFeature(spec.shape[1:], _stored_as(spec.dtype)) for name, spec in specs.items()}
    stored |= {
        name: tf.io.FixedLenSequenceFeature([], x.dtype, allow_missing=True, default_value=MISSING[x.dtype.name])
        for name, x in optional.items()
    }

    def parse(examples: Tensor) -> dict[str, Tensor]:
        columns = tf.io.parse_example(examples, stored)
        return {name: tf.cast(columns[name], spec.dtype) for name, spec in specs.items()}

    return Reading(specs, encode, parse, lambda rows: list(_examples(rows, specs, optional)), owner=preprocess)


def _input_specs(model: keras.Model) -> dict[str, tf.TensorSpec]:
    inputs = inputs_of(model)
    named = inputs if _is_flat(inputs) else {x.name: x for x in keras.tree.flatten(inputs)}
    # A Sequential that was built by a call has that batch's size.
    return {name: tf.TensorSpec((None, *x.shape[1:]), x.dtype, name) for name, x in named.items()}


def _as_inputs(model: keras.Model) -> Encode:
    inputs = inputs_of(model)
    if _is_flat(inputs):
        return dict
    return lambda columns: keras.tree.map_structure(lambda x: columns[x.name], inputs)


def _is_flat(inputs: Any) -> bool:
    """Whether these are tensors by name; those of a nested dict, as of a list, have the names of the tensors."""
    return isinstance(inputs, Mapping) and all(keras.backend.is_keras_tensor(x) for x in inputs.values())


def _spec_of(name: str, column: Any) -> tf.TensorSpec:
    values = np.asarray(column)
    if values.dtype.kind not in "OUSTbiuf":
        raise ValueError(f"Column `{name}` of `sample` must hold numbers or strings. Received: dtype {values.dtype}")
    kinds = {"f": "float32" if values.dtype == np.float64 else values.dtype.name}
    kinds |= dict.fromkeys("OUST", "string")
    return tf.TensorSpec((None, *values.shape[1:]), kinds.get(values.dtype.kind, values.dtype.name), name)


def _in_form(name: str, column: Any, spec: tf.TensorSpec) -> Array:
    values = np.asarray(column)
    wanted = np.dtype(object) if spec.dtype == tf.string else np.dtype(spec.dtype.as_numpy_dtype)
    text = values.dtype.kind in "OUST"
    alike = text if spec.dtype == tf.string else not text and np.can_cast(values.dtype, wanted, "same_kind")
    if not alike or not spec.shape.is_compatible_with(values.shape):
        raise ValueError(
            f"Column `{name}` of `sample` must be {spec.dtype.name} of shape {spec.shape}. "
            f"Received: {values.dtype} of shape {values.shape}"
        )
    if spec.dtype.is_integer:
        _check_range(name, values, spec.dtype)
    values = values.astype(wanted, copy=False)
    if strange := [x for x in values.ravel().tolist() if not isinstance(x, str | bytes)] if text else []:
        raise ValueError(f"Column `{name}` of `sample` must hold strings. Received: {strange[0]!r}")
    return values


def _check_range(name: str, values: Array, held: tf.DType) -> None:
    for value in (int(values.min(initial=0)), int(values.max(initial=0))):
        if not held.min <= value <= held.max:
            raise ValueError(
                f"Column `{name}` of `sample` must hold what {held.name} can, {held.min} to {held.max}. "
                f"Received: {value}"
            )


def _stored_as(dtype: tf.DType) -> tf.DType:
    """What a tf.Example holds: bytes, float32 or int64."""
    return tf.string if dtype == tf.string else tf.float32 if dtype.is_floating else tf.int64


def _examples(columns: Columns, specs: Mapping[str, tf.TensorSpec], optional: Container[str]) -> Iterator[bytes]:
    kinds = {tf.string: "bytes_list", tf.float32: "float_list", tf.int64: "int64_list"}
    for row in range(len(next(iter(columns.values())))):
        example = tf.train.Example()
        for name, spec in specs.items():
            values = [x.encode() if isinstance(x, str) else x for x in np.ravel(columns[name][row]).tolist()]
            if name in optional:
                values = [x for x in values if x not in (b"", MISSING_INT) and x == x]  # NaN differs from itself
            getattr(example.features.feature[name], kinds[_stored_as(spec.dtype)]).value.extend(values)
        yield example.SerializeToString()
