"""What Prometheus reads, by its own parser."""

import threading
import urllib.request

import numpy as np
import pytest
from c2al_serving import server as server_module
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


def test_a_request_past_its_deadline_is_not_begun(export, monkeypatch) -> None:
    monkeypatch.setattr(server_module, "_THREADS", 1)
    many = {name: np.repeat(column, 20_000, axis=0) for name, column in export.columns.items()}
    with Server(export.base_path, rest_port=0) as server:

        def ask_long():
            with PredictClient(f"127.0.0.1:{server.grpc_port}", cast=False, timeout=60, max_rows=10**9) as client:
                client.predict(many)

        thread = threading.Thread(target=ask_long)
        thread.start()
        asked, late = 1, 0
        with PredictClient(f"127.0.0.1:{server.grpc_port}", cast=False, timeout=0.02) as client:
            while thread.is_alive():
                asked += 1
                try:
                    client.predict(export.columns)
                except PredictError:
                    late += 1
        thread.join()
        assert late > 3
        with PredictClient(f"127.0.0.1:{server.grpc_port}", cast=False) as client:
            client.predict(export.columns)  # what waited before it has had its turn
            asked += 1
        begun = sum(value for key, value in samples(server).items() if key[0] == ":tensorflow:serving:request_count")
        assert begun < asked
