"""The server in a process of its own, and its lifetime; grpc_services and rest have their tests beside."""

import contextlib
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

import grpc
import numpy as np
import pytest
from c2al_serving.client import PredictClient, PredictError
from c2al_serving.protocol import messages
from c2al_serving.protocol.tensors import fill_proto
from c2al_serving.server import Server

CODE = """
import sys
from c2al_serving.server import serve
def ready(server):
    loaded = {name.partition(".")[0] for name in sys.modules}
    loaded &= {"tensorflow", "tensorflow_serving", "keras"}
    print(server.grpc_port, server.rest_port, *loaded, flush=True)
serve(sys.argv[1], grpc_port=0, rest_port=0, on_ready=ready)
print("stopped", flush=True)
"""


@contextlib.contextmanager
def server_process(base_path):
    command = [sys.executable, "-c", CODE, str(base_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    with process:
        try:
            yield process, process.stdout.readline().split()
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_own_process_without_tensorflows_python(export, number):
    with server_process(export.base_path) as (process, (grpc_port, rest_port, *loaded)):
        assert loaded == []
        with PredictClient(f"127.0.0.1:{grpc_port}") as client:
            np.testing.assert_allclose(client.predict(export.columns)["logits"], export.logits, atol=1e-5, rtol=1e-6)
        with socket.create_connection(("127.0.0.1", int(rest_port))):  # an idle connection does not keep it alive
            process.send_signal(number)
            assert process.stdout.read() == "stopped\n"
            assert process.wait(timeout=10) == 0


def test_the_largest_number_is_served(export, tmp_path):
    for name, source in (("9", "1"), ("10", "2")):
        shutil.copytree(export.base_path / source, tmp_path / name)
    (tmp_path / "notes").mkdir()
    with Server(tmp_path) as server:
        assert (server.models.available(), server.rest_port) == ({"default": [10]}, None)


def test_what_is_no_base_path(export, tmp_path):
    with pytest.raises(ValueError, match=r"no such folder; a base path with version folders"):
        Server(tmp_path / "absent")
    with pytest.raises(ValueError, match="no version folder in it; folders named 1, 2"):
        Server(tmp_path)
    with pytest.raises(ValueError, match=f"It is a SavedModel itself: .* use {export.base_path}"):
        Server(export.latest)


def test_an_incomplete_version_opens_no_port(export, tmp_path):
    shutil.copytree(export.latest, tmp_path / "1")
    shutil.rmtree(tmp_path / "1" / "variables")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(ValueError, match=r"incomplete SavedModel: it has no variables/variables\.index"):
        Server(tmp_path, grpc_port=port)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port)).close()


def test_taken_ports_are_errors(server, export):
    with pytest.raises(OSError, match=f"cannot listen on gRPC port {server.grpc_port}"):
        Server(export.base_path, grpc_port=server.grpc_port, rest_port=0)
    with pytest.raises(OSError, match="in use"):
        Server(export.base_path, rest_port=server.rest_port)


def test_servers_that_share_a_port_share_the_connections(server, export):
    with pytest.raises(OSError, match=f"cannot listen on gRPC port {server.grpc_port}"):
        Server(export.base_path, grpc_port=server.grpc_port, reuse_port=True)
    with Server(export.base_path, reuse_port=True) as one:
        other = Server(export.base_path, grpc_port=one.grpc_port, reuse_port=True).start()

        def ask():
            with PredictClient(f"127.0.0.1:{one.grpc_port}") as client:
                np.testing.assert_allclose(client.predict(export.columns)["logits"], export.logits, rtol=1e-6)

        for _ in range(64):  # each on a connection of its own, which the kernel gives to either
            ask()
        assert min(num_requests(one), num_requests(other)) > 0
        other.stop()
        before = num_requests(one)
        ask()
        assert num_requests(one) == before + 1


def num_requests(server):
    counted = [line for line in server.models.metrics.text().decode().splitlines() if "request_latency_count{" in line]
    return sum(float(line.split()[-1]) for line in counted)


def test_stop_finishes_what_has_begun(export):
    request = messages.PredictRequest(model_spec={"name": "default"}, output_filter=["logits"])
    rows = 80_000  # of one value each, which TensorFlow repeats: it takes a while
    for name, column in export.columns.items():
        fill_proto(request.inputs[name], column[:1], as_fields=True)
        request.inputs[name].tensor_shape.dim[0].size = rows
    server = Server(export.base_path).start()
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        predict = channel.unary_unary(f"/{messages.PREDICTION_SERVICE}/Predict")
        call = predict.future(request.SerializeToString(), timeout=60)
        version = next(iter(server.models._models["default"].by_number.values()))
        while not (version._num_users or call.done()):
            time.sleep(0.001)
        server.stop(grace=60)
        assert call.code() is grpc.StatusCode.OK, call.details()
    assert len(messages.PredictResponse.FromString(call.result()).outputs["logits"].float_val) == rows


def test_stop_loses_no_request(export):
    """Requests from several threads while the server stops: each is answered rightly or refused, none is lost."""
    server = Server(export.base_path).start()
    answers: list[np.ndarray] = []
    refusals: list[str] = []

    def ask():
        with PredictClient(f"127.0.0.1:{server.grpc_port}") as client:
            while True:
                try:
                    answers.append(client.predict(export.columns)["logits"])
                except PredictError as error:
                    refusals.append(error.code.name)
                    return

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    while len(answers) < 20:
        threads[0].join(0.01)
    server.stop()
    for thread in threads:
        thread.join()
    assert set(refusals) <= {"UNAVAILABLE", "CANCELLED"}
    assert len(refusals) == 4
    for logits in answers:
        np.testing.assert_allclose(logits, export.logits, rtol=1e-6)


def test_many_clients_at_once(server, export):
    errors: list[Exception] = []

    def ask(first: int):
        rows = {name: column[first : first + 4] for name, column in export.columns.items()}
        expected = export.logits[first : first + 4]
        try:
            with PredictClient(f"127.0.0.1:{server.grpc_port}") as client:
                for _ in range(20):
                    np.testing.assert_allclose(client.predict(rows)["logits"], expected, rtol=1e-6)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=ask, args=(4 * index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_too_many_requests_are_refused_and_the_others_answered(export):
    many = {name: np.repeat(column, 20_000, axis=0) for name, column in export.columns.items()}
    codes: list[str] = []
    with Server(export.base_path, max_requests=1) as server:
        target = f"127.0.0.1:{server.grpc_port}"

        def ask(columns):
            with PredictClient(target, cast=False, timeout=60, max_rows=10**9) as client:
                try:
                    assert len(client.predict(columns)["logits"]) == len(columns["user"])
                    codes.append("OK")
                except PredictError as error:
                    codes.append(error.code.name)

        thread = threading.Thread(target=ask, args=(many,))
        thread.start()
        with PredictClient(target) as other:
            while thread.is_alive():
                ask(export.columns)
                assert other.status()[0].state == "AVAILABLE"  # whatever is under way
        assert set(codes) == {"OK", "RESOURCE_EXHAUSTED"}
        counted = 'request_count{model_name="default",status="RESOURCE_EXHAUSTED"} '
        assert f"{counted}{codes.count('RESOURCE_EXHAUSTED')}.0" in server.models.metrics.text().decode()
        codes.clear()
        ask(many)  # there is room again
        ask(export.columns)
        assert codes == ["OK", "OK"]


def test_a_bound_that_cannot_be(export):
    with pytest.raises(ValueError, match="`max_requests` must be at least 1. Received: max_requests=0"):
        Server(export.base_path, max_requests=0)
