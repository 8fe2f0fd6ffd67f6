"""What the optimizers owe as Keras optimizers. The peer is Adagrad: in Keras, too, it leaves a row without gradient."""

import functools
import re
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from c2al_tf.optimizers import FlatAdam, LazyAdam, RowWiseAdagrad, SparseAdagrad

from ..untuned import UNTUNED

BATCH = 32
SMALL, LARGE = 20, 300
"""Rows of a table that is summed as a whole, and of one whose occurrences are, for 32 x 2 ids."""


SLOW_WITH_XLA = [
    pytest.param(False, id="no XLA"),
    pytest.param(True, id="XLA", marks=pytest.mark.slow),  # The rules themselves are compared with XLA by default.
]


class DenseAdagrad(keras.optimizers.Adagrad):
    """Adagrad of Keras on gradients of the size of the table, where the occurrences of a row are summed."""

    def apply(self, grads: Any, trainable_variables: Any = None) -> None:
        super().apply([tf.convert_to_tensor(gradient) for gradient in grads], trainable_variables)


def make_model(**kwargs: Any) -> keras.Model:
    keras.utils.set_random_seed(0)
    ids = {name: keras.Input((2,), dtype="int32", name=name) for name in ("small", "large")}
    sizes = {"small": SMALL, "large": LARGE}
    embedded = [keras.layers.Embedding(sizes[name], 4, name=f"{name}_table", **kwargs)(ids[name]) for name in sizes]
    hidden = keras.layers.Flatten()(keras.layers.Concatenate()(embedded))
    return keras.Model(ids, keras.layers.Dense(1, dtype="float32")(keras.layers.Dense(4, "relu")(hidden)))


def rows(num_batches: int = 6) -> tuple[dict[str, np.ndarray], np.ndarray]:
    rng = np.random.default_rng(0)
    size = (num_batches * BATCH, 2)
    x = {"small": rng.integers(0, SMALL, size), "large": np.minimum(rng.geometric(0.05, size), LARGE - 1)}
    return x, rng.normal(size=(len(x["small"]), 1)).astype(np.float32)


def fitted(optimizer: keras.optimizers.Optimizer, jit_compile: bool | None = None, **kwargs: Any) -> list[np.ndarray]:
    """The weights after an epoch; step by step where neither way of compiling is named: compiling takes seconds."""
    model = make_model(**kwargs)
    model.compile(optimizer, "mse", jit_compile=bool(jit_compile), run_eagerly=jit_compile is None)
    x, y = rows()
    batches = tf.data.Dataset.from_tensor_slices((x, y)).batch(BATCH, drop_remainder=True)
    model.fit(batches.with_options(UNTUNED), shuffle=False, verbose=0)
    return model.get_weights()


@functools.cache
def fitted_once(optimizer: type, jit_compile: bool) -> list[np.ndarray]:
    """What several tests hold something against: compiling takes far longer than the steps."""
    return fitted(optimizer(0.1), jit_compile)


def assert_close(ours: list[np.ndarray], theirs: list[np.ndarray]) -> None:
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


class SeesRows(SparseAdagrad):
    """Notes which gradients come as rows."""

    def _sum(self, gradient: Any, scratch: Any) -> Any:
        self.seen = [*getattr(self, "seen", []), isinstance(gradient, tf.IndexedSlices)]
        return super()._sum(gradient, scratch)


def test_fit_equals_keras_and_gradients_of_embeddings_come_as_rows(jit_compile: bool) -> None:
    optimizer = SeesRows(0.1)
    assert_close(fitted(optimizer, jit_compile), fitted(DenseAdagrad(0.1), jit_compile))
    assert optimizer.seen[:6] == [True, True, False, False, False, False]


def test_given_rows_keras_squares_each_occurrence() -> None:
    assert_close(fitted(SparseAdagrad(0.1, duplicates="each")), fitted(keras.optimizers.Adagrad(0.1)))


@pytest.mark.parametrize("optimizer", [RowWiseAdagrad, LazyAdam])
def test_fit_leaves_untouched_rows_alone_to_the_bit(optimizer: type, jit_compile: bool) -> None:
    before, after = make_model().get_weights(), fitted_once(optimizer, jit_compile)
    untouched = np.setdiff1d(np.arange(LARGE), rows()[0]["large"])
    assert len(untouched) > 100
    np.testing.assert_array_equal(after[1][untouched], before[1][untouched])
    assert not np.array_equal(after[1], before[1])


