"""The command `c2al generate`: files that hold the generator's rows, whoever writes them and however often."""

import hashlib
import json
import signal
import subprocess
import sys

import numpy as np
import pytest
from c2al_pipelines.datasets.ads_truth import measure_truth
from c2al_pipelines.datasets.ads_world import BLOCK_ROWS, SyntheticAds
from c2al_pipelines.datasets.generate import Plan, generate_files
from c2al_pipelines.datasets.synthetic_ads import generate, raw_columns

from c2al_tf.data.columns.readers import read_columns

PARAMETERS = SyntheticAds(num_rows=2 * BLOCK_ROWS + 50, validation_rows=BLOCK_ROWS + 5, test_rows=300, click_rate=0.02)
WORDS = ("--num-rows", 2 * BLOCK_ROWS + 50, f"--validation_rows={BLOCK_ROWS + 5}", "--test-rows=300")
WORDS += ("--click-rate", 0.02, "--num-shards=3")


def run(output, progress=False, **options):
    names = ("shard", "jobs")
    calling = {name: options.pop(name) for name in names if name in options}
    plan = Plan(options.pop("parameters", PARAMETERS), output, **({"num_shards": 3} | options))
    return generate_files(plan, progress=progress, **calling)


def digests(folder):
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "run.yaml"]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ads")
    return folder, run(folder)


@pytest.mark.parametrize("file_format", ["parquet", "tfrecord"])
def test_the_files_hold_the_rows(tmp_path, file_format):
    parameters = SyntheticAds(num_rows=BLOCK_ROWS + 5, validation_rows=3, test_rows=4, num_extra_ids=1)
    run(tmp_path, parameters=parameters, format=file_format, num_shards=2)
    for split in ("train", "validation", "test"):
        files = sorted((tmp_path / split).iterdir())
        for shard, file in enumerate(files):
            (expected, _), *more = generate(parameters, split, shard=shard, num_shards=2)
            (found,) = read_columns(file, raw_columns(parameters), BLOCK_ROWS)
            assert not more
            assert all(np.array_equal(found[name], column) for name, column in expected.items())
    # A split of fewer blocks than there are shards has fewer files: an empty one is an error to every reader.
    assert [len(list((tmp_path / split).iterdir())) for split in ("train", "validation", "test")] == [2, 1, 1]


def test_truth_is_written_beside(whole):
    folder, truth = whole
    written = json.loads((folder / "truth.json").read_text())
    assert written["made_from"]["click_rate"] == 0.02
    assert written["planted"]["head"]["pairs"][0] == ["category", "device"]
    assert written["planted"]["tail"]["members"].startswith("user_value in bottom 5 % (below 0.19")
    assert written["planted"]["majority"]["strength"] == PARAMETERS.majority_strength
    for split in ("train", "validation", "test"):
        for name, expected in measure_truth(PARAMETERS, split).items():
            assert truth[split][name].bayes_ne == pytest.approx(expected.bayes_ne, rel=1e-12)
            assert written["rows"][split][name]["bayes_ne"] == truth[split][name].bayes_ne
            assert written["rows"][split][name]["clicks"] == expected.clicks


def test_shards_of_several_calls_are_the_whole(whole, tmp_path):
    assert [run(tmp_path, shard=shard) is None for shard in (2, 0, 1)] == [True, True, False]
    assert digests(tmp_path) == digests(whole[0])


def test_processes_write_the_same_files(whole, tmp_path):
    assert run(tmp_path, jobs=2) == whole[1]
    assert digests(tmp_path) == digests(whole[0])


def test_finished_files_are_kept_and_missing_ones_written(whole, tmp_path):
    run(tmp_path)
    kept, torn, lost = (tmp_path / "train" / f"{i:05d}-of-00003.parquet" for i in range(3))
    before = kept.stat().st_mtime_ns
    # As a kill leaves it: a file that is not whole has no record yet, or not even its name.
    torn.write_bytes(torn.read_bytes()[:1000])
    (tmp_path / "shards" / "train-00001-of-00003.json").unlink()
    lost.rename(lost.with_name(f".123-{lost.name}"))
    assert run(tmp_path) == whole[1]
    assert digests(tmp_path) == digests(whole[0])
    assert kept.stat().st_mtime_ns == before


