"""Every command with URLs for paths does what it does on a disk."""

import json
import signal
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from c2al_serving.server import Server

from c2al_tf.data.columns.shards import split_files, write_parquet
from c2al_tf.files import read_json, write_json
from c2al_tf.schema import Column
from c2al_tf.storage import opened, with_urls
from c2al_tf.storage.objects import objects_in
from c2al_tf.storage.places import local_path

COLUMNS = {
    "city": Column("city", "string"),
    "age": Column("age", "float32"),
    "click": Column("click", "float32"),
}


def write_logs(folder: Path, rows: int = 4000) -> None:
    """Two days of clicks: in one city the old click, in the other the young."""
    for number, (split, share) in enumerate({"train": 2.0, "validation": 1.0, "test": 1.0}.items()):
        rng = np.random.default_rng(number)
        size = int(rows * share)
        city = rng.choice(np.array(["oslo", "rome"], object), size)
        age = rng.uniform(18, 70, size).astype(np.float32)
        score = np.where(city == "rome", (age - 44) / 8, (44 - age) / 8) - (city == "oslo")
        click = (rng.random(size) < 1 / (1 + np.exp(-score))).astype(np.float32)
        for part in range(2):
            half = slice(part * size // 2, (part + 1) * size // 2)
            batch = {"city": city[half], "age": age[half], "click": click[half]}
            write_parquet(folder / split / f"part-{part}.parquet", [batch], COLUMNS)


@pytest.fixture
def logs(tmp_path: Path, upload) -> str:
    """The URL of the logs; the same files are in `tmp_path / "logs"`."""
    write_logs(tmp_path / "logs")
    return upload(tmp_path / "logs", "logs")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    written = {
        "title": "clicks",
        "data": {
            "name": "files",
            "files": {
                "train": "train/*", "validation": "validation/*", "test": "test/*", "label": "click",
                "features": [{"name": "city", "kind": "categorical"}, {"name": "age", "kind": "numeric"}],
                "axes": [["city"], ["age"]],
            },
        },
        "model": {"embedding_dim": 4, "num_blocks": 1, "num_outputs": 2, "mixing_outputs": 2, "attention_units": 4,
                  "shared_units": [8], "head_units": [8]},
        "training": {"batch_size": 500, "epochs": 2, "jit_compile": False},
        "seeds": 2,
    }  # fmt: skip
    path = tmp_path / "clicks.yaml"
    path.write_text(yaml.safe_dump(written))
    return path


def figures(folder: Path) -> object:
    """What a run has found."""
    return [read_json(folder / name) for name in ("metrics.json", "cohorts.json", "schema.json")]


def test_a_configuration_is_proposed_for_files_in_a_store(logs: str, bucket: str, tmp_path: Path, c2al) -> None:
    here = c2al("init", tmp_path / "logs", "--output", tmp_path / "here.yaml")
    there = c2al("init", logs, "--output", f"{bucket}/there.yaml")
    assert (here.status, there.status) == (0, 0)
    assert opened(f"{bucket}/there.yaml").read_text() == (tmp_path / "here.yaml").read_text()
    assert f"--data {logs} --run-dir" in there.output
    assert f"c2al run {bucket}/there.yaml" in there.output
    assert c2al("init", logs, "--output", f"{bucket}/there.yaml").error.startswith(
        f"c2al: {bucket}/there.yaml is there"
    )


@pytest.mark.parametrize("runner", [(), ("--runner", "DirectRunner")])
def test_prepared_rows_are_those_of_a_disk(logs, bucket, config, tmp_path, c2al, another_machine, runner) -> None:
    assert c2al("prepare", config, "--data", tmp_path / "logs", "--run-dir", tmp_path / "run").status == 0
    there = c2al("prepare", config, "--data", logs, "--run-dir", f"{bucket}/run", *runner)
    assert there.status == 0, there.error
    assert there.output.endswith(f"{bucket}/run/data, {bucket}/run/schema.json\n")
    another_machine()
    run = opened(f"{bucket}/run")
    for split in ("train", "validation", "test"):
        found, wanted = (pq.read_table(split_files(folder, split)) for folder in (run, tmp_path / "run"))
        assert found.equals(wanted)
    found, wanted = (
        json.loads((folder / "schema.json").read_text(), parse_float=lambda text: round(float(text), 9))
        for folder in (run, tmp_path / "run")
    )
    assert found == wanted
    assert not (run / "encoded").exists()


def test_a_machine_with_nothing_goes_on_with_a_prepared_run(logs, bucket, config, c2al, another_machine) -> None:
    prepare = "prepare", config, "--data", logs, "--run-dir", f"{bucket}/run"
    assert c2al(*prepare).status == 0
    write_json(f"{bucket}/run/cohorts.json", {})  # found, as far as `prepare` asks
    another_machine()
    again = c2al(*prepare)
    assert again.status == 0, again.error
    assert (opened(f"{bucket}/run") / "encoded" / "train" / "rows.npy").exists()


def test_what_is_wrong_is_said_with_its_url(logs, bucket, config, tmp_path, c2al, network) -> None:
    missing = c2al("run", config, "--data", "s3://no-such-bucket-here/logs", "--run-dir", f"{bucket}/run")
    assert missing.status == 1
    assert missing.error.startswith("c2al: s3://no-such-bucket-here/logs/train")
    other = c2al("prepare", config, "--data", logs, "--run-dir", f"{bucket}/run", "--data.files.label", "clicked")
    assert other.status == 1
    assert f"{logs}/train/part-0.parquet" in other.error
    for words in (("run", "s3://b//c.yaml"), ("run", "--config", f"{bucket}/absent.yaml")):
        outcome = c2al(*words, "--run-dir", f"{bucket}/run")
        assert outcome.status != 0
        assert words[-1] in outcome.error
    shard = c2al("generate", "--output", f"{bucket}/ads", "--num-shards", "2", "--shard", "0")
    assert f"Received: --shard 0 --output {bucket}/ads" in shard.error
    absent = c2al("report", "--run-dir", f"{bucket}/nothing")
    assert absent.error == (
        f"c2al: {bucket}/nothing/config.json is not there. Run `c2al prepare CONFIG --run-dir {bucket}/nothing` first"
    )
    network.meddle = lambda method, path: {"status": 403} if method in ("PUT", "POST") else None
    refused = c2al("prepare", config, "--data", logs, "--run-dir", f"{bucket}/run")
    assert refused.status == 1
    assert (
        f"{bucket}/run/config.json: the store did not take it. The credentials in use may not do this" in refused.error
    )


@pytest.mark.slow
def test_a_whole_life_in_a_store(logs, bucket, config, tmp_path, c2al, start_script, until, another_machine) -> None:
    here = c2al("run", config, "--data", tmp_path / "logs", "--run-dir", tmp_path / "run")
    assert here.status == 0, here.error
    run = f"{bucket}/run"
    words = "run", str(config), "--data", logs, "--run-dir", run

    def has(name: str) -> bool:
        return any(path.match(name) for path in objects_in(local_path(run)))

    # Killed twice, each time taken up by a machine that has nothing.
    for name in ("seeds/0/baseline/checkpoints/*.npz", "seeds/1/c2al/checkpoints/*.npz"):
        with start_script(*words) as process:
            until(lambda name=name: has(name) or process.poll() is not None)
            process.send_signal(signal.SIGKILL)
        another_machine()
    there = c2al(*words)
    assert there.status == 0, there.error
    assert f"Report: {run}/report.html" in there.output
    another_machine()
    copy = opened(run)
    assert json.dumps(figures(copy)) == json.dumps(figures(tmp_path / "run"))
    assert [path.name for path in (copy / "export").iterdir()] == ["1"]
    for command in ("discover", "evaluate", "report", "diagnose"):
        assert c2al(command, "--run-dir", run).status == 0
    assert c2al("verify-export", f"{run}/export/1", "--json", f"{bucket}/verdict.json").status == 0
    assert all(check["passed"] for check in read_json(f"{bucket}/verdict.json"))
    with Server(f"{run}/export") as server:
        asked = "--server", f"127.0.0.1:{server.grpc_port}", "--output"
        answered = c2al("predict", f"{logs}/test/part-*", *asked, f"{bucket}/scores.parquet")
        assert answered.status == 0, answered.error
        assert c2al("predict", tmp_path / "logs" / "test", *asked, tmp_path / "scores.parquet").status == 0
    assert pq.read_table(opened(f"{bucket}/scores.parquet")).equals(pq.read_table(tmp_path / "scores.parquet"))
    assert not [path for path in objects_in(local_path(bucket)) if ".parts" in path.name]


@pytest.mark.slow
def test_logs_in_a_store_give_what_logs_on_a_disk_give(logs, bucket, config, tmp_path, c2al, another_machine) -> None:
    run = c2al("run", config, "--data", tmp_path / "logs", "--run-dir", f"{bucket}/run")
    assert run.status == 0, run.error
    model = f"{bucket}/run/export/1"
    found = {}
    for place in (str(tmp_path), bucket):
        out = f"{place}/out"
        log = "--label", "click"
        written = f"{out}/cohorts.json"
        models, arms = ("--models.a", model, "--models.b", model), ("--arms.baseline", "[a]", "--arms.c2al", "[b]")
        baselines = "--predictions", "a", "--from-logits", "true", "--axes", "[city, age]"
        for words in (
            ("score-logs", f"{place}/logs/test", *log, *models, "--keep", "city", "age", "--output", f"{out}/scored"),
            ("discover-logs", f"{out}/scored", *log, *baselines, "--output", written),
            ("evaluate-logs", f"{out}/scored", *log, *arms, "--cohorts", written, "--output", f"{out}/metrics.json"),
            ("gate", f"{out}/metrics.json"),
        ):
            outcome = c2al(*words)
            assert outcome.status == 0, with_urls(outcome.error)
        found[place] = [read_json(f"{out}/{name}") for name in ("cohorts.json", "metrics.json")]
        another_machine()
    assert json.dumps(found[bucket]) == json.dumps(found[str(tmp_path)])
