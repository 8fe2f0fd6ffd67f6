"""`c2al predict` killed and called again, against `c2al serve`: the output is what one call would have written."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from c2al_pipelines.prediction.parts import Job, open_parts
from c2al_pipelines.prediction.predict import predict_file
from c2al_serving.client import PredictClient
from c2al_serving.config.model_config import ModelConfig, VersionPolicy
from c2al_serving.server import Server

from c2al_tf.files import lock, read_json

ROWS = 30_000


class Halves(tf.Module):
    def __init__(self, bias):
        self.bias = tf.Variable(float(bias))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int64, "x")])
    def logits(self, x):
        return {"logits": (tf.cast(x, tf.float32) / 2 + self.bias)[:, tf.newaxis]}


def expected(version, rows=ROWS):
    return np.arange(rows) / 2 + 100_000 * version


@pytest.fixture(scope="module")
def versions(tmp_path_factory):
    folder = tmp_path_factory.mktemp("versions")
    for version in (1, 2):
        module = Halves(100_000 * version)
        tf.saved_model.save(module, str(folder / str(version)), signatures={"serving_default": module.logits})
    return folder


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("rows") / "rows.parquet"
    pq.write_table(pa.table({"x": np.arange(ROWS), "label": np.zeros(ROWS)}), path, row_group_size=7000)
    return path


@pytest.fixture
def base_path(versions, tmp_path):
    """Holds version 1."""
    shutil.copytree(versions / "1", tmp_path / "export" / "1")
    return tmp_path / "export"


@pytest.fixture
def target(base_path):
    with Server(base_path, poll_seconds=0.05) as server:
        yield f"127.0.0.1:{server.grpc_port}"


# The command, with a part for each answer; it says when the part is finished, and waits until it may go on.
HALTING = """
import sys
from c2al_pipelines import cli
from c2al_pipelines.prediction import predict
from c2al_pipelines.prediction.parts import Parts
predict._PART_SECONDS = 0.0
append = Parts.append
def append_and_halt(*args):
    append(*args)
    print("finished", flush=True)
    sys.stdin.readline()
