import numpy as np
import pytest
import tensorflow as tf

from c2al_tf.losses import binary_cross_entropy, weighted_mean, weighted_sum_of_tasks

LABELS = {"primary": np.array([[1.0], [0.0], [1.0]]), "tail": np.array([[1.0], [0.0], [0.0]])}
LOGITS = {"primary": np.array([[0.3], [-1.0], [2.0]]), "tail": np.array([[-0.5], [0.1], [-3.0]])}


def reference(y: np.ndarray, z: np.ndarray) -> np.ndarray:
    p = 1 / (1 + np.exp(-z))
    return -y * np.log(p) - (1 - y) * np.log(1 - p)


def test_binary_cross_entropy() -> None:
    np.testing.assert_allclose(
        binary_cross_entropy(LABELS["primary"], LOGITS["primary"]),
        reference(LABELS["primary"], LOGITS["primary"]),
        1e-5,
    )


def test_extreme_logits_stay_finite() -> None:
    z = np.array([[100.0], [-100.0], [100.0], [-100.0]])
    np.testing.assert_allclose(
        binary_cross_entropy(np.array([[1.0], [0.0], [0.0], [1.0]]), z), [[0], [0], [100], [100]], atol=1e-6
    )


@pytest.mark.tensorflow
def test_the_gradient_is_right_at_a_logit_of_zero() -> None:
    """It is sigmoid(z) - y, there as everywhere: a row whose hidden units are all off has the bias, 0 at first."""
    z = tf.Variable([[0.0], [0.0], [1e-4], [-3.0], [2.0]])
    y = np.array([[0.0], [1.0], [1.0], [1.0], [0.0]], np.float32)
    with tf.GradientTape() as tape:
        loss = binary_cross_entropy(y, z)
    np.testing.assert_allclose(tape.gradient(loss, z), 1 / (1 + np.exp(-z.numpy())) - y, rtol=1e-6)


def test_weights_by_task() -> None:
    weights = {"primary": np.array([1.0, 0.0, 2.0]), "tail": np.array([0.0, 1.0, 0.0])}
    _, losses = weighted_sum_of_tasks()(LABELS, LOGITS, weights)
    for task, weight in weights.items():
        expected = np.average(reference(LABELS[task], LOGITS[task])[:, 0], weights=weight)
        np.testing.assert_allclose(losses[task], expected, rtol=1e-5)
    with pytest.raises(ValueError, match="must name every task: give `tail` the weights of the primary"):
        weighted_sum_of_tasks()(LABELS, LOGITS, {"primary": np.ones(3)})


def test_weighted_sum() -> None:
    loss, losses = weighted_sum_of_tasks({"tail": 0.3})(LABELS, LOGITS, np.ones(3))
    expected = {task: reference(LABELS[task], LOGITS[task]).mean() for task in LABELS}
    np.testing.assert_allclose(losses["primary"], expected["primary"], rtol=1e-5)
    np.testing.assert_allclose(losses["tail"], expected["tail"], rtol=1e-5)
    np.testing.assert_allclose(loss, expected["primary"] + 0.3 * expected["tail"], rtol=1e-5)


def test_a_task_that_is_not_named_weighs_one() -> None:
    loss, losses = weighted_sum_of_tasks()(LABELS, LOGITS, np.ones(3))
    np.testing.assert_allclose(loss, losses["primary"] + losses["tail"], rtol=1e-6)


def test_a_zero_weight_row_changes_nothing() -> None:
    """Property 8."""
    objective = weighted_sum_of_tasks({"tail": 0.3})
    loss, _ = objective(LABELS, LOGITS, np.ones(3))
    more_labels = {task: np.vstack([y, [[1.0]]]) for task, y in LABELS.items()}
    more_logits = {task: np.vstack([z, [[-50.0]]]) for task, z in LOGITS.items()}
    same, _ = objective(more_labels, more_logits, np.array([1.0, 1.0, 1.0, 0.0]))
    np.testing.assert_array_equal(loss, same)


def test_weights_weigh() -> None:
    values = np.array([[1.0], [5.0]])
    np.testing.assert_allclose(weighted_mean(values, np.array([3.0, 1.0])), 2.0)
    np.testing.assert_allclose(weighted_mean(values, np.zeros(2)), 0.0)


@pytest.mark.parametrize(
    ("lambdas", "labels", "message"),
    [
        ({"tail": -1.0}, LABELS, r"`lambdas` must be finite and at least 0. Received: {'tail': -1.0}"),
        ({"tail": float("inf")}, LABELS, r"`lambdas` must be finite and at least 0. Received: {'tail': inf}"),
        ({"tale": 1.0}, LABELS, r"`lambdas` and the model's outputs must name the same tasks. Received: \['tale'\]"),
        ({}, {"primary": LABELS["primary"]}, r"the labels and the model's outputs must name the same tasks"),
    ],
)
def test_wrong_tasks(lambdas: dict, labels: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        weighted_sum_of_tasks(lambdas)(labels, LOGITS, np.ones(3))
