"""`c2al predict` against `c2al serve`: what the client writes is what the model predicts."""

import csv
import json
import re
import signal
import urllib.request
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from c2al_serving.config.model_config import ModelConfig
from c2al_serving.server import Server
from scipy.special import expit

from c2al_tf.data.columns.examples import write_tfrecord
from c2al_tf.data.columns.raw import concatenate
from c2al_tf.data.columns.readers import read_columns
from c2al_tf.data.columns.shards import write_parquet
from c2al_tf.files import read_json
from c2al_tf.schema import Schema

ROWS = 300


@pytest.fixture(scope="module")
def served(finished, start_script):
    """`c2al serve` on the run's export, in a process of its own: its ports; it ends cleanly at SIGTERM."""
    words = ("--grpc-port", 0, "--rest-port", 0, "--model-name", "ads")
    with start_script("serve", finished.path / "export", *words) as process:
        line = process.stdout.readline()
        found = re.fullmatch(r"model ads, version 1: gRPC on 127.0.0.1:(\d+), REST on 127.0.0.1:(\d+)\n", line)
        assert found, line + process.stderr.read()
        yield tuple(map(int, found.groups()))
        process.send_signal(signal.SIGTERM)
        output, error = process.communicate()
    assert (process.returncode, output, error) == (0, "", "")


@pytest.fixture(scope="module")
def schema(finished) -> Schema:
    return Schema.load(finished.path / "schema.json")


@pytest.fixture(scope="module")
def rows(finished, schema) -> dict[str, np.ndarray]:
    columns = concatenate(list(read_columns(finished.path / "data" / "test-00000.parquet", schema.columns)))
    return {name: values[:ROWS] for name, values in columns.items()}


@pytest.fixture(scope="module")
def expected(finished) -> np.ndarray:
    """The logits of the Keras model that was exported."""
    seed = read_json(finished.path / "export.json")["seed"]
    return np.load(finished.path / f"seeds/{seed}/c2al/test_logits.npy")[:ROWS]


