import base64
import contextlib
import http.client
import json
import socket

import numpy as np
import pytest
from c2al_serving.interfaces import rest
from c2al_serving.interfaces.json_memory import room_beside
from c2al_serving.server import Server


@pytest.fixture
def ask(server):
    connection = http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=300)

    def ask(path, body=None):
        data = body if isinstance(body, bytes | None) else json.dumps(body)
        connection.request("GET" if body is None else "POST", f"/v1/models/{path}", data)
        response = connection.getresponse()
        assert response.headers["Content-Type"] == "application/json"
        return response.status, json.loads(response.read())

    yield ask
    connection.close()


def as_json(columns, rows=slice(None)):
    return {name: column[rows].tolist() for name, column in columns.items()}


def test_columns(ask, export):
    status, answer = ask("default:predict", {"inputs": as_json(export.columns)})
    assert (status, list(answer)) == (200, ["outputs"])
    np.testing.assert_allclose(np.float32(answer["outputs"]["logits"]), export.logits, rtol=1e-6)


def test_rows(ask, export):
    columns = as_json(export.columns)
    rows = [{name: column[row] for name, column in columns.items()} for row in range(64)]
    status, answer = ask("default/versions/2:predict", {"instances": rows, "signature_name": "serving_default"})
    assert (status, list(answer)) == (200, ["predictions"])
    assert list(answer["predictions"][0]) == ["logits", "probabilities"]
    np.testing.assert_allclose(np.float32([row["logits"] for row in answer["predictions"]]), export.logits, rtol=1e-6)


@pytest.mark.parametrize("form", ["bare rows", "named rows", "bare column", "named column"])
def test_a_single_input_may_go_without_its_name(ask, export, form):
    values = [{"b64": base64.b64encode(example).decode()} for example in export.examples]
    body = {
        "bare rows": {"instances": values},
        "named rows": {"instances": [{"examples": value} for value in values]},
        "bare column": {"inputs": values},
        "named column": {"inputs": {"examples": values}},
    }[form]
    status, answer = ask("default:predict", body | {"signature_name": "serialized_examples"})
    assert status == 200, answer
    logits = [row["logits"] for row in answer["predictions"]] if "rows" in form else answer["outputs"]["logits"]
    np.testing.assert_allclose(np.float32(logits), export.logits, rtol=1e-6)


def test_status_and_metadata(ask):
    state = {"version": "2", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    assert ask("default") == ask("default/versions/2") == (200, {"model_version_status": [state]})
    status, answer = ask("default/metadata")
    assert status == 200
    assert answer["model_spec"] == {"name": "default", "signature_name": "", "version": "2"}
    price = answer["metadata"]["signature_def"]["signature_def"]["serving_default"]["inputs"]["price"]
    assert price["dtype"] == "DT_FLOAT"
    assert price["tensor_shape"] == {"dim": [{"size": "-1", "name": ""}], "unknown_rank": False}


@pytest.mark.parametrize(
    ("path", "status", "message"),
    [
        ("other", 404, "Could not find any versions of model other"),
        ("default/versions/9", 404, "Could not find version 9 of model default"),
        ("other/metadata", 404, "Servable not found for request: Latest(other)"),
        ("default:predict", 400, "Malformed request: GET /v1/models/default:predict"),
        ("default/other", 400, "Malformed request"),
    ],
)
def test_get_refuses(ask, path, status, message):
    received, answer = ask(path)
    assert received == status
    assert message in answer["error"]


GOOD = {"city": ["Oslo"], "user": [1], "price": [0.5], "tags": [["new"]]}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{", "JSON Parse error"),
        (b"[" * 100_000, "JSON Parse error"),
        (b"\xff", "JSON Parse error"),
        ([], "must be an object"),
        ({}, "either 'instances' or 'inputs'"),
        ({"inputs": GOOD, "instances": []}, "either 'instances' or 'inputs'"),
        ({"instances": []}, "at least one row"),
        ({"instances": {}}, "at least one row"),
        ({"instances": [1]}, "has 4 inputs, so each value needs its name"),
        ({"inputs": [1]}, "has 4 inputs, so each value needs its name"),
        ({"instances": [{"city": "a"}, {"user": 1}]}, "row 1 must have the same inputs as row 0: city"),
        ({"inputs": {"other": [1]}}, "does not have named input: other"),
        ({"inputs": {"city": ["a"]}}, "Missing but required: {price, tags, user}"),
        ({"inputs": GOOD | {"user": [1.0]}}, "user: JSON Value: 1.0 is not of expected type: int64"),
        ({"inputs": GOOD | {"user": [True]}}, "user: JSON Value: True is not of expected type: int64"),
        ({"inputs": GOOD | {"user": [2**63]}}, "user: a value is out of the range of int64"),
        ({"inputs": GOOD | {"price": ["1"]}}, "price: JSON Value: '1' is not of expected type: float32"),
        ({"inputs": GOOD | {"price": [None]}}, "price: JSON Value: None is not of expected type: float32"),
        ({"inputs": GOOD | {"price": [1e39]}}, "price: a value is out of the range of float32"),
        ({"inputs": GOOD | {"price": [10**400]}}, "price: a value is out of the range of float32"),
        ({"inputs": GOOD | {"city": [1]}}, "city: JSON Value: 1 is not of expected type: string"),
        ({"inputs": GOOD | {"city": [{"b64": "?"}]}}, "city: Unable to base64 decode"),
        ({"inputs": GOOD | {"city": [{"b64": "é"}]}}, "city: Unable to base64 decode"),
        ({"inputs": GOOD | {"tags": [["a"], ["b", "c"]]}}, "tags: lists at depth 1 must have one length"),
        ({"inputs": GOOD | {"tags": ["a", ["b"]]}}, "tags: lists at depth 1 must have one length"),
        ({"inputs": GOOD | {"tags": ["a"]}}, "'tags' must have shape (?, ?)"),
        ({"inputs": GOOD, "signature_name": "other"}, 'Serving signature name: "other" not found'),
        ({"inputs": GOOD, "signature_name": 1}, "'signature_name' key must be a string"),
    ],
)
def test_predict_refuses(ask, body, message):
    status, answer = ask("default:predict", body)
    assert status == 400
    assert message in answer["error"]


