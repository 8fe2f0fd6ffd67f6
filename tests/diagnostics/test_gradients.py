import keras
import numpy as np
import pytest
import tensorflow as tf

from c2al_tf.diagnostics import attention_gradients
from c2al_tf.diagnostics.attention import named_layers
from c2al_tf.diagnostics.gradients import compare
from c2al_tf.losses import weighted_sum_of_tasks


def attention(X: tf.Tensor, weights: list[tf.Variable], num_outputs: int = 2) -> tf.Tensor:
    """G = (X X^T) Y with Y a weight or the MLP's."""
    if len(weights) == 1:
        Y = tf.broadcast_to(weights[0], (len(X), *weights[0].shape))
    else:
        kernel, bias, kernel_out, bias_out = weights
        hidden = tf.nn.relu(tf.reshape(X, (len(X), -1)) @ kernel + bias)
        Y = tf.reshape(hidden @ kernel_out + bias_out, (len(X), -1, num_outputs))
    return tf.reshape(X @ tf.transpose(X, (0, 2, 1)) @ Y, (len(X), -1))


def gradients_by_hand(model: keras.Model, batch) -> dict[str, dict[str, np.ndarray]]:
    """By layer and task, in float64, of each task's loss apart."""
    x, y, weight = batch
    X, w = tf.constant(x["X"], tf.float64), weight.astype("float64")
    layers = {
        name: [tf.Variable(np.array(weight, np.float64)) for weight in layer.trainable_variables]
        for name, layer in named_layers(model).items()
    }
    order = {"fm:0": "fm:0", "tower": "inner", "nested": "fm:1"}
    found: dict[str, dict[str, np.ndarray]] = {name: {} for name in layers}
    for task in y:
        kernel, bias = (value.astype("float64") for value in model.get_layer(task).get_weights())
        with tf.GradientTape() as tape:
            joined = tf.concat([attention(X, layers[name]) for name in order.values()], axis=1)
            logits = (joined @ kernel + bias)[:, 0]
            losses = tf.nn.sigmoid_cross_entropy_with_logits(y[task][:, 0].astype("float64"), logits)
            loss = tf.reduce_sum(w * losses) / w.sum()
        for name, values in tape.gradient(loss, layers).items():
            found[name][task] = np.concatenate([np.ravel(value) for value in values])
    return found


def test_of_every_layer_and_task(model, batch) -> None:
    before = [np.array(variable) for variable in model.variables]
    expected = gradients_by_hand(model, batch)
    rows = attention_gradients(model, batch, weighted_sum_of_tasks({"young": 0.3, "old": 2.0}).terms)
    assert [(row["layer"], row["task"]) for row in rows] == [
        (layer, task) for layer in named_layers(model) for task in ("young", "old")
    ]
    for row in rows:
        scale = {"young": 0.3, "old": 2.0}[row["task"]]
        a, p = scale * expected[row["layer"]][row["task"]], expected[row["layer"]]["primary"]
        norm = np.linalg.norm
        along = a @ p / (p @ p) * p
        assert row | {"layer": 0, "task": 0} == {
            "layer": 0,
            "task": 0,
            "cosine": pytest.approx(a @ p / norm(a) / norm(p), rel=1e-4),
            "parallel": pytest.approx(norm(along), rel=1e-4),
            "orthogonal": pytest.approx(norm(a - along), rel=1e-4),
            "norm": pytest.approx(norm(a), rel=1e-4),
            "primary_norm": pytest.approx(norm(p), rel=1e-4),
        }
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)


def test_without_terms_the_losses_have_no_lambda(model, batch) -> None:
    assert attention_gradients(model, batch) == attention_gradients(model, batch, weighted_sum_of_tasks().terms)


def test_a_frozen_layer_has_no_rows(model, batch) -> None:
    model.get_layer("tower").trainable = False
    assert {row["layer"] for row in attention_gradients(model, batch)} == {"fm:0", "fm:1"}


def test_a_layer_that_stops_its_gradient_has_no_rows(model, batch) -> None:
    model.get_layer("fm").stop_gradient = True
    assert {row["layer"] for row in attention_gradients(model, batch)} == {"fm:1", "inner"}


def test_a_model_with_one_task(model, batch) -> None:
    assert attention_gradients(keras.Model(model.input, {"primary": model.output["primary"]}), batch) == []


@pytest.mark.parametrize(
    ("g_aux", "g_pri", "expected"),
    [
        ([3.0, 4.0], [2.0, 0.0], (0.6, 3.0, 4.0, 5.0, 2.0)),
        ([-3.0, 4.0], [2.0, 0.0], (-0.6, 3.0, 4.0, 5.0, 2.0)),
        ([3.0, 4.0], [0.0, 0.0], (0.0, 0.0, 5.0, 5.0, 0.0)),
        ([0.0, 0.0], [2.0, 0.0], (0.0, 0.0, 0.0, 0.0, 2.0)),
    ],
)
def test_by_hand(g_aux, g_pri, expected) -> None:
    assert tuple(compare(np.array(g_aux), np.array(g_pri)).values()) == pytest.approx(expected)
