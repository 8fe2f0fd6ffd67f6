"""Logs scored by exported models: the logits are the models' own, and a call that was ended goes on."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from c2al_pipelines.beam import scoring
from c2al_pipelines.beam.log import Log
from c2al_pipelines.beam.pieces import list_pieces
from c2al_pipelines.beam.scoring import score_log

from c2al_tf.saved_model import SavedModel
from c2al_tf.saved_model.native import set_xla

ROWS = 10_000


class Model(tf.Module):
    def __init__(self, slope: float) -> None:
        super().__init__()
        self.slope = tf.Variable(slope)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int64, "age"), tf.TensorSpec([None], tf.string, "city")])
    def serve(self, age, city):
        logits = self.slope * tf.cast(age, tf.float32) - tf.cast(tf.strings.length(city), tf.float32)
        return {"logits": logits[:, tf.newaxis]}


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    made = {name: Model(slope) for name, slope in (("old", 0.1), ("new", 0.2))}
    for name, model in made.items():
        tf.saved_model.save(model, str(folder / name), signatures=model.serve)
    return {name: folder / name for name in made}


@pytest.fixture(scope="module")
def rows() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    city = rng.choice(np.array(["Rome", "Oslo", "Reykjavik"], object), ROWS)
    return {"age": rng.integers(0, 90, ROWS), "city": city, "click": rng.integers(0, 2, ROWS)}


@pytest.fixture
def log(rows, tmp_path, monkeypatch) -> Log:
    """Three files, the middle one in two pieces."""
    monkeypatch.setattr(scoring.list_pieces, "__defaults__", (3000, None, None))
    for name, start, stop in (("a", 0, 1000), ("b", 1000, 6000), ("c", 6000, ROWS)):
        table = pa.table(rows).slice(start, stop - start)
        (tmp_path / "log").mkdir(exist_ok=True)
        pq.write_table(table, tmp_path / "log" / f"{name}.parquet", row_group_size=2500)
    return Log((str(tmp_path / "log"),), "click")


def assert_scored(folder: Path, rows: dict[str, np.ndarray], models: dict[str, Path]) -> None:
    files = sorted(folder.glob("*.parquet"))
    written = pa.concat_tables([pq.read_table(file) for file in files])
    assert written.column_names == ["city", "click", *models]
    for name in ("city", "click"):
        assert written[name].to_pylist() == rows[name].tolist()
    for name, directory in models.items():
        with SavedModel(directory) as model:
            wanted = model.run({each: rows[each] for each in ("age", "city")})["logits"][:, 0]
        np.testing.assert_array_equal(written[name].to_numpy(), wanted)


def test_logits_are_the_models_own_in_order(log, rows, models, tmp_path) -> None:
    assert score_log(log, models, ["city"], tmp_path / "scored") == ROWS
    assert set_xla(True)  # as it was: it is off while a model is loaded
    assert_scored(tmp_path / "scored", rows, models)


def test_a_call_that_was_ended_goes_on_where_it_was(log, rows, models, tmp_path, monkeypatch) -> None:
    folder, written, write = tmp_path / "scored", [], scoring.write_parquet

    def stops_at_the_third(path, *args):
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(path)
        return write(path, *args)

    monkeypatch.setattr(scoring, "write_parquet", stops_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        score_log(log, models, ["city"], folder)
    before = {path: path.stat().st_mtime_ns for path in written}
    monkeypatch.setattr(scoring, "write_parquet", write)
    score_log(log, models, ["city"], folder)
    assert {path: path.stat().st_mtime_ns for path in written} == before
    assert_scored(folder, rows, models)


def test_a_model_or_a_type_that_has_changed_is_not_mixed_in(log, rows, models, tmp_path) -> None:
    folder, model = tmp_path / "scored", tmp_path / "model"
    shutil.copytree(models["old"], model)
    score_log(log, {"score": model}, [], folder)
    with pytest.raises(ValueError, match="other columns. Give another folder"):
        score_log(dataclasses.replace(log, dtypes={"click": "string"}), {"score": model}, [], folder)
    shutil.rmtree(model)
    shutil.copytree(models["new"], model)
    with pytest.raises(ValueError, match="other models. Give another folder"):
        score_log(log, {"score": model}, [], folder)
    score_log(log, {"new": model}, ["city"], tmp_path / "other")
    assert_scored(tmp_path / "other", rows, {"new": models["new"]})


def test_a_folder_that_is_scored_in_part_is_not_read(log, models, tmp_path) -> None:
    folder = tmp_path / "scored"
    score_log(log, models, [], folder)
    assert sum(piece.num_rows for piece in list_pieces(folder)) == ROWS
    (folder / "_SUCCESS").unlink()
    with pytest.raises(ValueError, match="not all rows are there yet: the command that writes them goes on"):
        list_pieces(folder)


def test_what_does_not_fit_is_named(log, models, tmp_path) -> None:
    folder = tmp_path / "scored"
    with pytest.raises(ValueError, match="a name that no column has. Received: click"):
        score_log(log, {"click": models["old"]}, [], folder)
    with pytest.raises(ValueError, match="Model old: .*: no output `score`. It has: logits"):
        score_log(log, models, [], folder, output="score")
    with pytest.raises(ValueError, match="`age` must be read as one type.* Received: int64, .*; elsewhere float32"):
        score_log(dataclasses.replace(log, dtypes={"age": "float32"}), models, ["age"], folder)
    with pytest.raises(ValueError, match="no column `town`"):
        score_log(log, models, ["town"], folder)
    assert not folder.exists()
    score_log(log, models, ["city"], folder)
    with pytest.raises(ValueError, match="scored from something else: other models, columns. Give another folder"):
        score_log(log, {"old": models["new"]}, [], folder)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "notes.txt").touch()
    with pytest.raises(ValueError, match="taken must be empty"):
        score_log(log, models, [], tmp_path / "taken")


def test_the_command(log, rows, models, tmp_path, c2al) -> None:
    words = [f"--models.{name}={directory}" for name, directory in models.items()]
    found = c2al("score-logs", *log.files, "--label=click", *words, "--keep", "city", "--output", tmp_path / "scored")
    assert found.output.startswith("10,000 rows: ")
    assert_scored(tmp_path / "scored", rows, models)
