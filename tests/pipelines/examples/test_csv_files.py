"""The way in for those who have CSV or Parquet files, run as written, on fewer rows."""

import numpy as np

from c2al_tf.saved_model import SavedModel


def test_it_answers_and_exports(tmp_path, run_example, tiny_model) -> None:
    printed = run_example("csv_files", "--rows", 8000, "--seeds", 1, "--output", tmp_path, *tiny_model)
    assert "answer: undecided" in printed  # one seed decides nothing
    assert (tmp_path / "run" / "report.html").exists()
    with SavedModel(tmp_path / "run" / "export" / "1") as served:
        row = {
            "user_id": np.array([1]),
            "age": np.array([30], np.float32),
            "city": np.array(["oslo"], object),
            "genre": np.array(["crime"], object),
            "Price_EUR": np.array([np.nan], np.float32),
        }
        assert 0 < served.run(row)["probabilities"][0, 0] < 1
