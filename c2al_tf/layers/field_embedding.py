"""Embeddings of all fields of a row, gathered from one table."""

from itertools import accumulate
from typing import Any, Self

import keras
from keras import ops

from ..types import Shape, Tensor

MAX_ROWS = 2**31 - 1
"""Largest number of rows that int32 ids can address."""


@keras.saving.register_keras_serializable(package="c2al_tf")
class FieldEmbedding(keras.layers.Layer):
    """Embeds every field of a row: its id from one table for all fields, its scaled value along a direction.

        X[f] = table[offset(f) + id(f)] + value(f) * direction(f)                   single-valued
        X[f] = sum, mean or pooling over ids(f) != 0 of table[offset(f) + id]       multi-valued

    One table means one gather forward and one scatter backward, whatever the number of fields; fields that share a
    vocabulary can share its rows. Padding (id 0 of a multi-valued field) contributes nothing and learns nothing: its
    gradient is zero, and its row belongs to no value. Padding is gathered nevertheless, as shapes are static: a
    `length` far above the usual number of values costs time. Under mixed precision the table stays float32, and only
    the gathered rows are cast.

    Args:
        num_ids: Number of ids of each field, by the name of its input.
        dim: Size of an embedding.
        values: Name of the input that holds a field's scaled value, by field. Fields without a value are left out.
        combiners: `"sum"`, `"mean"` or a layer for every multi-valued field. A layer pools the embeddings of the values
            itself: it maps `{"embeddings": (batch, length, dim), "ids": (batch, length)}` to (batch, dim), as
            `HistoryAttention` does.
        shares: By field the other field whose rows of the table it uses; both have as many ids, with the same meaning.
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
        combiners: dict[str, str | keras.layers.Layer] | None = None,
        shares: dict[str, str] | None = None,
        embeddings_initializer: str = "uniform",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.num_ids = dict(num_ids)
        self.dim = dim
        self.values = dict(values or {})
        self.combiners = dict(combiners or {})
        self.shares = dict(shares or {})
        self.embeddings_initializer = embeddings_initializer
        self._check()
        plain = [name for name in num_ids if name not in self.values and name not in self.combiners]
        self.field_names = [*self.values, *plain, *self.combiners]
        starts, self.num_rows = self._segments()
        self.offsets = [starts[self.shares.get(name, name)] for name in self.field_names]
        self.paddings = {name: self._padding(name, starts) for name in self.combiners}
        if self.num_rows > MAX_ROWS:
            raise ValueError(f"`num_ids` must add up to at most {MAX_ROWS} rows of a table. Received: {self.num_rows}")

    def _segments(self) -> tuple[dict[str, int], int]:
        """First row of each field that has rows of its own, and the number of all rows."""
        starts, num_rows = {}, 0
        for name, size in self.num_ids.items():
            if name not in self.shares:
                starts[name] = num_rows
                num_rows += size + self._has_padding_row(name)
        return starts, num_rows

    def _has_padding_row(self, owner: str) -> bool:
        """Whether id 0 is a value of one field and the padding of another: padding then gets an extra last row."""
        multiple = [name in self.combiners for name in self.num_ids if self.shares.get(name, name) == owner]
        return any(multiple) and not all(multiple)

    def _padding(self, name: str, starts: dict[str, int]) -> int:
        owner = self.shares.get(name, name)
        return starts[owner] + (self.num_ids[owner] if self._has_padding_row(owner) else 0)

    def _check(self) -> None:
        if self.dim < 1:
            raise ValueError(f"`dim` must be at least 1. Received: dim={self.dim}")
        unknown = sorted({*self.values, *self.combiners} - set(self.num_ids))
        if unknown:
            raise ValueError(f"`values` and `combiners` must name fields of `num_ids`. Received: {unknown}")
        both = sorted(set(self.values) & set(self.combiners))
        if both:
            raise ValueError(f"A multi-valued field has no scaled value. Received both for: {both}")
        wrong = {
            name: combiner
            for name, combiner in self.combiners.items()
            if not isinstance(combiner, keras.layers.Layer) and combiner not in ("sum", "mean")
        }
        if wrong:
            raise ValueError(f"`combiners` must be 'sum', 'mean' or a layer. Received: {wrong}")
        self._check_shares()

    def _check_shares(self) -> None:
        for name, owner in self.shares.items():
            if not {name, owner} <= set(self.num_ids) or owner in self.shares:
                raise ValueError(
                    "`shares` must map fields of `num_ids` to other fields that have rows of their own. "
                    f"Received: {name!r} shares {owner!r}"
                )
            if self.num_ids[name] != self.num_ids[owner]:
                raise ValueError(
                    "Fields that share rows must have as many ids. "
                    f"Received: {name}={self.num_ids[name]}, {owner}={self.num_ids[owner]}"
                )

    def build(self, input_shape: dict[str, Shape]) -> None:
        """Creates the table, the directions and the weights of combiners that are layers."""
        self.table = self.add_weight(
            shape=(self.num_rows, self.dim),
            initializer=self.embeddings_initializer,
            autocast=False,
            name="table",
        )
        if self.values:
            self.directions = self.add_weight(
                shape=(len(self.values), self.dim), initializer=self.embeddings_initializer, name="directions"
            )
        for name, combiner in self.combiners.items():
            if not isinstance(combiner, str) and not combiner.built:
                combiner.build({"embeddings": (*input_shape[name], self.dim), "ids": input_shape[name]})

    def call(self, inputs: dict[str, Tensor]) -> Tensor:
        """Maps ids (batch,) or (batch, length) and values (batch,) to (batch, num_fields, dim)."""
        num_single = len(self.field_names) - len(self.combiners)
        # One operation for all single-valued fields: in small batches its overhead exceeds its arithmetic.
        single = [ops.cast(inputs[name], "int32") for name in self.field_names[:num_single]]
        offsets = ops.convert_to_tensor(self.offsets[:num_single], "int32")
        rows = [ops.stack(single, axis=1) + offsets] if single else []
        multiple = [(name, inputs[name]) for name in self.combiners]
        rows += [self._rows(*field, offset) for field, offset in zip(multiple, self.offsets[num_single:], strict=True)]
        rows = ops.concatenate(rows, axis=1) if len(rows) > 1 else rows[0]
        gathered = ops.cast(ops.take(self.table, rows, axis=0), self.compute_dtype)
        # Not slices: the gradient of each would be as large as `gathered`.
        lengths = [num_single, *(block.shape[1] for _, block in multiple)]
        parts = ops.split(gathered, list(accumulate(lengths[:-1])), axis=1) if multiple else [gathered]
        if self.values:
            parts[0] = parts[0] + self._shift(inputs, num_single)
        combined = [
            _combine(part, ids, self.combiners[name]) for part, (name, ids) in zip(parts[1:], multiple, strict=True)
        ]
        fields = [*parts[:1], *combined] if num_single else combined
        return ops.concatenate(fields, axis=1) if len(fields) > 1 else fields[0]

    def _shift(self, inputs: dict[str, Tensor], num_single: int) -> Tensor:
        """value(f) * direction(f) of the single-valued fields, (batch, num_single, dim); 0 where there is none."""
        scaled = ops.stack([ops.cast(inputs[name], self.compute_dtype) for name in self.values.values()], axis=1)
        shift = ops.expand_dims(scaled, -1) * self.directions
        return ops.pad(shift, ((0, 0), (0, num_single - len(self.values)), (0, 0)))

    def _rows(self, name: str, ids: Tensor, offset: int) -> Tensor:
        rows = ops.cast(ids, "int32") + offset
        padding = self.paddings[name]
        return rows if padding == offset else ops.where(ops.equal(ids, 0), padding, rows)

    def compute_output_shape(self, input_shape: dict[str, Shape]) -> Shape:
        """(batch, num_fields, dim)."""
        batch = next(iter(input_shape.values()))[0]
        return (batch, len(self.field_names), self.dim)

    def get_config(self) -> dict[str, Any]:
        """The arguments, with combiners that are layers serialized."""
        return super().get_config() | {
            "num_ids": dict(self.num_ids),
            "dim": self.dim,
            "values": dict(self.values),
            "combiners": {
                name: combiner if isinstance(combiner, str) else keras.saving.serialize_keras_object(combiner)
                for name, combiner in self.combiners.items()
            },
            "shares": dict(self.shares),
            "embeddings_initializer": self.embeddings_initializer,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """The inverse of `get_config`."""
        combiners = {
            name: combiner if isinstance(combiner, str) else keras.saving.deserialize_keras_object(combiner)
            for name, combiner in (config.get("combiners") or {}).items()
        }
        return cls(**config | {"combiners": combiners})


def _combine(embeddings: Tensor, ids: Tensor, combiner: str | keras.layers.Layer) -> Tensor:
    """Maps (batch, length, dim) with its ids (batch, length) to (batch, 1, dim)."""
    if not isinstance(combiner, str):
        return ops.expand_dims(combiner({"embeddings": embeddings, "ids": ids}), 1)
    mask = ops.expand_dims(ops.cast(ops.not_equal(ids, 0), embeddings.dtype), -1)
    total = ops.sum(embeddings * mask, axis=1, keepdims=True)
    if combiner == "sum":
        return total
    return total / ops.maximum(ops.sum(mask, axis=1, keepdims=True), 1)
