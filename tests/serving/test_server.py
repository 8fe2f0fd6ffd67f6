"""The server in a process of its own, and its lifetime; grpc_services and rest have their tests beside."""

import contextlib
import shutil
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
from c2al_serving.client import PredictClient, PredictError
from c2al_serving.server import Server

from c2al_tf.protocol import messages
from c2al_tf.protocol.tensors import fill_proto

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


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_own_process_without_tensorflows_python(export, number, start_process):
    with start_process([sys.executable, "-c", CODE, export.base_path], stderr=subprocess.DEVNULL) as process:
        grpc_port, rest_port, *loaded = process.stdout.readline().split()
        assert loaded == []
        with PredictClient(f"127.0.0.1:{grpc_port}") as client:
            np.testing.assert_allclose(client.predict(export.columns)["logits"], export.logits, atol=1e-5, rtol=1e-6)
        with socket.create_connection(("127.0.0.1", int(rest_port))):  # an idle connection does not keep it alive
            process.send_signal(number)
            assert process.stdout.read() == "stopped\n"
            assert process.wait() == 0


def test_the_largest_number_is_served(export, tmp_path):
    for name, source in (("9", "1"), ("10", "2")):
        shutil.copytree(export.base_path / source, tmp_path / name)
    (tmp_path / "notes").mkdir()
    with Server(tmp_path) as server:
        assert (server.models.available(), server.rest_port) == ({"default": [10]}, None)


def test_what_is_no_base_path(export, tmp_path):
    with pytest.raises(ValueError, match=r"Could not find base path .*absent"):
        Server(tmp_path / "absent", poll_seconds=None)
    with pytest.raises(ValueError, match="No versions of servable default found under base path"):
        Server(tmp_path, poll_seconds=None)
    with pytest.raises(ValueError, match=f"It is a SavedModel itself: .* use {export.base_path}"):
        Server(export.latest, poll_seconds=None)


def test_an_empty_base_path_is_waited_for_with_ports_closed(export, tmp_path, start_process):
    base_path = tmp_path / "models"
    with start_process([sys.executable, "-c", CODE, base_path], stderr=subprocess.PIPE) as process:
        assert "Could not find base path" in process.stderr.readline()
        shutil.copytree(export.latest, tmp_path / "copy")
        base_path.mkdir()
        assert "No versions of servable default found" in process.stderr.readline()
        (tmp_path / "copy").rename(base_path / "7")
        grpc_port, *_ = process.stdout.readline().split()
        with PredictClient(f"127.0.0.1:{grpc_port}") as client:
            assert client.status()[0].version == 7
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 0


def test_a_server_that_waits_for_a_model_can_be_stopped(tmp_path, start_process):
    with start_process([sys.executable, "-c", CODE, tmp_path], stderr=subprocess.PIPE) as process:
        assert "No versions of servable default found" in process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        assert process.stdout.read() == "stopped\n"
        assert process.wait() == 0


def test_an_incomplete_version_opens_no_port(export, tmp_path):
    shutil.copytree(export.latest, tmp_path / "1")
    shutil.rmtree(tmp_path / "1" / "variables")
    with socket.socket() as probe:  # keeps the port from all others but those that share it
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        with pytest.raises(ValueError, match=r"incomplete SavedModel: it has no variables/variables\.index"):
            Server(tmp_path, grpc_port=port, reuse_port=True, retries=0)
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
    with Server(export.base_path, reuse_port=True) as one, contextlib.ExitStack() as stack:
        other = stack.enter_context(Server(export.base_path, grpc_port=one.grpc_port, reuse_port=True))

        def ask():
            with PredictClient(f"127.0.0.1:{one.grpc_port}") as client:
                np.testing.assert_allclose(client.predict(export.columns)["logits"], export.logits, rtol=1e-6)

        for _ in range(64):  # each on a connection of its own, which the kernel gives to either
            ask()
        assert min(num_requests(one), num_requests(other)) > 0
        stack.close()
        before = num_requests(one)
        ask()
        assert num_requests(one) == before + 1


