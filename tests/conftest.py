"""What all tests share: where real data is, a small world to train on, and what every layer owes."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of the real data sets; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("C2AL_DATA") or Path(__file__).parents[2] / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"real data is not at {folder}; set C2AL_DATA to the folder that holds census_income_kdd")
    return folder


@pytest.fixture
def check_layer(tmp_path: Path) -> Callable[..., None]:
    """What every layer owes: output shape, any batch size, config and file round trips, mixed precision."""
    import keras

    def check(build: Callable[..., keras.layers.Layer], inputs: Any) -> None:
        named = isinstance(inputs, dict)
        symbolic = {
            name: keras.Input(x.shape[1:], dtype=str(x.dtype), name=name)
            for name, x in (inputs if named else {"x": inputs}).items()
        }
        symbolic = symbolic if named else symbolic["x"]
        keras.utils.set_random_seed(0)
        layer = build()
        output = layer(symbolic)
        model = keras.Model(symbolic, output)
        expected = model(inputs)
        assert tuple(output.shape) == (None, *expected.shape[1:])
        shapes = {name: (None, *x.shape[1:]) for name, x in inputs.items()} if named else (None, *inputs.shape[1:])
        assert tuple(layer.compute_output_shape(shapes)) == (None, *expected.shape[1:])
        first = {name: x[:1] for name, x in inputs.items()} if named else inputs[:1]
        np.testing.assert_allclose(model(first), expected[:1], rtol=1e-5, atol=1e-6)
        assert type(layer).from_config(layer.get_config()).get_config() == layer.get_config()
        model.save(tmp_path / "layer.keras")
        loaded = keras.saving.load_model(tmp_path / "layer.keras")
        np.testing.assert_array_equal(loaded(inputs), expected)
        mixed = build(dtype="mixed_bfloat16")
        mixed(inputs)
        assert {variable.dtype for variable in mixed.trainable_variables} <= {"float32"}

    return check


@pytest.fixture(scope="session")
def small_schema() -> Any:
    """Categorical, hashed, multi-valued and numeric features."""
    from c2al_tf.schema import CategoricalFeature, NumericFeature, Schema

    return Schema(
        features=(
            CategoricalFeature("color", "string", vocabulary=("red", "green", "blue"), missing="slot"),
            CategoricalFeature("user", "int64", num_hash_buckets=50),
            CategoricalFeature("tags", "string", vocabulary=("a", "b", "c"), length=2, missing="slot"),
            NumericFeature("age", "standard", mean=40.0, std=10.0, boundaries=(30.0, 50.0), missing="slot"),
        ),
        axes=(("age",), ("color",)),
    )


def draw_rows(num_rows: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Raw rows of `small_schema`: the label depends on another feature below 30 and from 50 years on."""
    rng = np.random.default_rng(seed)
    rows: dict[str, np.ndarray] = {
        "color": rng.choice(np.array(["red", "green", "blue", "pink", ""], object), num_rows),
        "user": rng.integers(0, 200, num_rows),
        "tags": rng.choice(np.array(["a", "b", "c"], object), (num_rows, 2)),
        "age": rng.uniform(15, 70, num_rows).astype(np.float32),
    }
    rows["tags"][::3, 1] = ""
    score = np.where(rows["age"] < 30, rows["color"] == "red", rows["user"] % 2 == 0) - 1.0 - (rows["age"] >= 50)
    rows["label"] = (rng.random(num_rows) < 1 / (1 + np.exp(-2 * score))).astype(np.float32)
    return rows


@pytest.fixture(scope="session")
def small_rows() -> Callable[..., dict[str, np.ndarray]]:
    """`draw_rows(num_rows, seed=0)`."""
    return draw_rows


@pytest.fixture(scope="session")
def small_cohorts() -> Any:
    """A young and an old cohort."""
    from c2al_tf.cohorts import Cohort, Interval

    return (Cohort("young", (Interval("age", high=30.0),)), Cohort("old", (Interval("age", low=50.0),)))


@pytest.fixture(scope="session")
def small_file(tmp_path_factory: pytest.TempPathFactory, small_schema: Any) -> Path:
    """1,000 rows of `small_schema` in a Parquet file."""
    from c2al_tf.data.columns.shards import write_parquet

    path = tmp_path_factory.mktemp("rows") / "rows.parquet"
    write_parquet(path, [draw_rows(1000)], small_schema.columns)
    return path
