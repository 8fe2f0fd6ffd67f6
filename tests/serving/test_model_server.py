"""The files of `serving/model_server`, which production copies: each is read, and does here what its guide says."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import yaml
from c2al_serving.admin import reload_config
from c2al_serving.client import PredictClient, PredictError
from c2al_serving.config.batching_parameters import read_batching_parameters
from c2al_serving.config.model_config import read_config, read_model_configs
from c2al_serving.config.monitoring import PATH, read_metrics_path
from c2al_serving.config.tls import read_channel_credentials, read_server_credentials
from c2al_serving.server import Server

KIT = Path(__file__).parents[2] / "serving" / "model_server"
CONFIGS = {path.name for path in KIT.glob("*.config")}
MODEL_CONFIGS = ("model.config", "stable.config", "canary.config")


def load(name: str):
    return yaml.safe_load((KIT / name).read_text())


def strings(value) -> list[str]:
    if isinstance(value, dict):
        return [text for entry in value.values() for text in strings(entry)]
    if isinstance(value, list):
        return [text for entry in value for text in strings(entry)]
    return [value] if isinstance(value, str) else []


def test_every_config_is_read() -> None:
    assert {*MODEL_CONFIGS, "batching.config", "monitoring.config"} == CONFIGS
    for name in MODEL_CONFIGS:
        (model,) = read_model_configs(KIT / name)
        assert (model.name, str(model.base_path)) == ("default", "/models/default")
    parameters = read_batching_parameters(KIT / "batching.config")
    assert (parameters.max_batch_size, parameters.max_execution_batch_size) == (4096, 1024)
    assert parameters.num_batch_threads == 4
    assert read_metrics_path(KIT / "monitoring.config") == PATH


def test_every_yaml_file_names_files_and_ports_that_are_there() -> None:
    for path in KIT.glob("*.yaml"):
        assert list(yaml.safe_load_all(path.read_text())), path
    services = load("compose.yaml")["services"]
    mounted = {}
    for name, service in services.items():
        default = [re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", volume) for volume in service["volumes"]]
        pairs = [volume.removesuffix(":ro").rsplit(":", 1) for volume in default]
        mounted[name] = {target for _, target in pairs}
        for source, _ in pairs:
            assert source.startswith("${EXPORT_DIR:?") or source == "./tls/ssl.config" or (KIT / source).is_file()
    for name in ("model-server", "model-server-tls"):
        files = [word.partition("=")[2] for word in services[name]["command"] if "_file=" in word]
        assert set(files) < mounted[name]
    kustomization = load("kustomization.yaml")
    (generator,) = kustomization["configMapGenerator"]
    assert all((KIT / name).is_file() for name in kustomization["resources"] + generator["files"])
    everything = list(yaml.safe_load_all((KIT / "kubernetes.yaml").read_text()))
    objects = {entry["kind"]: entry for entry in everything}
    pod = objects["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    files = [word.partition("=")[2] for word in container["args"] if "_file=" in word]
    assert files == [f"/config/{name}" for name in generator["files"]]
    config, models = (volume for volume in pod["volumes"])
    assert config["configMap"]["name"] == generator["name"]
    assert models["persistentVolumeClaim"]["claimName"] == objects["PersistentVolumeClaim"]["metadata"]["name"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    exposed = {each["metadata"]["name"]: each["spec"] for each in everything if each["kind"] == "Service"}
    assert {name: spec.get("clusterIP") for name, spec in exposed.items()} == {
        "model-server": None,
        "model-server-headless": "None",
    }
    policy = objects["NetworkPolicy"]["spec"]
    clients, scrapers = ({port["port"] for port in rule["ports"]} for rule in policy["ingress"])
    assert (clients, scrapers) == (set(ports.values()), {ports["rest"]})
    budget = objects["PodDisruptionBudget"]["spec"]["selector"]
    labels = objects["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert budget["matchLabels"] == policy["podSelector"]["matchLabels"] == labels
    for spec in exposed.values():
        assert spec["selector"] == labels
        assert {port["targetPort"]: port["port"] for port in spec["ports"]} == ports
    prometheus = load("prometheus.yaml")
    assert all((KIT / name).is_file() for name in prometheus["rule_files"])
    (job,) = prometheus["scrape_configs"]
    assert job["metrics_path"] == PATH
    assert job["static_configs"] == [{"targets": [f"model-server:{ports['rest']}"]}]


def test_images_are_at_least_as_new_as_the_tensorflow_that_exports() -> None:
    project = tomllib.loads((KIT.parents[1] / "pyproject.toml").read_text())["project"]
    (needs,) = project["optional-dependencies"]["tensorflow"]
    exporter = [int(number) for number in re.findall(r"\d+", needs.partition(">=")[2])[:2]]
    images = re.findall(
        r"(?:tensorflow/serving:|TF_SERVING_VERSION:-|runtimeVersion: \")(\d+)\.(\d+)\.\d+",
        "".join(path.read_text() for path in sorted(KIT.glob("*.[ym]*"))),
    )
    assert len(images) >= 4
    assert min([int(major), int(minor)] for major, minor in images) >= exporter


def test_the_guide_names_files_that_are_there() -> None:
    files = r"[\w.-]+\.(?:config|jsonl|py|sh|yaml)\b|Dockerfile(?:\.dockerignore)?"
    named = set(re.findall(files, (KIT / "README.md").read_text()))
    made = {"ssl.config", "promoted.config", "stable-2.config"}
    assert named - made == {path.name for path in KIT.iterdir() if path.is_file() and path.suffix != ".md"}


def test_the_health_check_of_the_compose_file(server) -> None:
    """It runs in the image, which has bash and grep, but no curl."""

    def status(text: str) -> int:
        return subprocess.run([*command, text], capture_output=True).returncode

    _, *command, text = load("compose.yaml")["services"]["model-server"]["healthcheck"]["test"]
    text = text.replace("/8501", f"/{server.rest_port}")
    assert status(text) == 0
    assert status(text.replace("/default", "/absent")) != 0
    assert status(text.replace(f"/{server.rest_port}", "/1")) != 0


def test_the_health_check_of_the_dockerfile(server) -> None:
    text = (KIT / "Dockerfile").read_text().replace("\\\n", "")
    python, *words = json.loads(re.search(r"^HEALTHCHECK .* CMD (.*)$", text, re.MULTILINE)[1])
    assert python == "python"

    def status(port: int) -> int:
        command = [sys.executable, *(word.replace(":8500", f":{port}") for word in words)]
        return subprocess.run(command, capture_output=True).returncode

    assert status(server.grpc_port) == 0
    assert status(1) != 0


def test_the_dockerfile_copies_what_the_package_is_built_of() -> None:
    lines = (KIT / "Dockerfile.dockerignore").read_text().splitlines()
    kept = {line[1:] for line in lines if line.startswith("!")}
    assert all((KIT.parents[1] / name).exists() for name in kept)
    tools = tomllib.loads((KIT.parents[1] / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert set(tools["package-dir"].values()) < kept


def test_alerts_are_about_metrics_that_there_are(export, tmp_path) -> None:
    shutil.copytree(export.latest, tmp_path / "1")
    with Server(tmp_path, rest_port=0) as server:
        with PredictClient(f"127.0.0.1:{server.grpc_port}", cast=False) as client:
            client.predict(export.columns)
        with urllib.request.urlopen(f"http://127.0.0.1:{server.rest_port}{PATH}", timeout=300) as answer:
            text = answer.read().decode()
    named = {
        (match[1], tuple(re.findall(r"(\w+)!?=", match[2] or "")))
        for expression in strings(load("alerts.yaml"))
        for match in re.finditer(r"(:[\w:]+)(?:\{([^}]*)\})?", expression)
    }
    assert len(named) >= 4
    for name, labels in named:
        (line, *_) = [line for line in text.splitlines() if line.startswith(f"{name}{{")]
        assert all(f"{label}=" in line for label in labels)


@pytest.fixture
def models(tmp_path):
    """`models(name)` reads a shipped file, or one that a `sed` of the guide makes of it, for a base path here."""
    base_path = tmp_path / "default"
    base_path.mkdir()
    made = {
        target: (script, Path(source).name)
        for script, source, target in re.findall(r"sed '(.+)' (\S+) > (\S+)", (KIT / "README.md").read_text())
    }

    def read(name):
        script, source = made.get(name, ("", name))
        done = subprocess.run(["sed", script, KIT / source], capture_output=True, text=True, check=True)
        path = tmp_path / name
        path.write_text(done.stdout.replace("/models/default", str(base_path)))
        return path

    return read


def test_a_canary_from_publishing_to_promotion_and_back(export, models, tmp_path) -> None:
    base_path = tmp_path / "default"
    shutil.copytree(export.base_path / "1", base_path / "1")
    logits = {1: export.logits - 3, 2: export.logits}
    stable = read_model_configs(models("stable.config"))
    with pytest.raises(ValueError, match="allow-version-labels-for-unavailable-models"):
        Server(stable)  # nothing is loaded yet
    with Server(stable, poll_seconds=0.05, allow_unavailable_labels=True) as server:
        target = f"127.0.0.1:{server.grpc_port}"

        def answers(label: str) -> int:
            with PredictClient(target, label=label, cast=False) as client:
                found = client.predict(export.columns)["logits"]
            (version,) = [number for number in logits if np.allclose(found, logits[number], atol=1e-5)]
            return version

        shutil.copytree(export.latest, base_path / "2.copying")
        (base_path / "2.copying").rename(base_path / "2")
        with pytest.raises(PredictError, match="Unrecognized servable version label: canary"):
            answers("canary")
        assert answers("stable") == 1
        for config, version in (("canary.config", 1), ("promoted.config", 2), ("canary.config", 1)):
            reload_config(target, read_config(models(config)))
            assert (answers("stable"), answers("canary")) == (version, 2)
        reload_config(target, read_config(models("stable-2.config")))
        assert answers("stable") == 2
        assert server.models.available() == {"default": [2]}
        with PredictClient(target, label="canary", cast=False) as client, pytest.raises(PredictError):
            client.predict(export.columns)
        for config in ("promoted.config", "canary.config"):  # back, after the old version had gone
            reload_config(target, read_config(models(config)))
        assert (answers("stable"), answers("canary")) == (1, 2)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_certificates_that_the_script_makes(export, tmp_path) -> None:
    tls = tmp_path / "tls"
    subprocess.run([KIT / "make_tls.sh", tls, "localhost", "model-server"], check=True)
    assert {path.stat().st_mode & 0o077 for path in tls.glob("*.key")} == {0}
    with Server(export.base_path, credentials=read_server_credentials(tls / "ssl.config")) as server:
        own = read_channel_credentials(tls / "ca.pem", tls / "client.pem", tls / "client.key")
        for host in ("localhost", "127.0.0.1"):
            with PredictClient(f"{host}:{server.grpc_port}", credentials=own) as client:
                np.testing.assert_allclose(client.predict(export.columns)["logits"], export.logits, rtol=1e-6)
        nobody = read_channel_credentials(tls / "ca.pem")
        with (
            PredictClient(f"localhost:{server.grpc_port}", credentials=nobody, retries=0) as client,
            pytest.raises(PredictError, match="UNAVAILABLE"),
        ):
            client.status()
        with pytest.raises(PredictError, match="INVALID_ARGUMENT.*Could not find base path"):
            reload_config(f"localhost:{server.grpc_port}", read_config(KIT / "model.config"), credentials=own)
