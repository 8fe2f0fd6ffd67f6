"""The Python of README and PIECES, as printed, with nothing but what its prose says that the reader has."""

import re
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

REPOSITORY = Path(__file__).parents[1]


def blocks(page: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", (REPOSITORY / page).read_text(), re.MULTILINE | re.DOTALL)


def your_model() -> keras.Model:
    """Two inputs, whose names enclose that of a column which the model does not read."""
    device, weeks = keras.Input((), name="device"), keras.Input((), name="weeks")
    x = keras.layers.Concatenate()([keras.layers.Reshape((1,))(each) for each in (device, weeks)])
    h = keras.layers.Dense(4, "relu", name="last_hidden_layer")(x)
    return keras.Model({"device": device, "weeks": weeks}, keras.layers.Dense(1)(h))


def what_the_reader_has() -> dict[str, object]:
    """Clicks are three times as frequent from 50 years on, and today's model says so; one user has four rows."""
    rng = np.random.default_rng(0)
    rows = 8000
    columns = {"age": rng.uniform(18, 70, rows).astype(np.float32)}
    rate = np.where(columns["age"] >= 50, 0.3, 0.1)
    labels = (rng.random(rows) < rate).astype(np.float32)
    features = columns | {
        "city": np.where(labels == 1, "rome", "bonn").astype(object),
        "device": rng.integers(0, 3, rows).astype(np.float32),
        "height": rng.normal(170, 10, rows).astype(np.float32),
        "weeks": rng.uniform(0, 1, rows).astype(np.float32),
    }
    return {
        "predictions": rate * rng.uniform(0.5, 1.5, rows),
        "columns": columns,
        "labels": labels,
        "user_ids": np.arange(rows) // 4,
        "columns_of_some_rows": {name: values[:100] for name, values in features.items()},
        "your_model": your_model(),
        "your_dataset": tf.data.Dataset.from_tensor_slices((features, labels)).batch(500),
    }


# By Keras, of any dataset.
pytestmark = pytest.mark.filterwarnings("ignore:`shuffle=True` was passed, but will be ignored:UserWarning")


def test_the_five_calls_run_as_printed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = what_the_reader_has()["your_dataset"]
    keras.utils.set_random_seed(0)
    age = keras.Input((), name="age")
    h = keras.layers.Dense(8, "relu", name="last_hidden_layer")(
        keras.layers.Rescaling(1 / 70)(keras.layers.Reshape((1,))(age))
    )
    model = keras.Model({"age": age}, keras.layers.Dense(1)(h))
    model.compile(keras.optimizers.Adam(0.02), keras.losses.BinaryCrossentropy(from_logits=True))
    model.fit(rows.map(lambda x, y: ({"age": x["age"]}, y)), epochs=5, verbose=0)
    before = model.get_weights()
    namespace = {"model": model, "train": rows, "validation": rows}
    (five,) = blocks("README.md")
    exec(five, namespace)
    assert {column for cohort in namespace["cohorts"] for column in cohort.columns} == {"age"}
    saved = keras.saving.load_model("today.keras")
    assert [weight.path for weight in saved.weights] == [weight.path for weight in model.weights]
    assert not np.array_equal(saved.get_weights()[0], before[0])


def test_the_code_of_pieces_runs_as_printed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace = what_the_reader_has()
    first, export, tables = blocks("c2al_tf/PIECES.md")
    exec(first, namespace)
    before, serving, model = namespace["your_model"], namespace["serving"], namespace["model"]
    assert serving.get_config() == before.get_config()
    assert {weight.path for weight in serving.weights} == {weight.path for weight in before.weights}
    for x, *_ in namespace["your_dataset"].take(1):
        expected = serving({"device": x["device"], "weeks": x["weeks"]})
        np.testing.assert_array_equal(model(x)["primary"], expected)
    for x, y in namespace["dataset"].take(1):
        assert sorted(x) == ["device", "weeks"]
        assert list(y) == ["primary", *(cohort.name for cohort in namespace["cohorts"])]
    rows = {name: namespace["columns_of_some_rows"][name] for name in ("device", "weeks")}
    before.export("serving/ranker/7", verbose=False)  # today's
    exec(export, namespace | {"predictions_of_them": before.predict(rows, verbose=0)})
    assert Path("serving/ranker/8/saved_model.pb").exists()
    exec(tables, namespace)
    namespace["model"].compile(namespace["optimizer"], loss="mse")
