"""The form that XLA compiles for a CPU has the values and gradients of the plain products."""

import numpy as np
import pytest
import tensorflow as tf

from c2al_tf.layers.products import product_transposed, transposed_product

SHAPES = [((4, 5, 3), (4, 5, 2)), ((5, 3), (4, 5, 2)), ((3, 40, 8), (3, 40, 16)), ((33, 2), (2, 33, 1))]
"""Sums of fewer terms, and of more, than are unrolled; factors of each row, and of all rows."""


def random(*shape: int) -> tf.Tensor:
    return tf.constant(np.random.default_rng(shape[0]).normal(size=shape).astype(np.float32))


def value_and_gradients(product, A: tf.Tensor, B: tf.Tensor, jit_compile: bool) -> list[np.ndarray]:
    @tf.function(jit_compile=jit_compile)
    def compute(A: tf.Tensor, B: tf.Tensor):
        with tf.GradientTape() as tape:
            tape.watch((A, B))
            C = product(A, B)
            loss = tf.reduce_sum(tf.sin(C))
        return [C, *tape.gradient(loss, (A, B))]

    return [tensor.numpy() for tensor in compute(A, B)]


@pytest.mark.tensorflow
@pytest.mark.parametrize(("a", "b"), SHAPES)
def test_the_compiled_sum_over_the_fields_is_the_product(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    A, B = random(*a), random(*b)
    plain = value_and_gradients(lambda A, B: tf.matmul(A, B, transpose_a=True), A, B, jit_compile=False)
    for jit_compile in (False, True):
        for ours, expected in zip(value_and_gradients(transposed_product, A, B, jit_compile), plain, strict=True):
            np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.tensorflow
@pytest.mark.parametrize("num_fields", [5, 40])
def test_the_product_with_sums_in_its_gradient_is_the_product(num_fields: int) -> None:
    A, B = random(4, num_fields, 3), random(4, 2, 3)
    plain = value_and_gradients(lambda A, B: tf.matmul(A, B, transpose_b=True), A, B, jit_compile=False)
    for jit_compile in (False, True):
        for ours, expected in zip(value_and_gradients(product_transposed, A, B, jit_compile), plain, strict=True):
            np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.tensorflow
@pytest.mark.parametrize(("dtype", "num_products"), [(tf.float32, 0), (tf.bfloat16, 1)])
def test_sums_stand_for_products_of_float32_under_xla_alone(dtype: tf.DType, num_products: int) -> None:
    """Bfloat16 sums would be rounded between their parts."""
    A, B = tf.cast(random(4, 20, 3), dtype), tf.cast(random(4, 20, 2), dtype)
    compiled = tf.function(transposed_product, jit_compile=True)
    assert compiled.experimental_get_compiler_ir(A, B)(stage="hlo").count(" dot(") == num_products
    plain = tf.function(transposed_product).get_concrete_function(A, B)
    assert [operation.type for operation in plain.graph.get_operations()].count("BatchMatMulV2") == 1


@pytest.mark.tensorflow
def test_a_number_of_fields_that_is_not_known_is_multiplied() -> None:
    specs = [tf.TensorSpec((None, None, 3)), tf.TensorSpec((None, None, 2))]
    compiled = tf.function(transposed_product, input_signature=specs, jit_compile=True)
    A, B = random(4, 5, 3), random(4, 5, 2)
    np.testing.assert_allclose(compiled(A, B), tf.matmul(A, B, transpose_a=True), rtol=1e-5, atol=1e-5)
