"""What Prometheus reads, by its own parser."""

import urllib.request
from collections import Counter

import grpc
import numpy as np
import pytest
from c2al_serving import messages
from c2al_serving.client import PredictClient, PredictError
from c2al_serving.metrics import PATH
from c2al_serving.model_config import ModelConfig
from c2al_serving.server import Server
from c2al_serving.tensors import fill_proto
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


def test_a_request_past_its_deadline_is_not_begun(export) -> None:
    """What waits behind long calls until its deadline is never begun; each kind is counted under a name of its own."""
    configs = [ModelConfig(name, export.base_path) for name in ("long", "short")]
    with Server(configs) as server, grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        ask = channel.unary_unary(f"/{messages.PREDICTION_SERVICE}/Predict").future
        long = [ask(request("long", export.columns, rows=20_000), timeout=60) for _ in range(48)]
        short = [ask(request("short", export.columns, rows=1), timeout=0.05) for _ in range(64)]
        assert {future.code() for future in long} == {grpc.StatusCode.OK}
        ask(request("long", export.columns, rows=20_000), timeout=60).result()  # what waited before it had its turn
        answered = [future.code() for future in short].count(grpc.StatusCode.OK)
        begun = counted(server.models.metrics.text().decode())
    assert begun["long"] == 49
    assert answered <= begun["short"] < 64


def request(model: str, columns: dict[str, np.ndarray], rows: int) -> bytes:
    """A few bytes that make a call of any length: TensorFlow repeats a value up to the declared shape."""
    request = messages.PredictRequest()
    request.model_spec.name = model
    request.output_filter.append("logits")
    for name, column in columns.items():
        fill_proto(request.inputs[name], column[:1], as_fields=True)
        request.inputs[name].tensor_shape.dim[0].size = rows
    return request.SerializeToString()


def counted(text: str) -> Counter[str]:
    """Requests by model, whatever their status."""
    counts: Counter[str] = Counter()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == ":tensorflow:serving:request_count":
                counts[sample.labels["model_name"]] += sample.value
    return counts
