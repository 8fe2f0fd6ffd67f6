"""Embeddings of all fields of a row, gathered from one table."""

from typing import Any

import keras
from keras import ops

from ..types import Shape, Tensor


@keras.saving.register_keras_serializable(package="c2al_tf")
class FieldEmbedding(keras.layers.Layer):
    """Embeds every field of a row: its id from one table for all fields, its scaled value along a direction.

        X[f] = table[offset(f) + id(f)] + value(f) * direction(f)          single-valued
        X[f] = sum or mean over ids(f) != 0 of table[offset(f) + id]       multi-valued

    One table means one gather forward and one scatter backward, whatever the number of fields. Padding (id 0 of a
    multi-valued field) contributes nothing and learns nothing. The table stays float32 under mixed precision, where
    only the gathered rows are cast.

    Args:
        num_ids: Number of ids of each field, by the name of its input.
        dim: Size of an embedding.
        values: Name of the input that holds a field's scaled value, by field. Fields without one are not named.
        combiners: `"sum"` or `"mean"` for every multi-valued field.
        embeddings_initializer: Initializer of the table and the directions.

    Attributes:
        field_names: The fields in the order of the output: those with a value, other single-valued ones, then
            multi-valued ones.
    """

    def __init__(
        self,
        num_ids: dict[str, int],
        dim: int,
        values: dict[str, str] | None = None,
        combiners: dict[str, str] | None = None,
        embeddings_initializer: str = "uniform",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.num_ids = dict(num_ids)
        self.dim = dim
        self.values = dict(values or {})
        self.combiners = dict(combiners or {})
        self.embeddings_initializer = embeddings_initializer
        self._check()
        plain = [name for name in num_ids if name not in self.values and name not in self.combiners]
        self.field_names = [*self.values, *plain, *self.combiners]
        starts = dict(zip(num_ids, _running_total(list(num_ids.values())), strict=True))
        self.offsets = [starts[name] for name in self.field_names]

    def _check(self) -> None:
        if self.dim < 1:
            raise ValueError(f"`dim` must be at least 1. Received: dim={self.dim}")
        unknown = sorted({*self.values, *self.combiners} - set(self.num_ids))
        if unknown:
            raise ValueError(f"`values` and `combiners` must name fields of `num_ids`. Received: {unknown}")
        both = sorted(set(self.values) & set(self.combiners))
        if both:
            raise ValueError(f"A multi-valued field has no scaled value. Received both for: {both}")
        wrong = {name: combiner for name, combiner in self.combiners.items() if combiner not in ("sum", "mean")}
        if wrong:
            raise ValueError(f"`combiners` must be 'sum' or 'mean'. Received: {wrong}")

    def build(self, input_shape: dict[str, Shape]) -> None:
        """Creates the table and the directions."""
        self.table = self.add_weight(
            shape=(sum(self.num_ids.values()), self.dim),
            initializer=self.embeddings_initializer,
            autocast=False,
            name="table",
        )
        if self.values:
            self.directions = self.add_weight(
                shape=(len(self.values), self.dim), initializer=self.embeddings_initializer, name="directions"
            )

    def call(self, inputs: dict[str, Tensor]) -> Tensor:
        """Maps ids (batch,) or (batch, length) and values (batch,) to (batch, num_fields, dim)."""
        num_single = len(self.field_names) - len(self.combiners)
        ids = [ops.expand_dims(inputs[name], 1) for name in self.field_names[:num_single]]
        ids += [inputs[name] for name in self.combiners]
        lengths = [block.shape[1] for block in ids]
        rows = ops.concatenate(
            [ops.cast(block, "int32") + offset for block, offset in zip(ids, self.offsets, strict=True)], axis=1
        )
        gathered = ops.cast(ops.take(self.table, rows, axis=0), self.compute_dtype)
        fields = [gathered[:, :num_single]]
        if self.values:
            scaled = ops.stack([ops.cast(inputs[name], self.compute_dtype) for name in self.values.values()], axis=1)
            shift = ops.expand_dims(scaled, -1) * self.directions
            fields[0] = ops.concatenate(
                [gathered[:, : len(self.values)] + shift, gathered[:, len(self.values) : num_single]], axis=1
            )
        start = num_single
        for combiner, block, length in zip(
            self.combiners.values(), ids[num_single:], lengths[num_single:], strict=True
        ):
            fields.append(_combine(gathered[:, start : start + length], block, combiner))
            start += length
        return ops.concatenate(fields, axis=1) if len(fields) > 1 else fields[0]

    def compute_output_shape(self, input_shape: dict[str, Shape]) -> Shape:
        """(batch, num_fields, dim)."""
        batch = next(iter(input_shape.values()))[0]
        return (batch, len(self.field_names), self.dim)


def _combine(embeddings: Tensor, ids: Tensor, combiner: str) -> Tensor:
    """Maps (batch, length, dim) with its ids (batch, length) to (batch, 1, dim)."""
    mask = ops.expand_dims(ops.cast(ops.not_equal(ids, 0), embeddings.dtype), -1)
    total = ops.sum(embeddings * mask, axis=1, keepdims=True)
    if combiner == "sum":
        return total
    return total / ops.maximum(ops.sum(mask, axis=1, keepdims=True), 1)


def _running_total(sizes: list[int]) -> list[int]:
    starts = [0]
    for size in sizes[:-1]:
        starts.append(starts[-1] + size)
    return starts
