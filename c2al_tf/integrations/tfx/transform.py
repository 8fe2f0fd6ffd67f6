"""The graph that tf.Transform wrote, as a function of raw columns that a model's export can hold."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf

from ...data.columns.raw import MISSING
from ...types import Tensor


def load_transform(transform_output: str | Path) -> "Transform":
    """Loads `transform_fn/` of a Transform component's `transform_graph`, by TensorFlow alone.

    Args:
        transform_output: `fn_args.transform_graph_path`, once called `fn_args.transform_output`.

    Raises:
        ValueError: If there is none, or Transform wrote it with `force_tf_compat_v1`.
    """
    folder = f"{transform_output}/transform_fn"
    if not tf.io.gfile.exists(f"{folder}/saved_model.pb"):
        raise ValueError(
            "`transform_output` must be the folder of Transform's `transform_graph`. "
            f"Received: no saved_model.pb in {folder}"
        )
    loaded = tf.saved_model.load(folder)
    if not hasattr(loaded, "transform_fn"):
        raise ValueError(
            "The transform graph must be one of TensorFlow 2: give Transform `force_tf_compat_v1=False`. "
            f"Received: {folder} with the signatures {sorted(loaded.signatures)}"
        )
    return Transform(loaded)


class Transform(tf.Module):
    """A tf.Transform graph; see `load_transform`.

    Called with raw columns by name, it gives the transformed ones that these suffice for: without the label all those
    that the label is no part of. Give it to `export_for_serving` as `preprocess`, with `parsing`.

    Attributes:
        parsing: The raw columns as `tf.io` features: what `tf.io.parse_example` takes for raw rows, the label included.
    """

    def __init__(self, loaded: Any) -> None:
        super().__init__()
        self.loaded = loaded  # It holds the tables.
        traced = getattr(loaded.transform_fn, "concrete_functions", [loaded.transform_fn])[0]
        (self._specs,), _ = traced.structured_input_signature
        self.parsing = {name: _feature(spec) for name, spec in self._specs.items()}
        self._read = _columns_read(traced, self._specs)

    def __call__(self, columns: Mapping[str, Any]) -> dict[str, Tensor]:
        """Maps raw columns to transformed ones, dense or sparse as Transform gave them.

        Args:
            columns: Dense (batch, *shape). Those of variable length are a SparseTensor or dense (batch, most values),
                in which `""`, NaN and the lowest int64 are no values.

        Raises:
            ValueError: If a column is not one of the graph's, or there is none.
        """
        unknown = sorted({*columns} - {*self._specs})
        if unknown or not columns:
            raise ValueError(
                f"`columns` must be raw columns of the graph, {sorted(self._specs)}. Received: {unknown or 'none'}"
            )
        size = tf.shape(next(iter(columns.values())), tf.int64)[0]
        given = {
            name: _as_input(columns[name], spec) if name in columns else _blank(spec, size)
            for name, spec in self._specs.items()
        }
        outputs = self.loaded.transform_fn(given)
        return {name: values for name, values in outputs.items() if self._read[name] <= {*columns}}


def _feature(spec: Any) -> tf.io.FixedLenFeature | tf.io.VarLenFeature:
    if isinstance(spec, tf.TensorSpec):
        return tf.io.FixedLenFeature(spec.shape[1:].as_list(), spec.dtype)
    if isinstance(spec, tf.SparseTensorSpec) and spec.shape.rank == 2:
        return tf.io.VarLenFeature(spec.dtype)
    raise ValueError(f"Raw columns must be dense, or of variable length. Received: {spec}")


def _as_input(values: Any, spec: Any) -> Any:
    if isinstance(spec, tf.TensorSpec) or isinstance(values, tf.SparseTensor):
        return values
    values = tf.convert_to_tensor(values, spec.dtype)
    present = ~tf.math.is_nan(values) if values.dtype.is_floating else values != MISSING[values.dtype.name]
    return tf.ragged.boolean_mask(values, present).to_sparse()


def _blank(spec: Any, size: Tensor) -> Any:
    """A column of zeros or empty strings, one a row where their number is free, as tf.Transform fills in."""
    if isinstance(spec, tf.TensorSpec):
        return tf.zeros([size, *(1 if n is None else n for n in spec.shape[1:])], spec.dtype)
    rows = tf.range(size)
    return tf.SparseTensor(tf.stack([rows, tf.zeros_like(rows)], 1), tf.zeros([size], spec.dtype), [size, 1])


def _columns_read(traced: Any, specs: Mapping[str, Any]) -> dict[str, frozenset[str]]:
    """The raw columns that each output is computed from."""
    placeholders = iter(traced.graph.inputs)
    owner = {
        next(placeholders).name: name
        for name in sorted(specs)  # the order in which TensorFlow flattens a dict
        for _ in tf.nest.flatten(specs[name], expand_composites=True)
    }
    tensors = iter(traced.graph.outputs)
    outputs = traced.structured_outputs
    return {
        name: frozenset(
            owner[source]
            for _ in tf.nest.flatten(outputs[name], expand_composites=True)
            for source in _sources(next(tensors))
            if source in owner
        )
        for name in sorted(outputs)
    }


def _sources(tensor: Any) -> Iterator[str]:
    """Names of the tensors that a tensor of a graph is computed from, itself included."""
    seen, waiting = {tensor.name}, [tensor]
    while waiting:
        following = [each for each in waiting.pop().op.inputs if each.name not in seen]
        seen |= {each.name for each in following}
        waiting += following
    yield from seen
