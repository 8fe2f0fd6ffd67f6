"""A model whose attention is in three places: in the graph, in a layer of one's own, in a nested model."""

import keras
import numpy as np
import pytest

from c2al_tf.layers import FMAttention

FIELDS, DIM, OUTPUTS, HIDDEN, ROWS = 4, 3, 2, 5, 32


class Tower(keras.layers.Layer):
    """Keeps its attention in a list, out of reach of the graph."""

    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        self.parts = [FMAttention(OUTPUTS, "static", name="inner")]

    def build(self, shape) -> None:
        self.parts[0].build(shape)

    def call(self, X):
        return keras.ops.reshape(self.parts[0](X), (-1, FIELDS * OUTPUTS))


def make_model() -> keras.Model:
    """Drawn so that no gradient is small."""
    keras.utils.set_random_seed(0)
    X = keras.Input((FIELDS, DIM), name="X")
    flat = keras.layers.Flatten()
    nested_input = keras.Input((FIELDS, DIM))
    nested = keras.Model(
        nested_input, FMAttention(OUTPUTS, hidden_units=HIDDEN, name="fm")(nested_input), name="nested"
    )
    parts = [
        flat(FMAttention(OUTPUTS, hidden_units=HIDDEN, name="fm")(X)),
        Tower(name="tower")(X),
        flat(nested(X)),
    ]
    h = keras.layers.Dropout(0.5)(keras.layers.Concatenate(name="joined")(parts))
    model = keras.Model({"X": X}, {task: keras.layers.Dense(1, name=task)(h) for task in ("primary", "young", "old")})
    model.compile(keras.optimizers.SGD(0.01))
    rng = np.random.default_rng(0)
    for weight in model.weights:
        if "seed" not in weight.path:
            weight.assign(rng.normal(0, 0.5, weight.shape))
    model.optimizer.build(model.trainable_variables)
    return model


@pytest.fixture
def model() -> keras.Model:
    return make_model()


@pytest.fixture(scope="session")
def made_once() -> tuple[keras.Model, list[np.ndarray]]:
    """A model, and the values with which it begins."""
    model = make_model()
    return model, [np.array(variable) for variable in (*model.variables, *model.optimizer.variables)]


@pytest.fixture
def same_model(made_once) -> keras.Model:
    """The model that other tests have trained, as it was made: what it has compiled for them serves again."""
    model, values = made_once
    for variable, value in zip((*model.variables, *model.optimizer.variables), values, strict=True):
        variable.assign(value)
    return model


@pytest.fixture
def batch():
    rng = np.random.default_rng(1)
    y = {task: rng.integers(0, 2, (ROWS, 1)).astype("float32") for task in ("primary", "young", "old")}
    return {"X": rng.normal(size=(ROWS, FIELDS, DIM)).astype("float32")}, y, rng.random(ROWS).astype("float32")
