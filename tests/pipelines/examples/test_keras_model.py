"""The way in for those who have a Keras model, run as written, on fewer rows."""

import runpy
import sys
from pathlib import Path

import numpy as np

from c2al_tf.saved_model import SavedModel

SCRIPT = Path(__file__).parents[3] / "pipelines" / "examples" / "keras_model.py"


def test_it_compares_and_exports(tmp_path, monkeypatch, capsys) -> None:
    arguments = ["--rows", "40000", "--seeds", "1", "--output", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *arguments])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    printed = capsys.readouterr().out
    assert "everyone else" in printed
    assert "c2al serve" in printed
    with SavedModel(tmp_path / "export" / "1") as served:
        row = {"age": np.array([30], np.float32), "city": np.array(["oslo"], object), "item": np.array([7])}
        assert 0 < served.run(row)["probabilities"][0, 0] < 1
