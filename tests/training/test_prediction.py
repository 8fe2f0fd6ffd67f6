import functools
import gc
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf
from tqdm import tqdm

from c2al_tf.data.inputs.dataset import make_dataset
from c2al_tf.metrics import NormalizedEntropy
from c2al_tf.training import evaluate, predict, prediction
from c2al_tf.training.batches import in_form

from ..untuned import UNTUNED

BATCH = 64


@pytest.fixture(scope="module")
def model(fit):
    return fit(epochs=1)[0]


def test_evaluate_agrees_with_the_metric(model, rows_in_order) -> None:
    metric = NormalizedEntropy()
    for x, y, weight in rows_in_order():
        metric.update_state(y["primary"], model(x)["primary"], weight)
    figures = evaluate(model, rows_in_order())
    assert figures["primary_ne"] == pytest.approx(float(metric.result()), rel=1e-5)


@pytest.mark.parametrize("without_bars", [False, True])
def test_predict_leaves_padding_out(model, rows_in_order, monkeypatch, without_bars: bool) -> None:
    monkeypatch.setattr(prediction, "tqdm", functools.partial(tqdm, disable=without_bars))  # as TQDM_DISABLE=1 does
    logits = predict(model, rows_in_order(), 1000)
    assert logits.shape == (1000,)
    x = next(iter(rows_in_order()))[0]
    np.testing.assert_allclose(logits[:BATCH], np.asarray(model(x)["primary"])[:, 0], rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="`batches` must hold `num_rows` rows. Received: 1024 rows, num_rows=2000"):
        predict(model, rows_in_order(), 2000)


def test_rows_of_make_dataset_pass_as_they_are(model, rows_in_order) -> None:
    """What else there is takes another map, to the same batches: its labels are not known to be checked."""
    rows = rows_in_order()
    assert in_form(rows, model) is rows
    others = [rows.take(100), in_form(rows, model, {0: 1.0, 1: 1.0}), rows.map(lambda x, *_: (x | {"more": 1}, *_))]
    for other in others:
        formed = in_form(other, model)
        assert formed is not other
        for batch, expected in zip(formed, rows, strict=True):
            tf.nest.map_structure(np.testing.assert_array_equal, batch, expected)
    name = next(iter(model.input))
    read = keras.Input((), name=name)
    fewer = keras.Model({name: read}, {"primary": keras.layers.Dense(1)(keras.layers.Reshape((1,))(read))})
    assert set(in_form(rows, fewer).element_spec[0]) == {name}, "Keras would feed the others by position"
    wrong = rows.map(lambda x, y, weight: (x, {task: 3 * label for task, label in y.items()}, weight))
    with pytest.raises(tf.errors.InvalidArgumentError, match="must be 0 or 1, or a probability between them"):
        evaluate(model, wrong)


def test_zero_weight_rows_change_nothing(model, small_schema, small_rows, tmp_path) -> None:
    """Property 8: the padding of the last batch, whose rows have weight 0, is not seen by loss or metrics."""
    figures = []
    for size in (64, 125):  # 1,000 rows: with and without a padded batch
        rows = make_dataset(_file(tmp_path, small_schema, small_rows), small_schema, size)
        figures.append(evaluate(model, rows, jit_compile=False))
    assert figures[0] == pytest.approx(figures[1], rel=1e-5)


def _file(folder, schema, small_rows):
    from c2al_tf.data.columns.shards import write_parquet

    write_parquet(folder / "rows.parquet", [small_rows(1000, seed=5)], schema.columns)
    return folder / "rows.parquet"


class Traced(keras.layers.Layer):
    """Counts how often it is called from Python."""

    calls = 0

    def call(self, x):
        self.calls += 1
        return x


def test_a_model_is_compiled_once(monkeypatch) -> None:
    x = keras.Input((2,), name="x")
    traced = Traced()
    model = keras.Model({"x": x}, {"primary": keras.layers.Dense(1)(traced(x))})
    rows = ({"x": np.ones((4, 2), "float32")}, {"primary": np.ones((4, 1), "float32")}, np.ones(4, "float32"))
    batches = tf.data.Dataset.from_tensors(rows).with_options(UNTUNED)
    first = (evaluate(model, batches), predict(model, batches, 4).tolist())
    calls = traced.calls
    model.layers[-1].bias.assign([0.5])
    second = (evaluate(model, batches), predict(model, batches, 4).tolist())
    assert traced.calls == calls
    assert first[1] == pytest.approx([value - 0.5 for value in second[1]])
    reference = weakref.ref(model)
    del model, traced
    keras.backend.clear_session()
    gc.collect()
    assert reference() is None
