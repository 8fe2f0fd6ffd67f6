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
        symbolic = keras.tree.map_structure(lambda x: keras.Input(x.shape[1:], dtype=str(x.dtype)), inputs)
        keras.utils.set_random_seed(0)
        layer = build()
        output = layer(symbolic)
        model = keras.Model(symbolic, output)
        expected = model(inputs)
        assert tuple(output.shape) == (None, *expected.shape[1:])
        shapes = keras.tree.map_structure(lambda x: (None, *x.shape[1:]), inputs)
        if isinstance(inputs, dict):
            shapes = {name: (None, *x.shape[1:]) for name, x in inputs.items()}
        assert tuple(layer.compute_output_shape(shapes)) == (None, *expected.shape[1:])
        half = keras.tree.map_structure(lambda x: x[:1], inputs)
        np.testing.assert_allclose(model(half), expected[:1], rtol=1e-5, atol=1e-6)
        assert type(layer).from_config(layer.get_config()).get_config() == layer.get_config()
        model.save(tmp_path / "layer.keras")
        loaded = keras.saving.load_model(tmp_path / "layer.keras")
        np.testing.assert_array_equal(loaded(inputs), expected)
        mixed = build(dtype="mixed_bfloat16")
        mixed(inputs)
        assert {variable.dtype for variable in mixed.trainable_variables} <= {"float32"}

    return check
