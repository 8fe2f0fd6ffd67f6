"""Weights of tasks that are learnt: one step by hand, and where they rest."""

import numpy as np
import pytest

from c2al_tf.objectives import UncertaintyWeighting

TASKS = ("primary", "tail")
LABELS = {"primary": np.array([[1.0], [0.0], [0.0]], "float32"), "tail": np.array([[1.0], [0.0], [0.0]], "float32")}
LOGITS = {"primary": np.array([[0.0], [0.0], [0.0]], "float32"), "tail": np.array([[3.0], [-3.0], [9.0]], "float32")}
WEIGHTS = np.array([1.0, 3.0, 0.0], "float32")
LOSSES = np.array([np.log(2), np.log1p(np.exp(-3))])  # the third row has weight 0


def test_a_step_by_hand() -> None:
    """Both weights begin with 1; s moves by -eta (1/2 - exp(-s) L)."""
    objective = UncertaintyWeighting(TASKS, eta=0.1)
    loss, by_task = objective(LABELS, LOGITS, WEIGHTS)
    np.testing.assert_allclose([by_task[task] for task in TASKS], LOSSES, rtol=1e-5)
    np.testing.assert_allclose(loss, LOSSES.sum(), rtol=1e-5)
    objective.update(objective.statistics(LABELS, LOGITS, WEIGHTS))
    s = -0.1 * (0.5 - LOSSES)
    np.testing.assert_allclose(objective.log_variance, s, rtol=1e-5)
    np.testing.assert_allclose(objective(LABELS, LOGITS, WEIGHTS)[0], np.sum(np.exp(-s) * LOSSES + s / 2), rtol=1e-5)


def test_weights_rest_where_each_task_counts_one_half() -> None:
    objective = UncertaintyWeighting(TASKS, eta=0.5)
    for _ in range(200):
        objective.update(objective.statistics(LABELS, LOGITS, WEIGHTS))
    np.testing.assert_allclose(np.exp(-np.array(objective.log_variance)) * LOSSES, [0.5, 0.5], rtol=1e-4)


def test_a_batch_without_weight_moves_nothing() -> None:
    objective = UncertaintyWeighting(TASKS)
    objective.update(objective.statistics(LABELS, LOGITS, np.zeros(3, "float32")))
    np.testing.assert_array_equal(objective.log_variance, [0.0, 0.0])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: UncertaintyWeighting("primary"), "`tasks` must be names, at least one. Received: 'primary'"),
        (lambda: UncertaintyWeighting(TASKS, eta=0.0), "`eta` must be positive. Received: eta=0.0"),
        (lambda: UncertaintyWeighting(["primary"])(LABELS, LOGITS, WEIGHTS), "`tasks` must be the model's outputs"),
    ],
)
def test_wrong_arguments(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
