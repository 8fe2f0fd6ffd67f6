"""Columns of an element of `tf.data` as one value per row: dense, sparse or ragged, of a batch or of one row."""

from typing import Any

import tensorflow as tf

from ...types import MISSING_INT, MISSING_STRING


def one_per_row(column: Any, name: str, is_row: bool) -> tf.Tensor:
    """A column (rows,), (rows, 1), or sparse or ragged with at most one value per row, as (rows,) or (rows, 1).

    A row without a value has the missing value of its type.

    Args:
        column: Of a batch, or of one row.
        name: Of the column.
        is_row: Whether it is of one row: a scalar, (1,), or a vector of at most one value.

    Raises:
        ValueError: If it has another shape or an unknown rank, or is sparse and boolean.
        tf.errors.InvalidArgumentError: From the dataset, if a row has two values.
    """
    if column.shape.rank is None:
        raise ValueError(
            f"Column `{name}` must have a known rank: after a function of NumPy set it with `tf.ensure_shape`. "
            f"Received: column `{name}` of unknown rank"
        )
    if is_row:
        column = _batch_of_one(column)
    if isinstance(column, tf.RaggedTensor):
        if column.shape.rank != 2:
            raise ValueError(_rule(name, column))
        column = column.to_sparse()
    return _dense(column, name) if isinstance(column, tf.SparseTensor) else column


def _batch_of_one(column: Any) -> Any:
    if isinstance(column, tf.SparseTensor):
        return tf.sparse.expand_dims(column, 0)
    if isinstance(column, tf.Tensor) and column.shape.rank == 1 and column.shape[0] != 1:
        return tf.RaggedTensor.from_tensor(column[tf.newaxis])  # how a ragged feature of one tf.Example is parsed
    return column[tf.newaxis]


def _dense(column: tf.SparseTensor, name: str) -> tf.Tensor:
    """Sparse (rows,) or (rows, anything) as dense (rows,)."""
    if column.shape.rank not in (1, 2):
        raise ValueError(_rule(name, column))
    if column.dtype.is_bool:
        raise ValueError(
            f"Column `{name}` must be of integers, floats or strings to lack a value: booleans have none for a missing "
            f"one. Received: {column.dtype.name}, sparse or ragged"
        )
    values = tf.cast(column.values, tf.int64) if column.dtype.is_integer else column.values
    missing = MISSING_STRING if values.dtype == tf.string else MISSING_INT if values.dtype.is_integer else float("nan")
    rows = column.indices[:, 0]
    one_each = tf.debugging.Assert(tf.reduce_all(rows[1:] > rows[:-1]), [_rule(name, column)])
    with tf.control_dependencies([one_each]):
        in_rows = tf.SparseTensor(rows[:, tf.newaxis], values, column.dense_shape[:1])
    dense = tf.sparse.to_dense(in_rows, default_value=missing, validate_indices=False)
    return tf.ensure_shape(dense, column.shape[:1])


def _rule(name: str, column: Any) -> str:
    return (
        f"Column `{name}` must have at most one value per row; multi-valued columns are not cut. "
        f"Received: column `{name}` of shape {tuple(column.shape)}"
    )