# The command, which says when it has written a record, and then waits.
HALTING = """
import sys
from c2al_pipelines import cli
from c2al_pipelines.datasets import generate
write_json = generate.write_json
def write_and_halt(*args):
    write_json(*args)
    print("written", flush=True)
    sys.stdin.read()
generate.write_json = write_and_halt
cli.main(sys.argv[1:])
"""


def test_a_killed_call_goes_on(whole, tmp_path, start_process, script):
    words = ("generate", "--output", tmp_path, *WORDS)
    with start_process([sys.executable, "-c", HALTING, *words], stdin=subprocess.PIPE) as process:
        assert process.stdout.readline() == "written\n", process.stderr.read()
        process.kill()
        assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "truth.json").exists()
    outcome = script(*words)
    assert outcome.status == 0, outcome.error
    assert digests(tmp_path) == digests(whole[0])
    assert "no model can beat" in outcome.output
    assert f"Train on it: c2al run {tmp_path}/run.yaml --data {tmp_path}" in outcome.output


def test_an_interrupt_stops_all_processes(tmp_path, start_script, until):
    words = ("--num-rows", 5000 * BLOCK_ROWS, "--num-shards", 2, "--jobs", 2)  # hours, were it not interrupted
    with start_script("generate", "--output", tmp_path, *words) as process:
        until(lambda: list(tmp_path.glob("train/.*")) or process.poll() is not None)
        process.send_signal(signal.SIGINT)
        _, error = process.communicate()  # its processes hold the pipe, too
    assert process.returncode == 1
    assert error.endswith("c2al: interrupted. The same command keeps what is finished and does the rest.\n")
    assert not list(tmp_path.glob("train/*.parquet"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_shards": 2}, "`num_shards` must be 3, as of the files that .* holds; .* Received: num_shards=2"),
        ({"format": "tfrecord"}, "`format` must be parquet, as of the files that .* Received: format=tfrecord"),
        (
            {"parameters": SyntheticAds(**{**vars(PARAMETERS), "num_users": 6000})},
            "`num_users` must be 5000, as of the files that .* Received: num_users=6000",
        ),
        ({"num_shards": 4}, "`num_shards` must be from 1 to 3: every file holds whole blocks of 65,536 of the 131,122"),
        ({"shard": 3}, r"`shard` must be in \[0, 3\). Received: shard=3"),
        ({"jobs": 0}, "`jobs` must be at least 1. Received: jobs=0"),
    ],
)
def test_bad_input(whole, change, message):
    before = digests(whole[0])
    with pytest.raises(ValueError, match=message):
        run(whole[0], **change)
    assert digests(whole[0]) == before


def test_a_run_reads_the_files(c2al, whole, tmp_path):
    """The configuration is the demo's; the schema learnt from the files is the world's but for values never seen."""
    from c2al_tf.data.inputs.dataset import make_dataset
    from c2al_tf.schema import Schema

    outcome = c2al("prepare", whole[0] / "run.yaml", "--data", whole[0], "--run-dir", tmp_path / "run")
    assert outcome.status == 0, outcome.error
    learnt, known = Schema.load(tmp_path / "run" / "schema.json"), Schema.load(whole[0] / "schema.json")
    assert (learnt.axes, learnt.labels, learnt.columns) == (known.axes, known.labels, known.columns)
    for a, b in zip(learnt.features, known.features, strict=True):
        if hasattr(a, "vocabulary"):
            assert set(a.vocabulary) <= set(b.vocabulary)
        else:
            np.testing.assert_allclose(a.boundaries, b.boundaries, rtol=0.05)
    files = sorted((whole[0] / "train").iterdir())
    inputs, labels, weight = next(iter(make_dataset(files, known, 4096, shuffle=True)))
    assert set(inputs) == set(known.inputs)
    assert 0 < labels["primary"].numpy().mean() < 0.1
    assert weight.numpy().min() == 1
