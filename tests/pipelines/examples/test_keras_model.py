"""The way in for those who have a Keras model, run as written, on fewer rows."""

import numpy as np

from c2al_tf.saved_model import SavedModel


def test_it_compares_and_exports(tmp_path, run_example) -> None:
    printed = run_example("keras_model", "--rows", 40_000, "--seeds", 1, "--output", tmp_path)
    assert "everyone else" in printed
    assert "c2al serve" in printed
    with SavedModel(tmp_path / "export" / "1") as served:
        row = {"age": np.array([30], np.float32), "city": np.array(["oslo"], object), "item": np.array([7])}
        assert 0 < served.run(row)["probabilities"][0, 0] < 1