def test_nesting_has_an_end(ask):
    value = 1
    for _ in range(100):
        value = [value]
    status, answer = ask("default:predict", {"inputs": GOOD | {"price": value}})
    assert (status, answer["error"]) == (400, "price: lists may be nested at most 32 deep.")


def test_special_floats_and_shortest_decimals(ask):
    prices = [float("nan"), float("-inf"), 2.8]
    body = {"inputs": {"city": ["Oslo"] * 3, "user": [0] * 3, "price": prices, "tags": [[]] * 3}}
    _, answer = ask("default:predict", body)
    logits = [row[0] for row in answer["outputs"]["logits"]]
    assert np.isnan(logits[0])
    assert logits[1:] == [float("inf"), float(str(np.float32(3) - np.float32(2.8)))]


def test_too_many_requests_are_refused_and_the_others_answered(export, until):
    data = json.dumps({"inputs": as_json(export.columns)}).encode()
    predict = "/v1/models/default:predict"
    with Server(export.base_path, rest_port=0, max_requests=1) as server:
        slow, other = (http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=300) for _ in range(2))
        with contextlib.closing(slow), contextlib.closing(other):
            slow.putrequest("POST", predict)
            slow.putheader("Content-Length", str(len(data)))
            slow.endheaders(data[:1])
            until(lambda: not server._rest.room._value)  # it is under way, not whole yet
            other.request("POST", predict, data)
            answer = other.getresponse()
            status, content = answer.status, json.loads(answer.read())
            assert (status, content) == (429, {"error": "1 requests are under way, which is the bound."})
            other.request("GET", "/v1/models/default")  # the refused body was read: the connection is still good
            answer = other.getresponse()
            assert (answer.status, b"AVAILABLE" in answer.read()) == (200, True)
            slow.send(data[1:])
            assert slow.getresponse().status == 200
            other.request("POST", predict, data)  # there is room again
            status = other.getresponse().status
            assert status == 200


