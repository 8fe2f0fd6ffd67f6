import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from c2al_pipelines.run.config import load_config


@pytest.fixture
def folder(tmp_path):
    for split, rows in (("train", 1000), ("test", 300)):
        path = tmp_path / "clicks" / split / "part-0.parquet"
        path.parent.mkdir(parents=True)
        index = np.arange(rows)
        clicks = (index % 7 == 0).astype(int)
        pq.write_table(pa.table({"age": index % 60, "vip": index % 2, "click": clicks, "at": index + 10**9}), path)
    return tmp_path / "clicks"


def test_it_writes_a_configuration_and_says_what_to_run(c2al, folder, tmp_path) -> None:
    output = tmp_path / "my clicks.yaml"
    outcome = c2al("init", folder, "--output", output)
    assert (outcome.status, outcome.error) == (0, "")
    config = load_config(output)
    assert (config.data.files.train, config.data.files.label) == ("train/*.parquet", "click")
    assert "│ age" in outcome.output
    assert "left out" in outcome.output
    assert f"c2al run '{output}' --data {folder} --run-dir 'runs/my clicks'" in outcome.output
    assert [path.name for path in tmp_path.iterdir() if path.name != "clicks"] == ["my clicks.yaml"]


def test_rows_are_prepared_as_it_is_written(c2al, folder, tmp_path) -> None:
    output, run = tmp_path / "run.yaml", tmp_path / "run"
    assert c2al("init", folder, "--output", output, "--label", "vip").status == 0
    assert load_config(output).data.files.label == "vip"
    outcome = c2al("prepare", output, "--data", folder, "--run-dir", run)
    assert outcome.status == 0, outcome.error
    assert (run / "schema.json").exists()


def test_a_file_that_is_there_stays_unless_asked(c2al, folder, tmp_path) -> None:
    output = tmp_path / "run.yaml"
    output.write_text("mine")
    outcome = c2al("init", folder, "--output", output)
    assert outcome.status == 1
    assert f"{output} is there; give another --output, or --overwrite true to replace it" in outcome.error
    assert output.read_text() == "mine"
    assert c2al("init", folder, "--output", output, "--overwrite", "true").status == 0
    assert load_config(output).data.files.label == "click"


def test_an_error_writes_nothing(c2al, folder, tmp_path) -> None:
    outcome = c2al("init", folder, "--output", tmp_path / "run.yaml", "--label", "age")
    assert outcome.status == 1
    assert outcome.error.startswith("c2al: `label` must be a column of 0 and 1")
    assert not (tmp_path / "run.yaml").exists()
