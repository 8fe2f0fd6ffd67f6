"""What Prometheus reads, by its own parser."""

import shutil
import urllib.request
from collections import Counter

import grpc
import numpy as np
import pytest
from c2al_serving.client import PredictClient, PredictError
from c2al_serving.config.batching_parameters import BatchingParameters
from c2al_serving.config.model_config import ModelConfig
from c2al_serving.config.monitoring import PATH
from c2al_serving.lifecycle.metrics import Metrics
from c2al_serving.protocol import messages
from c2al_serving.protocol.tensors import fill_proto
from c2al_serving.server import Server
from prometheus_client.parser import text_string_to_metric_families

LATENCY = ":tensorflow:serving:request_latency"


@pytest.fixture
def server(export):
    with Server(export.base_path, rest_port=0) as server:
        yield server


def scrape(server) -> list:
    with urllib.request.urlopen(f"http://127.0.0.1:{server.rest_port}{PATH}", timeout=10) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        families = text_string_to_metric_families(answer.read().decode())
        return [sample for family in families for sample in family.samples]


def samples(server) -> dict[tuple, float]:
    """Values by name and labels; the histogram's buckets left out."""
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for sample in scrape(server)
        if "le" not in sample.labels
    }


def test_requests_are_counted_by_model_and_status(server, export) -> None:
    assert not [key for key in samples(server) if key[0].startswith(":tensorflow:serving:")]
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
    assert found[f"{LATENCY}_count", "GRPC", "Predict", "default"] == 3  # of those that succeeded
    assert (f"{LATENCY}_count", "Predict", "REST", "default") not in found
    assert found[f"{LATENCY}_sum", "GRPC", "Predict", "default"] > 100  # microseconds


def test_latency_has_the_buckets_of_the_real_server(server, export) -> None:
    with PredictClient(f"127.0.0.1:{server.grpc_port}", cast=False) as client:
        client.predict(export.columns)
    bounds = [sample.labels["le"] for sample in scrape(server) if sample.name == f"{LATENCY}_bucket"]
    assert [float(bound) for bound in bounds[:4]] == [10, 18, 32.4, 58.32]
    assert bounds[5] == "188.957"  # it prints six digits
    assert (len(bounds), bounds[-1]) == (34, "+Inf")


def test_versions_that_are_loaded_and_those_that_cannot_be(export, tmp_path) -> None:
    shutil.copytree(export.latest, tmp_path / "1")
    with Server(tmp_path, rest_port=0, poll_seconds=None) as server:
        (tmp_path / "2").mkdir()
        server.models.reload([ModelConfig("default", tmp_path)])
        found = samples(server)
    count, latency = (f":tensorflow:cc:saved_model:load_{what}" for what in ("attempt_count", "latency"))
    one, two = str(tmp_path / "1"), str(tmp_path / "2")
    assert found.pop((latency, one)) > 100  # microseconds
    assert found == {(count, one, "success"): 1, (count, two, "fail"): 1}


def test_a_version_that_fails_in_any_way_is_counted(tmp_path) -> None:
    metrics = Metrics()
    with pytest.raises(OSError, match="away"), metrics.load(tmp_path):
        raise OSError("the storage is away")
    counted = f':tensorflow:cc:saved_model:load_attempt_count{{model_path="{tmp_path}",status="fail"}} 1.0'
    assert counted in metrics.text().decode().splitlines()


def test_a_request_past_its_deadline_is_not_begun(export) -> None:
    """What waits behind long calls until its deadline is no answer, to nobody."""
    one_by_one = BatchingParameters(max_batch_size=1, max_enqueued_batches=100, num_batch_threads=1)
    with (
        Server(export.base_path, batching=one_by_one) as server,
        grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel,
    ):
        ask = channel.unary_unary(f"/{messages.PREDICTION_SERVICE}/Predict").future
        long = [ask(request(export.columns, rows=20_000), timeout=60) for _ in range(32)]
        short = [ask(request(export.columns, rows=1), timeout=0.05) for _ in range(64)]
        assert {future.code() for future in long} == {grpc.StatusCode.OK}
        ask(request(export.columns, rows=1), timeout=60).result()  # what waited before it had its turn
        answered = [future.code() for future in short].count(grpc.StatusCode.OK)
        counts = counted(server.models.metrics.text().decode())
    assert answered <= counts["OK"] - 33 < 64
    assert set(counts) <= {"OK", "CANCELLED", "RESOURCE_EXHAUSTED"}


def request(columns: dict[str, np.ndarray], rows: int) -> bytes:
    """A few bytes that make a call of any length: TensorFlow repeats a value up to the declared shape."""
    request = messages.PredictRequest()
    request.model_spec.name = "default"
    request.output_filter.append("logits")
    for name, column in columns.items():
        fill_proto(request.inputs[name], column[:1], as_fields=True)
        request.inputs[name].tensor_shape.dim[0].size = rows
    return request.SerializeToString()


def counted(text: str) -> Counter[str]:
    """Requests by status."""
    counts: Counter[str] = Counter()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == ":tensorflow:serving:request_count":
                counts[sample.labels["status"]] += sample.value
    return counts