def num_requests(server):
    counted = [line for line in server.models.metrics.text().decode().splitlines() if "request_latency_count{" in line]
    return sum(float(line.split()[-1]) for line in counted)


def test_stop_finishes_what_has_begun(export, hold_model, until):
    request = messages.PredictRequest(model_spec={"name": "default"}, output_filter=["logits"])
    for name, column in export.columns.items():
        fill_proto(request.inputs[name], column)
    server = Server(export.base_path).start()
    with (
        grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel,
        ThreadPoolExecutor(1) as pool,
        hold_model() as held,
    ):
        predict = channel.unary_unary(f"/{messages.PREDICTION_SERVICE}/Predict")
        call = predict.future(request.SerializeToString(), timeout=300)
        until(lambda: held.calls)
        stopped = pool.submit(server.stop, grace=300)
        until(lambda: server._room._closed)
        with PredictClient(f"127.0.0.1:{server.grpc_port}", retries=0) as other:
            for _ in range(5):  # by then a server that does not wait would have closed its port
                assert other.status()[0].state == "AVAILABLE"
        held.released.set()
        stopped.result()
        assert call.code() is grpc.StatusCode.OK, call.details()
    assert len(messages.PredictResponse.FromString(call.result()).outputs["logits"].float_val) == 64


def test_stop_loses_no_request(export, until):
    """Requests from several threads while the server stops: each is answered rightly or refused, none is lost."""
    answers: list[np.ndarray] = []

    def ask() -> str:
        with PredictClient(f"127.0.0.1:{server.grpc_port}") as client:
            while True:
                try:
                    answers.append(client.predict(export.columns)["logits"])
                except PredictError as error:
                    return error.code.name

    with ThreadPoolExecutor(4) as pool, Server(export.base_path) as server:
        asking = [pool.submit(ask) for _ in range(4)]
        until(lambda: len(answers) >= 20 or any(future.done() for future in asking))
    assert {future.result() for future in asking} <= {"UNAVAILABLE", "CANCELLED"}
    assert len(answers) >= 20
    for logits in answers:
        np.testing.assert_allclose(logits, export.logits, rtol=1e-6)


def test_many_clients_at_once(server, export):
    def ask(first: int):
        rows = {name: column[first : first + 4] for name, column in export.columns.items()}
        expected = export.logits[first : first + 4]
        with PredictClient(f"127.0.0.1:{server.grpc_port}") as client:
            for _ in range(20):
                np.testing.assert_allclose(client.predict(rows)["logits"], expected, rtol=1e-6)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, range(0, 32, 4)))


def test_too_many_requests_are_refused_and_the_others_answered(export, hold_model, until):
    with (
        Server(export.base_path, max_requests=1) as server,
        ThreadPoolExecutor(1) as pool,
        PredictClient(f"127.0.0.1:{server.grpc_port}", cast=False) as client,
    ):

        def ask() -> None:
            np.testing.assert_allclose(client.predict(export.columns)["logits"], export.logits, rtol=1e-6)

        with hold_model() as held:
            first = pool.submit(ask)
            until(lambda: held.calls)
            for _ in range(3):
                with pytest.raises(PredictError, match="RESOURCE_EXHAUSTED: 1 requests of .* are under way"):
                    ask()
            assert client.status()[0].state == "AVAILABLE"  # whatever is under way
            held.released.set()
            first.result()
        counted = 'request_count{model_name="default",status="RESOURCE_EXHAUSTED"} 3.0'
        assert counted in server.models.metrics.text().decode()
        ask()  # there is room again


def test_a_bound_that_cannot_be(export):
    with pytest.raises(ValueError, match="`max_requests` must be at least 1. Received: max_requests=0"):
        Server(export.base_path, max_requests=0)
