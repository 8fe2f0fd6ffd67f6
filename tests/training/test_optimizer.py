import keras
import numpy as np
import pytest
import tensorflow as tf

from c2al_tf.config import ModelConfig, TrainingConfig
from c2al_tf.model import build_model
from c2al_tf.optimizers import FlatAdam, LazyAdam, RowWiseAdagrad, SparseAdagrad
from c2al_tf.training import make_optimizer
from c2al_tf.training.optimizer import ClippedMultiOptimizer

DENSE = {"adam": FlatAdam, "adagrad": keras.optimizers.Adagrad}
SPARSE = {"lazy_adam": LazyAdam, "adagrad": SparseAdagrad, "row_wise_adagrad": RowWiseAdagrad}


def test_decay() -> None:
    optimizer = make_optimizer(TrainingConfig(learning_rate=0.5), 10)
    optimizer.build([keras.Variable(0.0)])
    optimizer.iterations.assign(5)
    assert float(optimizer.learning_rate) == pytest.approx(0.25)
    optimizer.iterations.assign(10)
    assert float(optimizer.learning_rate) == pytest.approx(0.0, abs=1e-7)
    constant = make_optimizer(TrainingConfig(learning_rate=0.5, decay="constant"), 10)
    assert float(constant.learning_rate) == 0.5


def test_decay_of_tables() -> None:
    config = TrainingConfig(learning_rate=0.5, table_optimizer="adagrad", table_learning_rate=0.2)
    rates = {type(optimizer): optimizer.learning_rate for optimizer in make_optimizer(config, 10).optimizers}
    assert {kind: float(rate) for kind, rate in rates.items()} == {
        FlatAdam: 0.5,
        SparseAdagrad: pytest.approx(0.2),
    }
    optimizer = make_optimizer(config, 10)
    for each in optimizer.optimizers:
        each.iterations.assign(5)
    assert sorted(float(each.learning_rate) for each in optimizer.optimizers) == pytest.approx([0.1, 0.25])


@pytest.mark.parametrize("dense", DENSE)
@pytest.mark.parametrize("name", SPARSE)
def test_tables_get_their_optimizer(small_schema, name, dense) -> None:
    """And Keras's embeddings; nothing else."""
    ids = keras.Input((2,), dtype="int32")
    embedding = keras.Model(ids, keras.layers.Embedding(5, 3)(ids))
    model = build_model(small_schema, ModelConfig(embedding_dim=4, num_blocks=1))
    variables = model.trainable_variables + embedding.trainable_variables
    optimizer = make_optimizer(TrainingConfig(optimizer=dense, table_optimizer=name), 10)
    optimizer.build(variables)
    chosen = {variable.path: type(optimizer._optimizer_map(variable)) for variable in variables}
    tables = {path for path, kind in chosen.items() if kind is SPARSE[name]}
    assert tables == {model.get_layer("field_embedding").table.path, embedding.trainable_variables[0].path}
    assert {kind for path, kind in chosen.items() if path not in tables} == {DENSE[dense]}
    alone = make_optimizer(TrainingConfig(optimizer=dense, clip_norm=0.5), 10)
    assert (type(alone), alone.global_clipnorm) == (DENSE[dense], 0.5)


def test_the_norm_is_of_all_gradients_together() -> None:
    """By hand: the norm of (3) and (4 at row 1) is 5, so a bound of 1 leaves 0.6 and 0.8."""
    dense, table = keras.Variable([0.0], name="dense"), keras.Variable(np.zeros((3, 1)), name="table")
    sgd = keras.optimizers.SGD
    optimizer = ClippedMultiOptimizer(keras.optimizers.OptimizerMap(sgd(1.0), {"table": sgd(0.5)}), global_clipnorm=1.0)
    optimizer.apply([tf.constant([3.0]), tf.IndexedSlices(tf.constant([[4.0]]), tf.constant([1]))], [dense, table])
    np.testing.assert_allclose(dense, [-0.6], rtol=1e-6)
    np.testing.assert_allclose(table, [[0.0], [-0.4], [0.0]], rtol=1e-6)


def test_it_is_saved_with_a_model(tmp_path) -> None:
    ids = keras.Input((2,), dtype="int32")
    h = keras.layers.Flatten()(keras.layers.Embedding(5, 3)(ids))
    model = keras.Model(ids, keras.layers.Dense(1)(h))
    optimizer = make_optimizer(TrainingConfig(table_optimizer="row_wise_adagrad", clip_norm=0.7), 100)
    model.compile(optimizer, "mse", jit_compile=False)
    rows = np.array([[0, 1], [2, 2]])
    model.fit(rows, np.ones(2), verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.optimizer.get_config() == model.optimizer.get_config()
    assert loaded.optimizer.global_clipnorm == 0.7
    for each in (model, loaded):
        each.fit(rows, np.ones(2), verbose=0)
    for a, b in zip(model.optimizer.variables, loaded.optimizer.variables, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)
