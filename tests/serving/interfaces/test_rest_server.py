import contextlib
import gzip
import http.client
import json
import shutil
import socket
from concurrent.futures import ThreadPoolExecutor, wait

import numpy as np
import pytest
from c2al_serving.config.model_config import ModelConfig
from c2al_serving.interfaces import rest, rest_server
from c2al_serving.interfaces.rest_server import ANSWER_SECONDS
from c2al_serving.server import Server

from c2al_tf.saved_model import SavedModel, SavedModelError

PREDICT = "/v1/models/default:predict"
STATUS = "/v1/models/default"


def body_of(export):
    return json.dumps({"inputs": {name: column.tolist() for name, column in export.columns.items()}}).encode()


@contextlib.contextmanager
def connected(server, host="127.0.0.1"):
    with contextlib.closing(http.client.HTTPConnection(host, server.rest_port, timeout=300)) as connection:
        yield connection


def asked(connection, *request, **options):
    connection.request(*request, **options)
    return answered(connection)


def answered(connection):
    with connection.getresponse() as answer:
        return answer.status, answer.read()


def assert_predicts(answer, export):
    status, content = answer
    assert status == 200, content
    np.testing.assert_allclose(np.float32(json.loads(content)["outputs"]["logits"]), export.logits, rtol=1e-6)


def raw(server, request):
    """What the server answers to these bytes, with a header that HTTP/1.1 demands."""
    with socket.create_connection(("127.0.0.1", server.rest_port), timeout=300) as connection:
        connection.sendall(request.replace(b" HTTP/1.1\r\n", b" HTTP/1.1\r\nHost: localhost\r\n"))
        with http.client.HTTPResponse(connection, method=request.split(b" ")[0].decode()) as response:
            response.begin()
            return response.status, response.read()


@pytest.mark.parametrize("form", ["gzip", "chunked", "gzip and chunked"])
def test_bodies_in_other_forms(server, export, form):
    body = body_of(export)
    headers = {}
    if "gzip" in form:
        body, headers = gzip.compress(body), {"Content-Encoding": "gzip"}
    pieces = (body[start : start + 1000] for start in range(0, len(body), 1000))
    with connected(server) as connection:
        for _ in range(2):  # the connection is as good as before
            sent = list(pieces) if "chunked" in form else body
            connection.request("POST", PREDICT, sent, headers, encode_chunked="chunked" in form)
            pieces = sent
            assert_predicts(answered(connection), export)


def test_a_large_body_and_answer(server):
    rows = 20_000
    columns = {"city": ["Oslo"] * rows, "user": list(range(rows)), "price": [0.5] * rows, "tags": [["new"]] * rows}
    body = json.dumps({"inputs": columns}).encode()
    assert len(body) > rest._LARGE  # so both are done in threads
    with connected(server) as connection:
        status, content = asked(connection, "POST", PREDICT, gzip.compress(body), {"Content-Encoding": "gzip"})
        assert (status, len(json.loads(content)["outputs"]["logits"])) == (200, rows)


def test_what_is_unzipped_has_a_bound(server):
    bomb = gzip.compress(b" " * (rest_server._MAX_UNZIPPED + 1))
    assert len(bomb) < 100_000
    with connected(server) as connection:
        for body in (bomb, gzip.compress(b"{}")[:-1], b"{}"):
            status, content = asked(connection, "POST", PREDICT, body, {"Content-Encoding": "gzip"})
            assert (status, json.loads(content)) == (
                400,
                {"error": "The body is not in gzip's format, or has more than 22369621 bytes once it is unzipped."},
            )


def test_a_body_may_have_32_mb(server):
    with connected(server) as connection:
        assert asked(connection, "POST", PREDICT, b" " * rest_server._MAX_BODY)[0] == 400  # no JSON
        assert asked(connection, "POST", PREDICT, b" " * (rest_server._MAX_BODY + 1))[0] == 413
        assert asked(connection, "GET", STATUS)[0] == 200


def test_answers_are_not_zipped(server):
    """As in the real server. Many clients ask for it by default, and would pay for it with the server's time."""
    with connected(server) as connection:
        connection.request("GET", STATUS, headers={"Accept-Encoding": "gzip"})
        with connection.getresponse() as answer:
            assert (answer.headers["Content-Encoding"], answer.headers["Content-Type"]) == (None, "application/json")
            assert b"AVAILABLE" in answer.read()


