"""What Prometheus reads, by its own parser."""

import shutil
import urllib.request
from collections import Counter
from types import SimpleNamespace

import grpc
import numpy as np
import pytest
from c2al_serving.client import PredictClient, PredictError
from c2al_serving.config.batching_parameters import BatchingParameters
from c2al_serving.config.model_config import ModelConfig
from c2al_serving.config.monitoring import PATH
from c2al_serving.metrics import Metrics
from c2al_serving.server import Server
from prometheus_client.parser import text_string_to_metric_families

from c2al_tf.protocol import messages
from c2al_tf.protocol.tensors import fill_proto

LATENCY = ":tensorflow:serving:request_latency"


@pytest.fixture
def server(export):
    with Server(export.base_path, rest_port=0) as server:
        yield server


def scrape(server) -> list:
    with urllib.request.urlopen(f"http://127.0.0.1:{server.rest_port}{PATH}", timeout=300) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        families = text_string_to_metric_families(answer.read().decode())
        return [sample for family in families for sample in family.samples]


def samples(server) -> dict[tuple, float]:
    """Values by name and labels; the histogram's buckets left out."""
    return {
        (sample.name.removesuffix("_total"), *sorted(sample.labels.values())): sample.value
        for sample in scrape(server)
        if "le" not in sample.labels
    }


def test_an_unforeseen_error_is_no_success() -> None:
    metrics = Metrics()
    with pytest.raises(RuntimeError), metrics.request("m", "Predict", "GRPC"):
        raise RuntimeError
    text = metrics.text().decode()
    assert ':tensorflow:serving:request_count{model_name="m",status="UNKNOWN"} 1.0' in text
    assert 'status="OK"' not in text


def test_limits_of_buckets_are_written_as_prometheus_writes_them() -> None:
    metrics = Metrics()
    with metrics.request("m", "Predict", "GRPC"):
        pass
    assert 'le="1.27482e+06"' in metrics.text().decode()


def test_requests_are_counted_by_model_and_status(server, export) -> None:
    assert not [key for key in samples(server) if key[0].startswith(":tensorflow:serving:request")]
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
        urllib.request.urlopen(url, b"{}", timeout=300)
    found = samples(server)
    name = ":tensorflow:serving:request_count"
    assert {key: value for key, value in found.items() if key[0] == name} == {
        (name, "OK", "default"): 3,
        (name, "INVALID_ARGUMENT", "default"): 2,
        (name, "NOT_FOUND", "other"): 2,  # a client could make up any number of names
    }
    assert found[f"{LATENCY}_count", "GRPC", "Predict", "default"] == 3  # of those that succeeded
    assert (f"{LATENCY}_count", "predict", "REST", "default") not in found
    assert found[f"{LATENCY}_sum", "GRPC", "Predict", "default"] > 0


def test_latency_has_the_buckets_of_the_real_server(server, export) -> None:
    with PredictClient(f"127.0.0.1:{server.grpc_port}", cast=False) as client:
        client.predict(export.columns)
    bounds = [sample.labels["le"] for sample in scrape(server) if sample.name == f"{LATENCY}_bucket"]
    assert [float(bound) for bound in bounds[:4]] == [10, 18, 32.4, 58.32]
    assert bounds[5] == "188.957"  # it prints six digits
    assert (len(bounds), bounds[-1]) == (34, "+Inf")


def test_batches_versions_and_what_is_under_way(export, hold_model, until) -> None:
    waits = BatchingParameters(max_batch_size=4, batch_timeout_micros=300_000_000)
    with (
        Server(export.base_path, batching=waits) as server,
        grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel,
        hold_model() as held,
    ):
        ask = channel.unary_unary(f"/{messages.PREDICTION_SERVICE}/Predict").future
        first = ask(request(export.columns, rows=3), timeout=300)
        until(lambda: value(server, ":c2al:serving:queued_rows") == 3)
        assert value(server, ":c2al:serving:requests_in_flight", entrypoint="GRPC") == 1
        second = ask(request(export.columns, rows=1), timeout=300)
        until(lambda: held.calls == [4])
        held.released.set()
        first.result(), second.result()
        until(lambda: value(server, ":c2al:serving:requests_in_flight", entrypoint="GRPC") == 0)
        assert value(server, ":c2al:serving:queued_rows") == 0
        batching = ":tensorflow:serving:batching_session"
        assert value(server, f"{batching}:processed_batch_size_sum") == 4
        assert value(server, f"{batching}:queuing_latency_count") == 2
        labels = {"model_name": "default", "API": "Predict"}
        assert value(server, ":c2al:serving:version_request_count", version="2", **labels) == 2
        assert value(server, ":tensorflow:serving:runtime_latency_count", runtime="TF1", **labels) == 2


