import keras
import numpy as np
import pytest
import tensorflow as tf

from c2al_tf.losses import weighted_sum_of_tasks
from c2al_tf.training import compile_step
from c2al_tf.training.step import compile_steps

BATCH, STEPS = 8, 3  # XLA takes as many times as long for as many steps in one call


@pytest.fixture
def make():
    """A model and its compiled step, each time from the same start."""

    def make(num_steps=1, **arguments):
        keras.utils.set_random_seed(0)
        ids = keras.Input((3,), dtype="int32", name="ids")
        h = keras.layers.Flatten()(keras.layers.Embedding(9, 4)(ids))
        h = keras.layers.Dropout(0.3)(h)
        model = keras.Model({"ids": ids}, {"primary": keras.layers.Dense(1)(h)})
        model.compile(keras.optimizers.Adam(0.01))
        return model, compile_steps(compile_step(model, weighted_sum_of_tasks(), **arguments), num_steps)

    return make


@pytest.fixture
def batches():
    """Stacked batches, (steps, batch, ...)."""
    rng = np.random.default_rng(0)
    x = {"ids": rng.integers(0, 9, (STEPS, BATCH, 3)).astype("int32")}
    y = {"primary": rng.integers(0, 2, (STEPS, BATCH, 1)).astype("float32")}
    return tf.nest.map_structure(tf.constant, (x, y, rng.random((STEPS, BATCH)).astype("float32")))


@pytest.mark.parametrize("jit_compile", [True, False])
def test_many_steps_in_one_call_are_those_steps(make, batches, jit_compile) -> None:
    one, step = make(jit_compile=jit_compile)
    results = [step(*tf.nest.map_structure(lambda values, i=i: values[i], batches)) for i in range(STEPS)]
    many, steps = make(STEPS, jit_compile=jit_compile)
    losses, sums = steps(*batches)
    np.testing.assert_array_equal(losses, [loss for loss, _ in results])
    np.testing.assert_array_equal(sums["primary"], [by_task["primary"] for _, by_task in results])
    assert losses.shape == (STEPS,)
    for a, b in zip(one.variables + one.optimizer.variables, many.variables + many.optimizer.variables, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_step_is_one_xla_program(make, batches) -> None:
    """Forward, backward, update and sums: nothing but one compiled call, and what it reads and writes."""
    model, step = make()
    batch = tf.nest.map_structure(lambda values: values[0], batches)
    hlo = step.experimental_get_compiler_ir(*batch)(stage="hlo")
    assert hlo.count("ENTRY") == 1
    result = next(line for line in hlo.splitlines() if "ENTRY" in line).split("->")[1]
    # Loss and sums, and a new value of each variable that a step changes: weights, dropout's seed, Adam's state.
    changed = len(model.trainable_variables) * 3 + 2
    assert result.count("[") == 2 + changed


def test_sums_are_of_the_rows_with_weight(make, batches) -> None:
    """Property 8: by hand, and a row of weight 0 adds nothing."""
    model, step = make()
    variables = [*model.variables, *model.optimizer.variables]
    start = [np.array(variable) for variable in variables]
    x, y, weight = tf.nest.map_structure(lambda values: values[0], batches)
    weight = tf.tensor_scatter_nd_update(weight, [[0]], [0.0])
    _, sums = step(x, y, weight)
    expected = np.array([np.sum(weight * y["primary"][:, 0]), np.sum(weight)])
    np.testing.assert_allclose(sums["primary"][1:], expected, rtol=1e-6)
    for variable, value in zip(variables, start, strict=True):
        variable.assign(value)
    changed = {"ids": tf.tensor_scatter_nd_update(x["ids"], [[0]], [[8, 8, 8]])}
    _, others = step(changed, y, weight)
    np.testing.assert_array_equal(sums["primary"], others["primary"])