def test_a_client_that_waits_for_leave_to_send_its_body(server, export):
    body = body_of(export)
    head = f"POST {PREDICT} HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.rest_port), timeout=300) as connection:
        connection.sendall(head.encode())
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(body)
        with http.client.HTTPResponse(connection) as answer:
            answer.begin()
            assert_predicts((answer.status, answer.read()), export)


def test_the_body_of_a_get_is_not_the_next_request(server):
    with connected(server) as connection:
        for _ in range(2):
            status, content = asked(connection, "GET", STATUS, b"GET /v1/models/other HTTP/1.1\r\n\r\n")
            assert (status, b"AVAILABLE" in content) == (200, True)


@pytest.mark.parametrize(
    ("request_bytes", "status", "message"),
    [
        (b"PUT /v1/models/default HTTP/1.1\r\n\r\n", 400, b"Malformed request: PUT /v1/models/default"),
        (b"DELETE /v1/models/default HTTP/1.1\r\n\r\n", 400, b"Malformed request: DELETE"),
        (b"POST /v1/models/default HTTP/1.1\r\nContent-Length: 0\r\n\r\n", 400, b"Malformed request: POST"),
        (b"POST /v1/models/default:predict HTTP/1.1\r\n\r\n", 400, b"JSON Parse error"),
        (b"POST /v1/models/default:predict?x=1 HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}", 400, b"Malformed request"),
        (b"HEAD /v1/models/default HTTP/1.1\r\n\r\n", 400, b""),
        (b"GET /v1/models HTTP/1.1\r\n\r\n", 400, b"Missing model name in request."),
        (b"GET /v1/models/versions/1 HTTP/1.1\r\n\r\n", 400, b"Missing model name in request."),
        (b"GET /v1/ HTTP/1.1\r\n\r\n", 400, b"Malformed request: GET /v1/"),
        (b"GET /v1 HTTP/1.1\r\n\r\n", 404, b"Not found: /v1"),
        (b"GET / HTTP/1.1\r\n\r\n", 404, b"Not found: /"),
        (b"GET http://localhost/v1/models/default HTTP/1.1\r\n\r\n", 200, b"AVAILABLE"),
        (b"GET /v1/models/default HTTP/1.0\r\n\r\n", 200, b"AVAILABLE"),
        (b"POST /v1/models/default:predict HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400, b"Content-Length"),
        (b"POST /v1/models/default:predict HTTP/1.1\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n", 400, b""),
        (b"GET /v1/models/default HTTP/1.1\r\n" + b"X: x\r\n" * 150 + b"\r\n", 400, b""),
        (b"GET /v1/models/" + b"x" * 10_000 + b" HTTP/1.1\r\n\r\n", 400, b""),
        (b"GET /v1/models/default HTTP/x\r\n\r\n", 400, b""),
        ("GET /v1/models/día HTTP/1.1\r\n\r\n".encode(), 400, b"Invalid char in url"),
        (b"\x16\x03\x01\n\n", 400, b""),
    ],
)
def test_requests_that_are_odd(server, request_bytes, status, message):
    received, content = raw(server, request_bytes)
    assert (received, message in content) == (status, True), content


@pytest.fixture(scope="module")
def named(export, tmp_path_factory):
    """A server whose model's name needs percent-encoding, and whose version is a time in nanoseconds."""
    base_path = tmp_path_factory.mktemp("named")
    shutil.copytree(export.latest, base_path / "1764300000123456789")
    with Server([ModelConfig("ads/día :1", base_path)], rest_port=0) as server:
        yield server


@pytest.mark.parametrize("model", ["ads%2Fd%C3%ADa%20%3A1", "%61ds%2fd%c3%ada%20%3a1"])
def test_names_in_percents_and_versions_in_nanoseconds(named, export, model):
    for version in ("", "/versions/1764300000123456789", "/versions/01764300000123456789"):
        path = f"/v1/models/{model}{version}"
        status, content = raw(named, f"GET {path} HTTP/1.1\r\n\r\n".encode())
        assert (status, json.loads(content)["model_version_status"][0]["version"]) == (200, "1764300000123456789")
        body = body_of(export)
        assert_predicts(
            raw(named, f"POST {path}:predict HTTP/1.1\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body), export
        )


def test_ipv6(export):
    with Server(export.base_path, rest_port=0, host="::1") as server:
        with connected(server, "::1") as connection:
            assert_predicts(asked(connection, "POST", PREDICT, body_of(export)), export)
        assert f"gRPC on ::1:{server.grpc_port}" in str(server)


def test_every_request_is_counted_as_in_the_real_server(export):
    with Server(export.base_path, rest_port=0) as server, connected(server) as connection:
        for request in (
            ("GET", STATUS),
            ("GET", f"{STATUS}/metadata"),
            ("POST", PREDICT, body_of(export)),
            ("POST", PREDICT, b"{"),
            ("GET", f"{STATUS}/versions/7"),
            ("GET", "/v1/models/absent"),
            ("GET", "/v1/models"),
            ("PUT", STATUS),
            ("GET", "/"),
            ("GET", "/monitoring/prometheus/metrics"),
        ):
            status, content = asked(connection, *request)
    assert status == 200
    lines = [line.rpartition(" ") for line in content.decode().splitlines()]
    name = ":tensorflow:serving:request_"
    counts = {key.removeprefix(name): float(count) for key, _, count in lines if key.startswith(name)}
    assert {key: count for key, count in counts.items() if key.startswith(("count", "latency_count"))} == {
        'count{model_name="default",status="OK"}': 3,
        'count{model_name="default",status="INVALID_ARGUMENT"}': 1,
        'count{model_name="default",status="NOT_FOUND"}': 1,
        'count{model_name="other",status="NOT_FOUND"}': 1,
        'count{model_name="",status="INVALID_ARGUMENT"}': 2,
        'latency_count{API="",entrypoint="REST",model_name="default"}': 2,
        'latency_count{API="predict",entrypoint="REST",model_name="default"}': 1,
    }


@contextlib.contextmanager
def half_sent(server, data, until):
    """A predict request that is under way, and not whole until `send` is called with the rest."""
    with connected(server) as connection:
        before = server._rest._room._count
        connection.putrequest("POST", PREDICT)
        connection.putheader("Content-Length", str(len(data)))
        connection.endheaders(data[:1])
        until(lambda: server._rest._room._count > before)
        yield connection


def test_too_many_requests_are_refused_and_the_others_answered(export, until):
    data = body_of(export)
    with (
        Server(export.base_path, rest_port=0, max_requests=1) as server,
        half_sent(server, data, until) as slow,
        connected(server) as other,
    ):
        status, content = asked(other, "POST", PREDICT, data)
        assert status == 429
        assert json.loads(content)["error"].startswith("1 requests of ")
        status, content = asked(other, "GET", STATUS)  # the refused body was read: the connection is still good
        assert (status, b"AVAILABLE" in content) == (200, True)
        counted = b'request_count{model_name="default",status="RESOURCE_EXHAUSTED"} 1.0'
        assert counted in asked(other, "GET", "/monitoring/prometheus/metrics")[1]
        slow.send(data[1:])
        assert_predicts(answered(slow), export)
        assert_predicts(asked(other, "POST", PREDICT, data), export)  # there is room again


def test_slow_connections_hold_up_nobody(export, until):
    with Server(export.base_path, rest_port=0) as server, contextlib.ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(half_sent(server, body_of(export), until))
            address = ("127.0.0.1", server.rest_port)
            for line in (b"", b"GET /v1/mod", f"POST {PREDICT} HTTP/1.1\r\nX:".encode()):
                stack.enter_context(socket.create_connection(address, timeout=300)).sendall(line)
        connection = stack.enter_context(connected(server))
        assert_predicts(asked(connection, "POST", PREDICT, body_of(export)), export)
        for path in (STATUS, "/monitoring/prometheus/metrics"):
            assert asked(connection, "GET", path)[0] == 200


def test_a_body_comes_within_a_bounded_time(export, monkeypatch):
    with Server(export.base_path, rest_port=0) as server, connected(server) as slow:
        monkeypatch.setattr(rest_server, "_SECONDS", 0.05)
        slow.putrequest("POST", PREDICT)
        slow.putheader("Content-Length", "2")
        slow.endheaders(b"{")
        assert answered(slow)[0] == 408


def test_a_head_comes_within_a_bounded_time(export, monkeypatch):
    monkeypatch.setattr(rest_server, "_SECONDS", 0.05)
    with Server(export.base_path, rest_port=0) as server:
        for head in (b"", b"GET /v1/mod"):
            with socket.create_connection(("127.0.0.1", server.rest_port), timeout=300) as connection:
                connection.sendall(head)
                assert connection.recv(1) == b""  # it is closed


ROWS = 50_000


@contextlib.contextmanager
def unread(server, until):
    """A large answer that its client does not read: the client's connection, and the server's transport."""
    server._rest._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    columns = {"city": [""] * ROWS, "user": [1234] * ROWS, "price": [0.1234567] * ROWS, "tags": [[]] * ROWS}
    body = gzip.compress(json.dumps({"inputs": columns}).encode())
    head = f"POST {PREDICT} HTTP/1.0\r\nContent-Encoding: gzip\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(300)
        connection.connect(("127.0.0.1", server.rest_port))
        connection.sendall(head.encode() + body)

        found = []

        def find():
            transports = [each.transport for each in server._rest._server.connections]
            found.extend(each for each in transports if each and each.get_write_buffer_size())
            return found

        until(find)
        yield connection, found[0]


def test_who_does_not_read_its_answer_is_not_waited_for(export, monkeypatch, until):
    monkeypatch.setattr(rest_server, "_SECONDS", 2.0)
    with Server(export.base_path, rest_port=0) as server, unread(server, until) as (_, transport):
        until(transport.is_closing)
        until(lambda: not server._rest._server.connections)


def test_connections_beyond_the_bound_are_closed_and_the_others_answered(export, monkeypatch, until):
    monkeypatch.setattr(rest_server, "_SPARE_CONNECTIONS", 1)
    with Server(export.base_path, rest_port=0, max_requests=1) as server, contextlib.ExitStack() as stack:
        first, second, third, fourth = (stack.enter_context(connected(server)) for _ in range(4))
        assert [asked(each, "GET", STATUS)[0] for each in (first, second)] == [200, 200]
        third.connect()
        with http.client.HTTPResponse(third.sock) as answer:  # it is told before it asks
            answer.begin()
            assert (answer.status, answer.headers["Connection"]) == (503, "close")
        assert asked(first, "GET", STATUS)[0] == 200
        first.close()
        until(lambda: len(server._rest._server.connections) < 2)
        assert asked(fourth, "GET", STATUS)[0] == 200


def test_stop_finishes_what_has_begun_and_takes_no_more(export, hold_model, until):
    server = Server(export.base_path, rest_port=0).start()
    data = body_of(export)
    with (
        connected(server) as asking,
        connected(server) as late,
        connected(server) as idle,
        ThreadPoolExecutor(1) as pool,
        hold_model() as held,
    ):
        assert asked(late, "GET", STATUS)[0] == asked(idle, "GET", STATUS)[0] == 200
        asking.request("POST", PREDICT, data)
        until(lambda: held.calls)
        with half_sent(server, data, until) as slow:
            stopped = pool.submit(server.stop, grace=300)
            until(lambda: server._rest._room._closed)
            status, content = asked(late, "POST", PREDICT, data)
            assert (status, json.loads(content)) == (503, {"error": "The server is about to stop."})
            held.released.set()
            slow.send(data[1:])
            assert_predicts(answered(asking), export)
            assert_predicts(answered(slow), export)
        stopped.result()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", server.rest_port)).close()


def test_stop_writes_large_answers_to_their_end(export, until):
    server = Server(export.base_path, rest_port=0).start()
    with unread(server, until) as (connection, transport), ThreadPoolExecutor(1) as pool:
        left = pool.submit(lambda: server.stop(grace=300) or transport.get_write_buffer_size())
        until(lambda: server._rest._runner.server is None)
        wait([left], timeout=0.5)  # it waits for its client alone
        with http.client.HTTPResponse(connection) as answer:
            answer.begin()
            content = json.loads(answer.read())
        assert left.result() == 0
    assert len(content["outputs"]["logits"]) == ROWS


def test_the_model_has_thirty_seconds(export, monkeypatch):
    seconds, call = [], SavedModel.call

    def timed(model, inputs, names, signature, limit=None):
        seconds.append(limit)
        return call(model, inputs, names, signature, limit)

    with Server(export.base_path, rest_port=0) as server, connected(server) as connection:
        monkeypatch.setattr(SavedModel, "call", timed)  # not while it warms the model, which may take any time
        for _ in range(2):  # a connection's requests have thirty seconds each
            assert_predicts(asked(connection, "POST", PREDICT, body_of(export)), export)
    assert [0 < limit <= ANSWER_SECONDS for limit in seconds] == [True, True]


def test_a_deadline_that_has_passed_is_504(export, monkeypatch):
    def late(*_):
        raise SavedModelError("Timed out waiting for notification", 4)

    with Server(export.base_path, rest_port=0) as server, connected(server) as connection:
        monkeypatch.setattr(SavedModel, "call", late)
        status, content = asked(connection, "POST", PREDICT, body_of(export))
    assert (status, json.loads(content)) == (504, {"error": "Timed out waiting for notification"})
