"""Products of the small matrices of each row, in a form that the compiler makes fast."""

from typing import Any

import keras
from keras import ops

from ..types import Tensor

_TERMS = 16
"""Terms of one sum. XLA:CPU unrolls as many and vectorizes them; a sum of 40 takes 2.5 times as long as three of 16."""


def transposed_product(A: Tensor, B: Tensor) -> Tensor:
    """A^T B, a sum over the fields: maps (batch, n, p), or (n, p) for all rows, and (batch, n, q) to (batch, p, q)."""
    if _is_fast_as_sums(B):
        return ops.custom_gradient(_transposed_product_as_sums)(A, B)
    axes = (1, 0) if len(A.shape) == 2 else (0, 2, 1)
    return ops.matmul(ops.transpose(A, axes), B)


def product_transposed(A: Tensor, B: Tensor) -> Tensor:
    """A B^T: maps (batch, n, q) and (batch, p, q) to (batch, n, p)."""
    if _is_fast_as_sums(A):
        return ops.custom_gradient(_product_transposed_with_sums)(A, B)
    return _product_transposed(A, B)


def _product_transposed(A: Tensor, B: Tensor) -> Tensor:
    return ops.matmul(A, ops.transpose(B, (0, 2, 1)))


def _is_fast_as_sums(X: Tensor) -> bool:
    """Whether XLA compiles the present function, for float32 and a known number of fields.

    On a CPU XLA multiplies small matrices one element at a time if the sum runs along the rows of both. As a sum of
    products it is one vectorized loop: the step of 26 fields x 16 takes 0.8 of the time, of 10 x 8 half; on a GPU
    0.94. Without XLA the products would fill memory.
    """
    if keras.backend.backend() != "tensorflow" or X.shape[1] is None:
        return False
    if keras.backend.standardize_dtype(X.dtype) != "float32":
        return False
    import tensorflow as tf
    from tensorflow.python.ops import control_flow_util

    return control_flow_util.GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph())


def _transposed_product_as_sums(A: Tensor, B: Tensor) -> tuple[Tensor, Any]:
    """With the gradients dA = B dC^T, summed over the rows if A is of all rows, and dB = A dC."""
    factors = ops.expand_dims(A, 0) if len(A.shape) == 2 else A

    def gradients(*upstream: Tensor) -> tuple[Tensor, Tensor]:
        (dC,) = upstream
        dA = _product_transposed(B, dC)
        if len(A.shape) == 2:
            return ops.sum(dA, axis=0), ops.sum(ops.expand_dims(factors, -1) * ops.expand_dims(dC, 1), axis=2)
        return dA, ops.matmul(A, dC)

    return _sum_over_fields(factors, B), gradients


def _product_transposed_with_sums(A: Tensor, B: Tensor) -> tuple[Tensor, Any]:
    """With the gradients dA = dC B and dB = dC^T A."""

    def gradients(*upstream: Tensor) -> tuple[Tensor, Tensor]:
        (dC,) = upstream
        return ops.matmul(dC, B), transposed_product(dC, A)

    return _product_transposed(A, B), gradients


def _sum_over_fields(A: Tensor, B: Tensor) -> Tensor:
    num_fields = B.shape[1]
    parts = [slice(start, start + _TERMS) for start in range(0, num_fields, _TERMS)]
    return sum(ops.sum(ops.expand_dims(A[:, part], 3) * ops.expand_dims(B[:, part], 2), axis=1) for part in parts)