def write_rows(path: Path, rows: dict[str, np.ndarray], schema: Schema) -> Path:
    """The features' columns, and a label that the model does not ask for."""
    columns = {name: schema.columns[name] for name in rows}
    if path.suffix == ".parquet":
        write_parquet(path, [rows], columns)
    elif path.suffix == ".tfrecord":
        write_tfrecord(path, [rows], columns)
    else:
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(rows)
            writer.writerows(zip(*(values.tolist() for values in rows.values()), strict=True))
    return path


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".tfrecord"])
@pytest.mark.parametrize("output_suffix", [".parquet", ".csv"])
def test_every_format_gives_what_the_model_predicts(
    served, c2al, rows, schema, expected, tmp_path, suffix, output_suffix
) -> None:
    """Property 9, with requests of 128 rows, so that a file is more than one."""
    file, output = write_rows(tmp_path / f"rows{suffix}", rows, schema), tmp_path / "new" / f"out{output_suffix}"
    call = ("--server", f"127.0.0.1:{served[0]}", "--model", "ads", "--output", output, "--batch-size", 128)
    outcome = c2al("predict", file, *call)
    assert (outcome.status, outcome.output) == (0, f"300 rows: {output}\n"), outcome.error
    table = pq.read_table(output) if output_suffix == ".parquet" else pa.csv.read_csv(output)
    assert table.column_names == ["logits", "probabilities"]
    assert table.num_rows == ROWS
    np.testing.assert_allclose(table["logits"], expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(table["probabilities"], expit(expected.astype(np.float64)), rtol=1e-5, atol=1e-6)
    assert [path.name for path in output.parent.iterdir()] == [output.name]


def test_a_folder_of_files_and_an_output_in_it(served, c2al, rows, schema, expected, tmp_path) -> None:
    halves = [slice(0, 130), slice(130, ROWS)]
    for half, suffix in zip(halves, (".csv", ".parquet"), strict=True):
        part = {name: values[half] for name, values in rows.items()}
        write_rows(tmp_path / f"rows-{half.start:03d}{suffix}", part, schema)
    call = ("--server", f"127.0.0.1:{served[0]}", "--model", "ads", "--output", tmp_path / "out.parquet")
    outcome = c2al("predict", tmp_path, *call, "--batch-size", 128)
    assert outcome.status == 0, outcome.error
    np.testing.assert_allclose(pq.read_table(tmp_path / "out.parquet")["logits"], expected, rtol=1e-5, atol=1e-5)


def test_rest_gives_the_same(served, rows, schema, expected) -> None:
    names = [feature.name for feature in schema.features]
    instances = [{name: rows[name][row].item() if rows[name].dtype != object else rows[name][row] for name in names}
                 for row in range(10)]  # fmt: skip
    url = f"http://127.0.0.1:{served[1]}/v1/models/ads"
    with urllib.request.urlopen(f"{url}:predict", json.dumps({"instances": instances}).encode(), timeout=300) as answer:
        predictions = json.load(answer)["predictions"]
    np.testing.assert_allclose([p["logits"][0] for p in predictions], expected[:10], rtol=1e-5, atol=1e-5)
    with urllib.request.urlopen(url, timeout=300) as answer:
        assert json.load(answer)["model_version_status"][0]["state"] == "AVAILABLE"


@pytest.mark.parametrize(
    ("change", "words", "message"),
    [
        ("another name", (), r"rows.parquet: no column `ad_id`; present are \['ad', 'advertiser_id'"),
        ("another type", (), r"rows.parquet.*ad_id.*int64"),
        ("", ("--model", "other"), r"model 'other' at 127.0.0.1:\d+: NOT_FOUND: .*other"),
        ("", ("--metadata", "token"), r"`--metadata` must be KEY=VALUE. Received: token"),
        ("", ("--metadata", "Token=1=2"), r"`metadata` must have lower-case keys.*'Token' with '1=2'"),
        ("", ("--batch-size", "0"), r"`max_rows` must be at least 1. Received: max_rows=0"),
        ("", ("--server", "127.0.0.1:1"), r"model 'ads' at 127.0.0.1:1: UNAVAILABLE"),
        ("", ("--output", "out.txt"), r"`--output` must end in .parquet or .csv. Received: out.txt"),
    ],
)
def test_what_cannot_be_predicted(served, c2al, rows, schema, tmp_path, change, words, message) -> None:
    file = write_rows(tmp_path / "rows.parquet", rows, schema)
    table = pq.read_table(file)
    place = table.column_names.index("ad_id")
    if change == "another name":
        table = table.rename_columns(["ad" if name == "ad_id" else name for name in table.column_names])
    if change == "another type":
        table = table.set_column(place, "ad_id", pa.array(["seven"] * ROWS))
    pq.write_table(table, file)
    output = tmp_path / "out.parquet"
    default = {"--server": f"127.0.0.1:{served[0]}", "--model": "ads", "--output": str(output)}
    call = default | dict(zip(words[::2], words[1::2], strict=True))
    outcome = c2al("predict", file, *(word for pair in call.items() for word in pair))
    assert outcome.status == 1
    assert re.search(message, outcome.error), outcome.error
    assert [path.name for path in tmp_path.iterdir()] == ["rows.parquet"]


def test_a_file_without_rows(served, c2al, rows, tmp_path) -> None:
    (tmp_path / "rows.csv").write_text(",".join(rows) + "\n")
    call = ("--server", f"127.0.0.1:{served[0]}", "--model", "ads", "--output", tmp_path / "out.csv")
    outcome = c2al("predict", tmp_path / "rows.csv", *call)
    assert outcome.status == 1
    assert f"{tmp_path / 'rows.csv'}: the file has no rows; at least one is needed" in outcome.error
    assert [path.name for path in tmp_path.iterdir()] == ["rows.csv"]


def test_a_served_model_that_differs_is_seen(finished, rows, schema, expected) -> None:
    """What the run writes to `served.json`: logits that are off by 0.5 in one row are 0.5 off."""
    from c2al_pipelines.prediction.predict import compare_served

    columns = {feature.name: rows[feature.name] for feature in schema.features}
    wrong = expected.copy()
    wrong[17] += 0.5
    with Server([ModelConfig("ads", finished.path / "export")]) as server:
        answer = compare_served(f"127.0.0.1:{server.grpc_port}", "ads", columns, {"logits": wrong})
    assert answer["rows"] == ROWS
    assert answer["max_logit_difference"] == pytest.approx(0.5, abs=1e-5)
    assert answer["rows_per_second"] > 0
