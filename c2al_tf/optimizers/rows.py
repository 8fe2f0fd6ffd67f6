"""The gradient of a table's rows from the gradients of their occurrences in a batch, without a sort.

Memory traffic bounds an update. For each of the N occurrences it reads the gradient, writes and reads back the sum, and
reads and writes the rows of the table and its states, each a cache line anywhere in memory. For row-wise Adagrad,
N = 106,496 and 16 dims of float32 this is an estimated 95 MB with the intermediate values that XLA keeps. It takes
about 4 ms of a step of 14 ms on two cores at 5 M rows, some 25 GB/s. XLA's scatter is one loop on one core, about 10 ns
a row in cache and 15 ns out of it; the other operations use all cores.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import tensorflow as tf

from ..types import Tensor


class Gradient(NamedTuple):
    """The gradient of a variable, or of the rows of it that a batch touched.

    All occurrences of a row hold the same values. Each of them may therefore write the updated row back, in any order.
    """

    total: Tensor
    """The sum over all occurrences of the row: (N, ...) for N `rows`, else of the variable's shape."""
    squares: Tensor | None
    """The sum of the squares of the occurrences; None: the square of the sum."""
    squared_norm: Tensor
    """Squared norm of the sums, each row counted once, ()."""
    rows: Tensor | None = None
    """Row of each occurrence, (N,); None: `total` is of all rows."""
    touched: Tensor | None = None
    """Which of all V rows occur, (V, 1, ...); None: all of them."""
    scratch: Tensor | None = None
    """The values of the scratch at `rows` before it was overwritten, (N, ...)."""

    def scaled(self, factor: Tensor) -> "Gradient":
        """The gradient times a number."""
        squares = None if self.squares is None else self.squares * factor**2
        return self._replace(total=self.total * factor, squares=squares)


Rule: TypeAlias = Callable[[Tensor, Sequence[Tensor], Tensor, Tensor, Tensor], tuple[Tensor, Sequence[Tensor]]]
"""Maps weight, states, gradient, squares and learning rate to the new weight and states, row by row."""


def summed(gradient: Tensor, scratch: tf.Variable, keep_squares: bool) -> Gradient:
    """The gradient of a variable, sparse or dense; see `sum_rows`."""
    if isinstance(gradient, tf.IndexedSlices):
        return sum_rows(gradient, scratch, keep_squares)
    return dense(tf.cast(gradient, scratch.dtype))


def dense(gradient: Tensor) -> Gradient:
    """The gradient of a whole variable."""
    return Gradient(gradient, None, tf.reduce_sum(tf.square(gradient)))


def update(
    gradient: Gradient, variable: tf.Variable, states: Sequence[tf.Variable], rule: Rule, learning_rate: Tensor
) -> None:
    """Applies a rule to the rows that the gradient is of, and to their states; the first of them was its scratch."""
    slots = [variable, *states]
    if gradient.rows is None:
        old = [tf.convert_to_tensor(slot) for slot in slots]
    else:
        old = [tf.gather(variable, gradient.rows), gradient.scratch]
        old += [tf.gather(state, gradient.rows) for state in states[1:]]
    total, squares = gradient.total, gradient.squares
    squares = tf.square(total) if squares is None else squares
    weight, new_states = rule(
        tf.cast(old[0], total.dtype), old[1:], total, squares, tf.cast(learning_rate, total.dtype)
    )
    for slot, before, after in zip(slots, old, [tf.cast(weight, variable.dtype), *new_states], strict=True):
        if gradient.rows is not None:
            slot.scatter_update(tf.IndexedSlices(after, gradient.rows))
        elif gradient.touched is not None:
            slot.assign(tf.where(gradient.touched, after, before))
        else:
            slot.assign(after)


def sum_rows(slices: tf.IndexedSlices, scratch: tf.Variable, keep_squares: bool) -> Gradient:
    """Sums the occurrences of every row.

    A table with no more rows than the batch has occurrences is summed as a whole. In a larger one each occurrence
    writes its own number to its row of the scratch. One of the numbers remains there, and all occurrences of the row
    read it: it is their representative, at which the sum is formed. So no intermediate value has the size of the table,
    and the scratch needs no reset.

    Args:
        slices: Rows (N,) and values (N, ...). Any row may occur any number of times.
        scratch: A state of the table, never negative, (V, ...), float32 or float64. It is overwritten at the rows.
        keep_squares: Whether to sum the squares of the occurrences as well.
    """
    rows, values = tf.reshape(slices.indices, (-1,)), tf.cast(slices.values, scratch.dtype)
    squares = tf.square(values) if keep_squares else None
    num_rows, num_occurrences = scratch.shape[0], rows.shape[0]
    if num_occurrences is not None and num_rows <= num_occurrences:
        return _sum_table(rows, values, squares, num_rows)
    held, representatives = _representatives(rows, scratch)
    total = _sum_occurrences(values, representatives)
    return Gradient(
        total,
        None if squares is None else _sum_occurrences(squares, representatives),
        tf.reduce_sum(values * total),
        rows=rows,
        scratch=held,
    )


def _sum_table(rows: Tensor, values: Tensor, squares: Tensor | None, num_rows: int) -> Gradient:
    total = tf.math.unsorted_segment_sum(values, rows, num_rows)
    occurrences = tf.math.unsorted_segment_sum(tf.ones_like(rows), rows, num_rows)
    return Gradient(
        total,
        None if squares is None else tf.math.unsorted_segment_sum(squares, rows, num_rows),
        tf.reduce_sum(tf.square(total)),
        touched=tf.reshape(occurrences > 0, (num_rows, *[1] * (len(values.shape) - 1))),
    )


def _representatives(rows: Tensor, scratch: tf.Variable) -> tuple[Tensor, Tensor]:
    """The scratch at `rows`, (N, ...), and by occurrence the number of one occurrence of the same row, (N,)."""
    integer = tf.int32 if scratch.dtype == tf.float32 else tf.int64
    held = tf.gather(scratch, rows)
    numbers = tf.bitcast(tf.range(tf.size(rows, integer), dtype=integer), scratch.dtype)
    numbers = tf.reshape(numbers, (-1, *[1] * (len(held.shape) - 1)))
    # No held value is negative: the condition only orders the write after the read. Without it XLA copies the scratch.
    scratch.scatter_update(tf.IndexedSlices(tf.where(held < 0, held, numbers), rows))
    written = tf.reshape(tf.gather(scratch, rows), (tf.size(rows), -1))[:, 0]
    return held, tf.bitcast(written, integer)


def _sum_occurrences(values: Tensor, representatives: Tensor) -> Tensor:
    """For each occurrence the sum over all occurrences with the same representative, (N, ...)."""
    size = tf.size(representatives, representatives.dtype)
    is_own = representatives == tf.range(size, dtype=representatives.dtype)
    # A representative's own value needs no scatter, XLA's slowest operation: segment -1 is ignored.
    others = tf.math.unsorted_segment_sum(values, tf.where(is_own, -1, representatives), size)
    own = tf.where(tf.reshape(is_own, (-1, *[1] * (len(values.shape) - 1))), values, 0)
    return tf.gather(own + others, representatives)