@pytest.mark.parametrize("jit_compile", SLOW_WITH_XLA, indirect=True)
@pytest.mark.parametrize("optimizer", [RowWiseAdagrad, pytest.param(SparseAdagrad, marks=pytest.mark.slow), LazyAdam])
def test_two_runs_are_equal_to_the_bit(optimizer: type, jit_compile: bool) -> None:
    for a, b in zip(fitted_once(optimizer, jit_compile), fitted(optimizer(0.1), jit_compile), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    "clipping", [{"clipnorm": 0.05}, {"global_clipnorm": 0.05}, {"clipvalue": 0.01}, {"global_clipnorm": 1e3}]
)
def test_clipping_acts_on_the_sums(clipping: dict) -> None:
    assert_close(fitted(SparseAdagrad(0.1, **clipping)), fitted(DenseAdagrad(0.1, **clipping)))


@pytest.mark.parametrize("num_rows", [2, 50])
def test_clipping_scales_each_occurrence(num_rows: int) -> None:
    """(3, 0) twice and (0, 8) have sums (6, 0) and (0, 8) of norm 10; at norm 1 the squares are 2 * 0.09 and 0.64."""
    slices = tf.IndexedSlices([[3.0, 0.0], [0.0, 8.0], [3.0, 0.0]], [0, 1, 0], (num_rows, 2))
    for clipping in ({"clipnorm": 1.0}, {"global_clipnorm": 1.0}):
        optimizer = SparseAdagrad(0.1, 0.0, duplicates="each", **clipping)
        optimizer.apply([slices], [keras.Variable(np.zeros((num_rows, 2)), dtype="float32")])
        accumulator = optimizer.variables[-1].numpy()
        np.testing.assert_allclose(accumulator[:2], [[0.18, 0], [0, 0.64]], rtol=1e-5)


def test_a_loss_scale_factor() -> None:
    scaled = {"loss_scale_factor": 8.0}
    assert_close(fitted(SparseAdagrad(0.1, **scaled)), fitted(DenseAdagrad(0.1, **scaled)))


def test_a_schedule() -> None:
    rates = [keras.optimizers.schedules.ExponentialDecay(0.5, 1, 0.5) for _ in range(2)]
    assert_close(fitted(SparseAdagrad(rates[0])), fitted(DenseAdagrad(rates[1])))


def test_a_constraint() -> None:
    constrained = {"embeddings_constraint": "non_neg"}
    ours = fitted(SparseAdagrad(0.1), **constrained)
    assert_close(ours, fitted(DenseAdagrad(0.1), **constrained))
    assert ours[1].min() == 0


def test_bfloat16_compute() -> None:
    policy = {"dtype": "mixed_bfloat16"}
    ours, keras_s = fitted(SparseAdagrad(0.1), **policy), fitted(DenseAdagrad(0.1), **policy)
    assert_close(ours, keras_s)
    assert {weight.dtype for weight in ours} == {np.dtype("float32")}


@pytest.mark.parametrize("jit_compile", SLOW_WITH_XLA, indirect=True)
def test_loss_scaling(jit_compile: bool) -> None:
    scaled, keras_s = SeesRows(0.1), DenseAdagrad(0.1)
    ours = fitted(keras.optimizers.LossScaleOptimizer(scaled, 2.0**8), jit_compile, dtype="mixed_float16")
    theirs = fitted(keras.optimizers.LossScaleOptimizer(keras_s, 2.0**8), jit_compile, dtype="mixed_float16")
    assert_close(ours, theirs)
    assert scaled.seen[:2] == [True, True]


@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
@pytest.mark.parametrize("num_rows", [2, 50])
def test_tables_of_other_types(dtype: str, num_rows: int) -> None:
    table, optimizer = keras.Variable(np.ones((num_rows, 2)), dtype=dtype), RowWiseAdagrad(0.5, 0.0, 0.0)
    slices = tf.IndexedSlices(tf.cast([[1.0, 1.0], [2.0, 2.0]], dtype), [1, 1], (num_rows, 2))
    optimizer.apply([slices], [table])
    np.testing.assert_array_equal(tf.cast(table.value, tf.float64)[:2], [[1.0, 1.0], [0.5, 0.5]])
    assert optimizer.variables[-1].dtype == ("float64" if dtype == "float64" else "float32")


def test_plain_tensorflow_variables() -> None:
    table = tf.Variable(np.zeros((50, 2), np.float32))
    SparseAdagrad(0.5, 0.0, 0.0).apply([tf.IndexedSlices([[2.0, 2.0]], [1], (50, 2))], [table])
    np.testing.assert_array_equal(table[:2], [[0, 0], [-0.5, -0.5]])


