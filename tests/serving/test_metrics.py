"""What Prometheus reads, by its own parser."""

import urllib.request

import pytest
from c2al_serving.client import PredictClient, PredictError
from c2al_serving.metrics import PATH
from c2al_serving.server import Server
from prometheus_client.parser import text_string_to_metric_families


@pytest.fixture
def server(export):
    with Server(export.base_path, rest_port=0) as server:
        yield server


def samples(server) -> dict[tuple, float]:
    """Values by name and labels; the histogram's buckets left out."""
    with urllib.request.urlopen(f"http://127.0.0.1:{server.rest_port}{PATH}", timeout=10) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        families = list(text_string_to_metric_families(answer.read().decode()))
    found = {}
    for sample in (sample for family in families for sample in family.samples):
        if "le" not in sample.labels:
            found[sample.name, *sorted(sample.labels.values())] = sample.value
    return found


def test_requests_are_counted_by_model_and_status(server, export) -> None:
    assert samples(server) == {}
    target = f"127.0.0.1:{server.grpc_port}"
    with PredictClient(target, cast=False) as client:
        for _ in range(3):
            client.predict(export.columns)
        with pytest.raises(PredictError):
            client.predict({"city": export.columns["city"]})
    for name in ("nobody", "no one"):
        with PredictClient(target, name, cast=False) as client, pytest.raises(PredictError):
            client.predict(export.columns)
    url = f"http://127.0.0.1:{server.rest_port}/v1/models/default:predict"
    with pytest.raises(urllib.request.HTTPError):
        urllib.request.urlopen(url, b"{}", timeout=10)
    found = samples(server)
    name = ":tensorflow:serving:request_count"
    assert {key: value for key, value in found.items() if key[0] == name} == {
        (name, "OK", "default"): 3,
        (name, "INVALID_ARGUMENT", "default"): 2,
        (name, "NOT_FOUND", "other"): 2,  # a client could make up any number of names
    }
    latency = ":tensorflow:serving:request_latency"
    assert found[f"{latency}_count", "GRPC", "Predict", "default"] == 4
    assert found[f"{latency}_count", "Predict", "REST", "default"] == 1
    assert found[f"{latency}_sum", "GRPC", "Predict", "default"] > 100  # microseconds
