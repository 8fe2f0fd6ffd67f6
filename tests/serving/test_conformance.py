"""The corpus of requests and our answers to it, which `conformance.py` compares with another server's."""

import collections
import contextlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from c2al_tf.protocol import messages

KIT = Path(__file__).parents[2] / "serving" / "model_server"
ANSWERS = KIT / "conformance_answers.jsonl"
SERVE = """
import sys
from pathlib import Path
from c2al_serving.config.model_config import read_model_configs
from c2al_serving.server import serve
on_ready = lambda server: print(f"127.0.0.1:{server.grpc_port},127.0.0.1:{server.rest_port}", flush=True)
configs = read_model_configs(Path(sys.argv[1]))
serve(configs, grpc_port=0, rest_port=0, allow_unavailable_labels=True, on_ready=on_ready)
"""


@pytest.fixture(scope="module")
def run(start_process):
    """`run(script, *words)`: exit status and lines of a script of the kit."""

    def in_process(script, *words):
        with start_process([sys.executable, KIT / script, *words]) as process:
            output, error = process.communicate()
        assert "Traceback" not in error, error
        return process.returncode, output.splitlines()

    return in_process


@pytest.fixture(scope="module")
def config(run, tmp_path_factory) -> Path:
    """The model_config_list of the corpus's model, which is written beside it."""
    folder = tmp_path_factory.mktemp("conformance")
    run("conformance_model.py", folder)
    return folder / "models.config"


@pytest.fixture(scope="module")
def served(start_process):
    """`with served(config) as server`: the addresses of a server in a process of its own, as the command takes them."""

    @contextlib.contextmanager
    def serving(config: Path):
        with start_process([sys.executable, "-c", SERVE, config], stderr=subprocess.DEVNULL) as process:
            yield process.stdout.readline().strip()

    return serving


@pytest.fixture(scope="module")
def server(served, config):
    with served(config) as server:
        yield server


def requests():
    groups = yaml.safe_load((KIT / "conformance.yaml").read_text())["groups"]
    return [{**group, **each} for group in groups for each in group["requests"]]


def test_the_corpus_has_every_rpc_and_form() -> None:
    asked = requests()
    assert len(asked) >= 200
    assert len({each["name"] for each in asked}) == len(asked)
    rpcs = collections.Counter(each["rpc"] for each in asked if "rpc" in each)
    assert {*messages.SERVICES["PredictionService"], *messages.SERVICES["ModelService"], "Check"} <= rpcs.keys()
    assert sum(rpc.startswith("/") for rpc in rpcs) >= 3
    rest = [each for each in asked if "rest" in each]
    paths = " ".join(each["rest"] for each in rest)
    for form in (":predict", ":classify", ":regress", "/metadata", "/versions/", "/labels/", "%2F", "?"):
        assert form in paths
    assert {each["rest"].split()[0] for each in rest} >= {"GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"}
    assert any(each.get("gzip") for each in rest)
    assert any(each.get("chunked") for each in rest)
    assert all(each["real"].split(":")[0] in ("same", "differs", "unknown") for each in asked)


def test_the_answers_are_those_that_were_written(server, run) -> None:
    """Where an answer has changed on purpose, `conformance.py --write` writes them anew; `--help` says how."""
    status, lines = run("conformance.py", "--ours", server, "--theirs", ANSWERS)
    assert status == 0, "\n".join(lines)
    written = [json.loads(line) for line in ANSWERS.read_text().splitlines()]
    assert [(each["name"], each["real"]) for each in written] == [(each["name"], each["real"]) for each in requests()]


def test_every_rpc_has_an_answer_that_is_no_refusal() -> None:
    written = {each["name"]: each["ours"] for each in map(json.loads, ANSWERS.read_text().splitlines())}
    good = {each.get("rpc", "REST") for each in requests() if written[each["name"]].get("code", 200) in ("OK", 200)}
    assert good >= {"Predict", "Classify", "Regress", "MultiInference", "GetModelMetadata", "GetModelStatus", "Check"}


def test_two_servers_are_compared(server, served, config, run, tmp_path) -> None:
    with served(config) as other:
        status, lines = run("conformance.py", "--ours", server, "--theirs", other)
    assert status == 0, lines
    assert lines[-1].startswith(f"{len(requests())} requests: 0 answers differ, ")
    only_one = tmp_path / "models.config"
    only_one.write_text(config.read_text().replace("all {}", "specific { versions: 1 }"))
    with served(only_one) as other:
        status, lines = run("conformance.py", "--ours", server, "--theirs", other)
    assert status == 1
    found = [line.partition(": ")[2].partition(" (real")[0] for line in lines if line.startswith("DIFFERENT: ")]
    assert {"predict", "predict version 2", "predict label canary", "status", "rows", "GET status"} <= set(found)
    assert not {"predict version 1", "predict version 3", "health", "regress version 1", "path version 1"} & set(found)
    assert "    .response.outputs.rank.int64[0]: 3 | 2" in lines
