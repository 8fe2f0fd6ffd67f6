"""Predictions of models as teams have them, beside the rows' columns and labels."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from c2al_tf import predict_columns, with_cohort_heads

from .untuned import UNTUNED

LOGITS = np.array([-2.0, -1.0, 0.0, 1.0, 2.0], np.float32)
ROWS = {"x": LOGITS, "city": np.array(["a", "b", "ä", "a", "b"], object), "extra": np.arange(5)}
LABELS = np.array([0, 1, 0, 1, 1])
WEIGHTS = np.array([1.0, 2.0, 0.0, 1.0, 1.0])


class Asis(keras.Model):
    """Gives its input, squashed in `predict_step` as a team that serves probabilities does."""

    def __init__(self, squash: bool = False) -> None:
        super().__init__()
        self.squash = squash
        self.last = keras.layers.Dense(1, kernel_initializer="ones")

    def call(self, inputs):
        return self.last(inputs["x"][:, None])

    def predict_step(self, data):
        outputs = super().predict_step(data)
        return keras.ops.sigmoid(outputs) if self.squash else outputs


def functional(names: tuple[str, ...]) -> keras.Model:
    x = keras.Input((), name="x")
    outputs = [keras.layers.Dense(1, kernel_initializer="ones", name=name)(x[:, None]) for name in names]
    return keras.Model({"x": x}, outputs if len(names) > 1 else outputs[0])


def rows(labels=LABELS, weights=WEIGHTS) -> tf.data.Dataset:
    parts = (ROWS, labels) if weights is None else (ROWS, labels, weights)
    return tf.data.Dataset.from_tensor_slices(parts).batch(2).with_options(UNTUNED)


@pytest.mark.parametrize(
    ("model", "labels", "arguments"),
    [
        (Asis(), LABELS, {"from_logits": True}),
        (Asis(squash=True), LABELS[:, None], {"from_logits": False}),
        (functional(("click",)), {"primary": LABELS, "old": LABELS}, {"from_logits": True}),
        (functional(("click", "buy")), {"click": LABELS, "buy": 1 - LABELS}, {"from_logits": True, "primary": "click"}),
    ],
)
def test_rows_beside_their_predictions(model, labels, arguments) -> None:
    """A column that a functional model does not read stays out of it; rows of weight 0 are left out."""
    probabilities, columns, found = predict_columns(model, rows(labels), ["city", "extra"], **arguments)
    kept = WEIGHTS > 0
    np.testing.assert_allclose(probabilities, 1 / (1 + np.exp(-LOGITS[kept].astype(float))), rtol=1e-6)
    assert columns["city"].tolist() == ["a", "b", "a", "b"]
    assert columns["extra"].tolist() == [0, 1, 3, 4]
    assert found.tolist() == [0, 1, 1, 1]


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (keras.losses.BinaryCrossentropy(from_logits=True), True),
        ("binary_crossentropy", False),
        ({"click": keras.losses.BinaryCrossentropy(from_logits=True), "buy": "mse"}, True),
    ],
)
def test_the_compiled_loss_says_what_the_model_gives(loss, expected) -> None:
    several = isinstance(loss, dict)
    model = functional(("click", "buy") if several else ("click",))
    model.compile("sgd", loss=loss)
    labels = {"click": LABELS, "buy": LABELS} if several else LABELS
    named = {"primary": "click"} if several else {}
    if not expected:
        with pytest.raises(ValueError, match=r"must lie in \[0, 1\]; logits need `from_logits=True`. Received: -2.0"):
            predict_columns(model, rows(labels), ["city"], **named)
        return
    probabilities, _, _ = predict_columns(model, rows(labels), lambda x: {"town": x["city"]}, **named)
    np.testing.assert_allclose(probabilities[0], 1 / (1 + np.exp(2)), rtol=1e-6)


@pytest.mark.parametrize(
    ("dataset", "columns", "arguments", "message"),
    [
        (
            rows(),
            ["town"],
            {"from_logits": True},
            "No column `town` in the data. Columns there: x, city, extra",
        ),
        (rows(), ["city"], {}, r"Say with `from_logits` whether .* Received: loss=None"),
        (rows().map(lambda x, y, w: x), ["city"], {}, r"must be a tf.data.Dataset of \(features, label\) or"),
        (
            rows(),
            ["city"],
            {"from_logits": True, "primary": "clik"},
            r"must be one of \['primary'\]. Received: .*'clik'",
        ),
        (
            rows({"buy": LABELS}),
            ["city"],
            {"from_logits": True, "primary": "click"},
            r"must be one of \['buy'\], the labels",
        ),
        (rows({"a": LABELS, "b": LABELS}), ["city"], {"from_logits": True}, r"must be one of \['a', 'b'\], the labels"),
        (rows(np.stack([LABELS] * 2, 1)), ["city"], {"from_logits": True}, "Received: 2 numbers for 4 labels"),
        (rows().take(0), ["city"], {"from_logits": True}, "must have rows. Received: no batch"),
    ],
)
def test_what_is_refused(dataset, columns, arguments, message) -> None:
    with pytest.raises(ValueError, match=message):
        predict_columns(functional(("click",)), dataset, columns, **arguments)


def test_heads_read_what_their_model_reads() -> None:
    """The wrapper of a functional model is given no column more; a sparse one is read as one value a row."""
    model = functional(("click",))
    sparse = rows().map(lambda x, y, w: (x | {"city": tf.sparse.from_dense(x["city"])}, y, w))
    beside = predict_columns(with_cohort_heads(model, None, ["old"]), sparse, ["city"], from_logits=True)
    np.testing.assert_array_equal(beside.probabilities, predict_columns(model, rows(), [], from_logits=True)[0])
    assert beside.columns["city"].tolist() == ["a", "b", "a", "b"]


def test_a_predict_step_of_its_own_must_be_said() -> None:
    """Its loss takes logits, and it gives probabilities."""
    model = Asis(squash=True)
    model.compile("sgd", keras.losses.BinaryCrossentropy(from_logits=True))
    with pytest.raises(ValueError, match="it has its own `predict_step`. Received: Asis and from_logits=None"):
        predict_columns(model, rows(), ["city"])
