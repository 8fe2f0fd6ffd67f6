"""How gradients of tasks are put together: in vectors, and by their inner products."""

import itertools

import keras
import numpy as np
import pytest

from c2al_tf.losses import weighted_sum_of_tasks
from c2al_tf.objectives import PCGrad, ProjectedTasks

LABELS = {task: np.array([[1.0], [0.0], [0.0], [1.0]], "float32") for task in ("primary", "tail")}
LOGITS = {task: np.array([[0.3], [-1.0], [2.0], [0.5]], "float32") for task in LABELS}
WEIGHTS = np.array([1.0, 2.0, 0.5, 0.0], "float32")


def test_two_tasks_in_conflict() -> None:
    """(1, 0) and (-1, 1): the first keeps what is orthogonal to the second, (1/2, 1/2), the second (0, 1)."""
    g = np.array([[1.0, 0.0], [-1.0, 1.0]], "float32")
    coefficients = np.array(PCGrad({}).combine(keras.ops.convert_to_tensor(g @ g.T)))
    np.testing.assert_allclose(coefficients @ g, [0.5, 1.5], rtol=1e-6)


def test_tasks_that_agree_are_added() -> None:
    g = np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 2.0]], "float32")
    np.testing.assert_array_equal(PCGrad({}).combine(keras.ops.convert_to_tensor(g @ g.T)), np.ones(3))


def by_the_paper(g: np.ndarray, task: int, order: tuple[int, ...]) -> np.ndarray:
    """Algorithm 1 in vectors."""
    own = g[task].copy()
    for other in order:
        if own @ g[other] < 0:
            own -= own @ g[other] / (g[other] @ g[other]) * g[other]
    return own


def test_of_three_tasks_it_is_the_mean_over_all_orders() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        g = rng.normal(size=(3, 4))
        expected = 0.0
        for task in range(3):
            orders = list(itertools.permutations({0, 1, 2} - {task}))
            expected += sum(by_the_paper(g, task, order) for order in orders) / len(orders)
        coefficients = np.array(PCGrad({}).combine(keras.ops.convert_to_tensor((g @ g.T).astype("float32"))))
        np.testing.assert_allclose(coefficients @ g, expected, rtol=1e-4, atol=1e-5)


def test_a_task_without_gradient_changes_nothing() -> None:
    g = np.array([[1.0, 0.0], [0.0, 0.0]], "float32")
    coefficients = np.array(PCGrad({}).combine(keras.ops.convert_to_tensor(g @ g.T)))
    np.testing.assert_array_equal(coefficients @ g, g[0])


def test_terms_add_up_to_the_loss() -> None:
    for objective in (weighted_sum_of_tasks({"tail": 0.3}), ProjectedTasks({"tail": 0.3}, "parallel")):
        loss, losses = objective(LABELS, LOGITS, WEIGHTS)
        terms = objective.terms(LABELS, LOGITS, WEIGHTS)
        np.testing.assert_allclose(terms["tail"], 0.3 * losses["tail"], rtol=1e-6)
        np.testing.assert_array_equal(sum(terms.values()), loss)


def test_a_lambda_that_is_a_variable() -> None:
    scale = keras.Variable(0.3)
    objective = weighted_sum_of_tasks({"tail": scale})
    for value in (0.3, 2.0):
        scale.assign(value)
        expected, _ = weighted_sum_of_tasks({"tail": value})(LABELS, LOGITS, WEIGHTS)
        np.testing.assert_array_equal(objective(LABELS, LOGITS, WEIGHTS)[0], expected)


def test_a_part_that_is_none() -> None:
    with pytest.raises(ValueError, match="`part` must be 'parallel' or 'orthogonal'. Received: part='half'"):
        ProjectedTasks({}, "half")
