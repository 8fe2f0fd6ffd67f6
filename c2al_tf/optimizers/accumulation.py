"""Gradients of several batches: of a table the rows, of other variables the sum."""

from typing import Self

import numpy as np
import tensorflow as tf

from ..types import Array, Tensor


class Accumulator:
    """The gradients of one variable over several batches.

    Of a table it holds the rows and values of every occurrence in every batch, and no table.

    Args:
        steps: Number of batches.
        values: What to start from: of a table (steps, N, ...), of other variables of their shape.
        rows: Row of each occurrence, (steps, N); None: the gradient is dense.
    """

    def __init__(self, steps: int, values: Array, rows: Array | None) -> None:
        self.steps = steps
        with tf.init_scope():
            self.values = tf.Variable(values)
            self.rows = None if rows is None else tf.Variable(rows)

    @classmethod
    def like(cls, gradient: Tensor, steps: int, name: str) -> Self:
        """An empty one for gradients like that of the first batch.

        Args:
            gradient: Its kind and number of rows are those of all.
            steps: Number of batches.
            name: The variable, for messages.

        Raises:
            ValueError: If the number of rows is not known before the batch is.
        """
        if not isinstance(gradient, tf.IndexedSlices):
            return cls(steps, np.zeros(gradient.shape, gradient.dtype.as_numpy_dtype), None)
        shape = (steps, *gradient.values.shape)
        if shape[1] is None:
            raise ValueError(
                "`gradient_accumulation_steps` needs batches whose size is known: batch with drop_remainder=True, or "
                f"pad the last one. Received: a gradient of {name} with an unknown number of rows"
            )
        rows = np.zeros(shape[:2], gradient.indices.dtype.as_numpy_dtype)
        return cls(steps, np.zeros(shape, gradient.dtype.as_numpy_dtype), rows)

    def add(self, gradient: Tensor, position: Tensor) -> None:
        """Takes the gradient of the batch at `position`, counted from 0."""
        if self.rows is None:
            self.values.assign(tf.where(position == 0, gradient, self.values + gradient))
            return
        missing = self.rows.shape[1] - gradient.values.shape[0]
        if missing < 0:
            raise ValueError(
                "With `gradient_accumulation_steps` the first batch must be the largest one. Received: "
                f"{gradient.values.shape[0]} rows of {self.values.shape[2:]} after {self.rows.shape[1]}"
            )
        # A smaller batch is filled up with occurrences of its first row that have no gradient.
        rows = tf.concat([gradient.indices, tf.repeat(gradient.indices[:1], missing)], axis=0)
        values = tf.pad(gradient.values, [(0, missing), *[(0, 0)] * (len(gradient.values.shape) - 1)])
        self.rows.scatter_update(tf.IndexedSlices(rows[None], position[None]))
        self.values.scatter_update(tf.IndexedSlices(values[None], position[None]))

    def mean(self) -> Tensor:
        """The mean of the gradients of all batches."""
        mean = self.values / self.steps
        if self.rows is None:
            return mean
        return tf.IndexedSlices(tf.reshape(mean, (-1, *mean.shape[2:])), tf.reshape(self.rows, (-1,)))