Parts.append = append_and_halt
cli.main(["predict", *sys.argv[1:], "--concurrency", "1"])
"""


@pytest.fixture
def predicting(start_process):
    """`with predicting(words) as process`: `c2al predict` in a process of its own, when a part is finished."""

    @contextlib.contextmanager
    def start(words):
        with start_process([sys.executable, "-c", HALTING, *words], stdin=subprocess.PIPE) as process:
            assert process.stdout.readline() == "finished\n", process.stderr.read()
            yield process

    return start


def finished(output):
    """When each part was written, by name."""
    paths = sorted(Path(f"{output}.parts").glob("[0-9]*.parquet"))
    return {path.name: path.stat().st_mtime_ns for path in paths}


def logits(output):
    table = pq.read_table(output) if output.suffix == ".parquet" else pa.csv.read_csv(output)
    return table["logits"].to_numpy()


def test_killed_twice_it_goes_on_where_it_stopped(target, file, predicting, c2al, tmp_path):
    output = tmp_path / "new" / "out.csv"
    words = (file, "--server", target, "--output", output, "--batch-size", 300)
    done = {}
    for parts in (1, 2):
        with predicting(words) as process:
            process.kill()
            assert process.wait() == -signal.SIGKILL
        assert not output.exists()
        assert finished(output).items() >= done.items()
        done = finished(output)
        assert len(done) == parts
    assert c2al("predict", *words).output == f"{ROWS:,} rows: {output}\n"
    np.testing.assert_array_equal(logits(output), expected(1))
    assert [path.name for path in output.parent.iterdir()] == [output.name]


def test_versions_are_not_mixed(target, base_path, versions, file, predicting, c2al, tmp_path, until):
    """The version goes while it is asked; a call finds it gone; it is back; and the other is asked from the start."""
    output, said = tmp_path / "out.parquet", r"rows are done, by version 1: with that version served, the same"
    words = (file, "--server", target, "--output", output, "--batch-size", 300)

    def available():
        return [status.version for status in client.status() if status.state == "AVAILABLE"]

    with predicting(words) as process, PredictClient(target) as client:
        shutil.copytree(versions / "2", tmp_path / "copy")
        os.rename(tmp_path / "copy", base_path / "2")
        until(lambda: available() == [2])
        error = process.communicate("\n" * ROWS)[1]
        assert process.returncode == 1
        assert re.search(f"NOT_FOUND.*\n.*{said}", error), error
    assert re.search(f"NOT_FOUND.*\n.*{said}", c2al("predict", *words).error)
    done = finished(output)
    assert done

    shutil.rmtree(base_path / "2")
    with PredictClient(target) as client:
        until(lambda: available() == [1])
    with predicting(words) as process:
        process.kill()
    assert finished(output).items() > done.items()

    with Server(
        [ModelConfig("default", versions, VersionPolicy(None), {"canary": 2})], allow_unavailable_labels=True
    ) as server:
        there = ("--server", f"127.0.0.1:{server.grpc_port}", "--label", "canary")
        refused = c2al("predict", *words, *there)
        assert refused.status == 1
        assert re.search(r"server was '.*', is '.*'; label was None, is 'canary'\. .*--restart", refused.error)
        assert finished(output).items() >= done.items()
        assert c2al("predict", *words, *there, "--restart", "--batch-size", 4096).status == 0
    np.testing.assert_array_equal(logits(output), expected(2))


@pytest.fixture
def client(versions):
    with Server(versions) as server, PredictClient(f"127.0.0.1:{server.grpc_port}", max_rows=4096) as client:
        yield client


def begin(client, file, output, rows):
    """What a call leaves that was killed after `rows` rows."""
    with open_parts(output) as parts:
        parts.begin(Job.of(file, [file], client), 2)
        parts.append(pa.table({"logits": expected(2)[:rows].astype(np.float32)}))


@pytest.mark.parametrize("published", [False, True])
def test_killed_when_all_is_predicted_it_needs_no_server(file, tmp_path, published):
    """Before the output has its name, or when it has it and the parts are still there."""
    output = tmp_path / "out.parquet"
    with PredictClient("127.0.0.1:1") as nobody:
        begin(nobody, file, output, ROWS)
        if published:
            output.write_text("an output")
        assert predict_file(file, nobody, output) == ROWS
    np.testing.assert_array_equal(logits(output), expected(2))
    assert [path.name for path in tmp_path.iterdir()] == ["out.parquet"]


def test_a_row_is_asked_for_once(client, file, tmp_path):
    output, sent = tmp_path / "out.parquet", []
    begin(client, file, output, 3 * 4096)
    ask = client.predict
    client.predict = lambda batch: sent.extend(batch["x"].tolist()) or ask(batch)
    predict_file(file, client, output, concurrency=1)
    assert sent == list(range(3 * 4096, ROWS))
    np.testing.assert_array_equal(logits(output), expected(2))


def test_parts_of_another_input(client, file, tmp_path):
    rows, output = tmp_path / "rows.parquet", tmp_path / "out.parquet"
    shutil.copy(file, rows)
    begin(client, rows, output, 4096)
    os.utime(rows, ns=(1, 1))
    message = r"out.parquet.parts holds 4,096 rows .*: input_files was .*input_mtime_ns was \d+, is 1\. Give"
    with pytest.raises(ValueError, match=message):
        predict_file(rows, client, output)
    assert finished(output)
    predict_file(rows, client, output, restart=True)
    np.testing.assert_array_equal(logits(output), expected(2))


def test_an_input_that_changes_while_it_is_read(client, file, tmp_path):
    rows, output = tmp_path / "rows.parquet", tmp_path / "out.parquet"
    shutil.copy(file, rows)
    ask = client.predict
    client.predict = lambda batch: os.utime(rows, ns=(1, 1)) or ask(batch)
    with pytest.raises(ValueError, match=r"rows.parquet has changed while it was read; begin anew with --restart"):
        predict_file(rows, client, output)
    assert not output.exists()


def test_what_is_no_part_stays(client, file, tmp_path):
    """Files of others in the folder, and parts without their record, which a call that ended was removing."""
    output = tmp_path / "out.parquet"
    begin(client, file, output, 4096)
    folder = tmp_path / "out.parquet.parts"
    (folder / "job.json").unlink()
    (folder / "notes.txt").touch()
    predict_file(file, client, output)
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]
    np.testing.assert_array_equal(logits(output), expected(2))


def test_one_call_at_a_time(client, file, tmp_path):
    output = tmp_path / "out.parquet"
    begin(client, file, output, 4096)
    with (
        lock(tmp_path / "out.parquet.parts"),
        pytest.raises(ValueError, match=r"out.parquet.parts: another `c2al predict` is writing there"),
    ):
        predict_file(file, client, output)
    assert read_json(tmp_path / "out.parquet.parts" / "job.json")["answered_by"] == 2


def test_it_loads_no_tensorflow(run_python):
    code = "import c2al_pipelines.prediction.predict, sys; assert not sys.modules.keys() & {'tensorflow', 'keras'}"
    run_python(code)


def test_concurrency_must_be_positive(client, file, tmp_path):
    with pytest.raises(ValueError, match="`--concurrency` must be at least 1. Received: 0"):
        predict_file(file, client, tmp_path / "out.parquet", concurrency=0)


def test_inputs_that_a_file_cannot_fill(file, tmp_path):
    module = tf.Module()
    module.sums = tf.function(
        lambda x: {"logits": tf.reduce_sum(x, 1)}, input_signature=[tf.TensorSpec([None, None], tf.float32, "x")]
    )
    tf.saved_model.save(module, str(tmp_path / "export" / "1"), signatures={"serving_default": module.sums})
    with (
        Server(tmp_path / "export") as server,
        PredictClient(f"127.0.0.1:{server.grpc_port}") as client,
        pytest.raises(ValueError, match=r"\(batch, length\)\. Received: input 'x' of float32, shape \(None, None\)"),
    ):
        predict_file(file, client, tmp_path / "out.parquet")
    assert [path.name for path in tmp_path.iterdir()] == ["export"]