def test_connections_beyond_the_bound_are_closed_and_the_others_answered(export, monkeypatch, until):
    monkeypatch.setattr(rest, "_SPARE_CONNECTIONS", 1)

    def status(connection):
        connection.request("GET", "/v1/models/default")
        with connection.getresponse() as answer:
            answer.read()
            return answer.status

    with Server(export.base_path, rest_port=0, max_requests=1) as server, contextlib.ExitStack() as stack:
        first, second, third, fourth = (
            stack.enter_context(
                contextlib.closing(http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=300))
            )
            for _ in range(4)
        )
        assert (status(first), status(second)) == (200, 200)
        third.connect()
        with http.client.HTTPResponse(third.sock) as answer:  # it is told before it asks
            answer.begin()
            assert (answer.status, answer.headers["Connection"]) == (503, "close")
        assert status(first) == 200
        first.close()
        until(lambda: len(server._rest._open) < 2)
        assert status(fourth) == 200


def test_a_connection_whose_get_has_a_body_is_closed(server):
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=300)) as connection:
        connection.request("GET", "/v1/models/default", b"GET /v1/models/other HTTP/1.1\r\n\r\n")
        with connection.getresponse() as answer:
            assert (answer.status, answer.headers["Connection"]) == (200, "close")


PREDICT = b"POST /v1/models/default:predict HTTP/1.1\r\n"


@pytest.mark.parametrize(
    ("request_bytes", "status", "message"),
    [
        (PREDICT + b"\r\n", 411, "Content-Length must be given"),
        (PREDICT + b"Content-Length: -1\r\n\r\n", 411, "Content-Length must be given"),
        (PREDICT + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n", 413, "Content-Length may be at most 33554432"),
        (
            PREDICT + b"Content-Length: 9\r\n\r\n{}",
            400,
            "The body must have 9 bytes, as Content-Length says. Received: 2",
        ),
        (PREDICT + b"X: x\r\n" * 150 + b"\r\n", 431, "Too many headers"),
        (b"PUT /v1/models/default HTTP/1.1\r\n\r\n", 501, "Unsupported method ('PUT')"),
        (b"GET /v1/models/x HTTP/0.9\r\n\r\n", 404, "Could not find any versions of model x"),
        (b"GET /v1/models/x\r\n\r\n", 404, "Could not find any versions of model x"),
        (b"GET /v1/models/default HTTP/2.0\r\n\r\n", 505, "Invalid HTTP version (2.0)"),
        (b"GET /v1/models/default HTTP/x\r\n\r\n", 400, "Bad request version ('HTTP/x')"),
        (b"\x16\x03\x01\n", 400, "Bad request syntax"),
    ],
)
def test_what_is_no_request_is_told_so(server, request_bytes, status, message):
    with socket.create_connection(("127.0.0.1", server.rest_port), timeout=300) as connection:
        connection.sendall(request_bytes)
        connection.shutdown(socket.SHUT_WR)
        with http.client.HTTPResponse(connection) as response:
            response.begin()
            answer = json.loads(response.read())
    assert (response.status, response.headers["Content-Type"]) == (status, "application/json")
    assert message in answer["error"]


@pytest.mark.parametrize("piece", ["[]", "{}", '""', '{"b64": ""}', "[[[[]]]]"])
@pytest.mark.parametrize("place", ['{"inputs": {"price": [%s]}}', '{"instances": [%s]}'])
def test_json_that_takes_much_memory_is_refused_before_it_is_parsed(ask, piece, place):
    body = place % ",".join([piece] * 1_000_000)
    status, answer = ask("default:predict", body.encode())
    assert (status, f"A body of {len(body)} bytes takes too much memory: a request may cost" in answer["error"]) == (
        400,
        True,
    )


def test_a_body_of_many_strings_has_room_for_so_many_only(ask):
    status, answer = ask("default:predict", json.dumps({"inputs": {"city": ["ab"] * 300_000}}).encode())
    assert status == 400
    assert "Input 'city' of 300000 values takes too much memory" in answer["error"]


def test_messages_show_the_beginning_of_a_long_value(ask):
    status, answer = ask("default:predict", {"inputs": {"price": ["x" * 10**6]}})
    assert status == 400
    assert len(answer["error"]) < 300
    status, answer = ask("default:predict", {"inputs": {"x" * 10**6: [1.0]}})
    assert (status, len(answer["error"]) < 400) == (400, True)


def test_bodies_of_ordinary_requests_have_room():
    row = {f"column_{number:02}": f"{number:08x}" if number < 26 else number / 7 for number in range(39)}
    room = room_beside(json.dumps({"instances": [row] * 4096}).encode())
    assert room.left > 4096 * (26 * (176 + 2 * 8) + 13 * 28 + 39 * 8)