def value(server: Server, name: str, **labels: str) -> float | None:
    """One figure; None if there is none."""
    for family in text_string_to_metric_families(server.models.metrics.text().decode()):
        for sample in family.samples:
            if (sample.name.removesuffix("_total"), sample.labels) == (name, labels):
                return sample.value
    return None


def test_counters_have_the_real_servers_names_and_types() -> None:
    metrics = Metrics()
    with metrics.request("a_total", "Predict", "GRPC"):
        pass
    lines = metrics.text().decode().splitlines()
    assert "# TYPE :tensorflow:serving:request_count counter" in lines
    assert ':tensorflow:serving:request_count{model_name="a_total",status="OK"} 1.0' in lines
    assert not [line for line in lines if "_created" in line]


def test_versions_that_are_loaded_and_those_that_cannot_be(export, tmp_path) -> None:
    shutil.copytree(export.latest, tmp_path / "1")
    with Server(tmp_path, rest_port=0, poll_seconds=None, retries=0) as server:
        (tmp_path / "2").mkdir()
        server.models.reload([ModelConfig("default", tmp_path)])
        found = samples(server)
    count, latency = (f":tensorflow:cc:saved_model:load_{what}" for what in ("attempt_count", "latency"))
    one, two = str(tmp_path / "1"), str(tmp_path / "2")
    assert found[latency, one] > 0
    assert {key: value for key, value in found.items() if key[0] == count} == {
        (count, one, "success"): 1,
        (count, two, "fail"): 1,
    }


def test_a_version_that_fails_in_any_way_is_counted(tmp_path) -> None:
    metrics = Metrics()
    with pytest.raises(OSError, match="away"), metrics.load(tmp_path):
        raise OSError("the storage is away")
    counted = f':tensorflow:cc:saved_model:load_attempt_count{{model_path="{tmp_path}",status="fail"}} 1.0'
    assert counted in metrics.text().decode().splitlines()


def test_latencies_are_in_microseconds(tmp_path, monkeypatch) -> None:
    clock = iter([10.0, 10.25, 20.0, 22.0])
    monkeypatch.setattr("c2al_serving.metrics.time", SimpleNamespace(perf_counter=lambda: next(clock)))
    metrics = Metrics()
    with metrics.request("ads", "Predict", "GRPC"):
        pass
    with metrics.load(tmp_path):
        pass
    lines = metrics.text().decode().splitlines()
    assert f'{LATENCY}_sum{{API="Predict",entrypoint="GRPC",model_name="ads"}} 250000.0' in lines
    assert f':tensorflow:cc:saved_model:load_latency{{model_path="{tmp_path}"}} 2e+06' in lines


def test_a_request_past_its_deadline_is_not_begun(export, hold_model, batcher_of, until) -> None:
    """What waits behind a long call until its deadline is no answer, to nobody."""
    one_by_one = BatchingParameters(max_batch_size=3, max_enqueued_batches=100, num_batch_threads=1)
    with (
        Server(export.base_path, batching=one_by_one) as server,
        grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel,
        hold_model() as held,
    ):
        ask = channel.unary_unary(f"/{messages.PREDICTION_SERVICE}/Predict").future
        batcher = batcher_of(server)  # it makes another queue whenever it takes a batch
        long = ask(request(export.columns, rows=2), timeout=300)
        until(lambda: held.calls == [2])
        for seconds in (0.2, 2.0, 20.0, 200.0):  # long enough to reach the queue
            short = ask(request(export.columns, rows=1), timeout=seconds)
            until(lambda: batcher._waiting or short.done())  # noqa: B023
            if batcher._waiting:
                break
        assert short.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        until(lambda: counted(server)["CANCELLED"])
        held.released.set()
        assert long.code() is grpc.StatusCode.OK
        ask(request(export.columns, rows=3), timeout=300).result()  # what waited before it would have had its turn
        assert held.calls == [2, 3]
        assert counted(server)["OK"] == 2


def request(columns: dict[str, np.ndarray], rows: int) -> bytes:
    request = messages.PredictRequest()
    request.model_spec.name = "default"
    for name, column in columns.items():
        fill_proto(request.inputs[name], column[:rows])
    return request.SerializeToString()


def counted(server: Server) -> Counter[str]:
    """Requests by status."""
    counts: Counter[str] = Counter()
    for family in text_string_to_metric_families(server.models.metrics.text().decode()):
        for sample in family.samples:
            if sample.name == ":tensorflow:serving:request_count_total":  # the parser adds the suffix
                counts[sample.labels["status"]] += sample.value
    return counts