@pytest.mark.parametrize("jit_compile", SLOW_WITH_XLA, indirect=True)
def test_tables_to_one_optimizer_and_dense_weights_to_another(tmp_path: Path, jit_compile: bool) -> None:
    def split(tables: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
        mapping = keras.optimizers.OptimizerMap(keras.optimizers.Adam(0.01), {".*embeddings": tables})
        return keras.optimizers.MultiOptimizer(mapping)

    ours = fitted(split(SparseAdagrad(0.1)), jit_compile)
    assert_close(ours, fitted(split(DenseAdagrad(0.1)), jit_compile))
    check_file(split(RowWiseAdagrad(0.1)), tmp_path)


@pytest.mark.parametrize(
    "optimizer",
    [
        RowWiseAdagrad(0.1, 0.2, 1e-5, "each", clipnorm=1.0, name="mine"),
        SparseAdagrad(keras.optimizers.schedules.ExponentialDecay(0.5, 10, 0.5), global_clipnorm=3.0),
        LazyAdam(0.1, 0.8, 0.9, 1e-5, duplicates="each", loss_scale_factor=8.0),
    ],
    ids=lambda optimizer: type(optimizer).__name__,
)
def test_files_and_configs(optimizer: keras.optimizers.Optimizer, tmp_path: Path) -> None:
    again = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert type(again) is type(optimizer)
    assert again.get_config() == optimizer.get_config()
    check_file(optimizer, tmp_path)


def check_file(optimizer: keras.optimizers.Optimizer, folder: Path) -> None:
    """A model saved between two batches goes on as the one that was not."""
    x, y = rows(3)
    model = make_model()
    model.compile(optimizer, "mse", jit_compile=False)
    model.train_on_batch({name: ids[:BATCH] for name, ids in x.items()}, y[:BATCH])
    model.save(folder / "model.keras")
    loaded = keras.saving.load_model(folder / "model.keras")
    for one in (model, loaded):
        for start in (BATCH, 2 * BATCH):
            one.train_on_batch({name: ids[start : start + BATCH] for name, ids in x.items()}, y[start : start + BATCH])
    for a, b in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("optimizer", [RowWiseAdagrad, SparseAdagrad, LazyAdam])
def test_xla_updates_in_place(optimizer: type, duplicates: str) -> None:
    """In the compiled step nothing copies a table or a state, whose size is the one cost that could grow with it."""
    model = make_model()
    updates = optimizer(0.1, duplicates=duplicates, global_clipnorm=1.0)
    updates.build(model.trainable_variables)

    @tf.function(jit_compile=True)
    def step(x: Any, y: Any) -> None:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((model(x, training=True) - y) ** 2)
        updates.apply(tape.gradient(loss, [v.value for v in model.trainable_variables]), model.trainable_variables)

    x, y = rows(1)
    program = step.experimental_get_compiler_ir({name: tf.constant(ids) for name, ids in x.items()}, tf.constant(y))(
        stage="optimized_hlo"
    )
    assert re.search(rf"f32\[{LARGE},4\]\S* scatter\(", program)
    for shape in (f"{LARGE},4", f"{LARGE},1", f"{LARGE}"):
        assert not re.search(rf"f32\[{shape}\]\S* (?!scatter|parameter|fusion|get-tuple|bitcast)[a-z-]+\(", program)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"duplicates": "all"}, "`duplicates` must be 'sum' or 'each'. Received: duplicates='all'"),
        ({"weight_decay": 0.1}, "`weight_decay` must be None: it would change rows that no batch touched. "),
        ({"clipvalue": 1.0, "duplicates": "each"}, "`clipvalue` must be None with duplicates='each'"),
        ({"use_ema": True}, "`use_ema` must be False: the average would be updated for every row of a table at every "),
        (
            {"gradient_accumulation_steps": 2},
            "`gradient_accumulation_steps` must be None: it would keep a gradient of the size of each table. "
            "Multiply the batch size by it instead. Received: gradient_accumulation_steps=2",
        ),
    ],
)
def test_bad_arguments(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        SparseAdagrad(**arguments)


@pytest.mark.parametrize("optimizer", [RowWiseAdagrad, SparseAdagrad, LazyAdam, FlatAdam])
def test_another_backend_is_refused(optimizer: type, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(ValueError, match=f"`{optimizer.__name__}` must run on TensorFlow: .* Received: backend 'jax'"):
        optimizer()
