import keras
import numpy as np
import pytest

from c2al_tf.optimizers import RowWiseAdagrad


def rule(weight, states, total, squares, step):
    accumulator = states[0] + squares.mean()
    return weight - 0.1 / np.sqrt(accumulator + 1e-7) * total, [accumulator]


def test_200_steps_with_duplicates(check_rule, duplicates, jit_compile) -> None:
    check_rule(RowWiseAdagrad(0.1, duplicates=duplicates), rule, jit_compile)


def test_a_table_has_one_float_per_row_and_other_variables_one_each() -> None:
    optimizer = RowWiseAdagrad()
    optimizer.build([keras.Variable(np.zeros(shape), dtype="float32") for shape in [(50, 8), (8,), (2, 3, 4)]])
    states = [variable for variable in optimizer.variables if "accumulator" in variable.name]
    assert [tuple(state.shape) for state in states] == [(50, 1), (8,), (2, 3, 4)]
    assert {state.dtype for state in states} == {"float32"}


def test_a_dense_gradient_of_rank_2_has_the_rule_in_every_row() -> None:
    rng = np.random.default_rng(0)
    kernel, gradient = rng.normal(size=(3, 4)), rng.normal(size=(3, 4))
    variable, optimizer = keras.Variable(kernel, dtype="float32"), RowWiseAdagrad(0.1)
    optimizer.apply([keras.ops.convert_to_tensor(gradient, "float32")], [variable])
    for row in range(3):
        weight, _ = rule(kernel[row], [0.1], gradient[row], gradient[row] ** 2, 1)
        np.testing.assert_allclose(variable.numpy()[row], weight, rtol=1e-5)


@pytest.mark.parametrize("shape", [(), (3,), (3, 2, 2)])
def test_other_ranks_have_keras_adagrad(shape) -> None:
    start, gradient = np.full(shape, 2.0), keras.ops.full(shape, 0.5)
    ours, keras_s = keras.Variable(start, dtype="float32"), keras.Variable(start, dtype="float32")
    RowWiseAdagrad(0.1).apply([gradient], [ours])
    keras.optimizers.Adagrad(0.1).apply([gradient], [keras_s])
    np.testing.assert_array_equal(ours, keras_s)


def test_by_hand() -> None:
    """Row 1 occurs as (1, 0) and (2, 4): the sum (3, 4) has mean square 12.5, the two have 0.5 + 10."""
    import tensorflow as tf

    for duplicates, accumulator in (("sum", 12.5), ("each", 10.5)):
        table = keras.Variable(np.zeros((9, 2)), dtype="float32")
        optimizer = RowWiseAdagrad(1.0, 0.0, 0.0, duplicates)
        slices = tf.IndexedSlices(tf.constant([[1.0, 0.0], [2.0, 4.0]]), tf.constant([1, 1]), (9, 2))
        optimizer.apply([slices], [table])
        np.testing.assert_allclose(table.numpy()[1], [-3 / accumulator**0.5, -4 / accumulator**0.5], rtol=1e-6)
