import base64
import http.client
import json

import numpy as np
import pytest
from c2al_serving.interfaces.json_memory import ARRAYS, EXAMPLES, check_body


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
        ("default/", 400, "Malformed request: GET /v1/models/default/"),
        ("default?verbose=1", 404, "Could not find any versions of model default?verbose=1"),
        (
            "default/versions/9223372036854775808",
            400,
            "Failed to convert model 'default', version '9223372036854775808'",
        ),
        ("default/versions/" + "9" * 5000, 400, "Failed to convert model 'default', version '999"),
        ("default/labels/none/metadata", 400, "Unrecognized servable version label: none"),
        ("%ff", 404, "Could not find any versions of model \N{REPLACEMENT CHARACTER}"),
    ],
)
def test_get_refuses(ask, path, status, message):
    received, answer = ask(path)
    assert received == status
    assert message in answer["error"]


GOOD = {"city": ["Oslo"], "user": [1], "price": [0.5], "tags": [["new"]]}
ROW = {name: values[0] for name, values in GOOD.items()}


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
        ({"instances": [ROW, {"user": 1}]}, "row 1 must have the keys city, price, tags, user. Received: {'user': 1}"),
        ({"instances": [ROW | {"other": 1}]}, "row 0 must have the keys city, price, tags, user. Received: {"),
        ({"instances": [ROW, 7]}, "row 1 must have the keys city, price, tags, user. Received: 7"),
        ({"inputs": {"city": ["a"]}}, "Missing named input: price, tags, user in 'inputs' object."),
        ({"inputs": GOOD | {"user": [1.0]}}, "user: JSON Value: 1.0 is not of expected type: int64"),
        ({"inputs": GOOD | {"user": [True]}}, "user: JSON Value: True is not of expected type: int64"),
        ({"inputs": GOOD | {"user": [2**63]}}, "user: a value is out of the range of int64"),
        ({"inputs": GOOD | {"price": ["1"]}}, "price: JSON Value: '1' is not of expected type: float32"),
        ({"inputs": GOOD | {"price": [None]}}, "null is not of expected type: float32. For what is not there send NaN"),
        ({"inputs": GOOD | {"city": [None]}}, 'null is not of expected type: string. For what is not there send ""'),
        ({"inputs": GOOD | {"user": [None]}}, "user: JSON Value: null is not of expected type: int64"),
        ({"inputs": GOOD | {"price": [1e39]}}, "price: a value is out of the range of float32"),
        ({"inputs": GOOD | {"price": [10**400]}}, "price: a value is out of the range of float32"),
        ({"inputs": GOOD | {"city": [1]}}, "city: JSON Value: 1 is not of expected type: string"),
        ({"inputs": GOOD | {"city": [{"b64": 1}]}}, "city: JSON Value: {'b64': 1} is not of expected type: string"),
        ({"inputs": GOOD | {"city": [{"b64": "?"}]}}, "city: Unable to base64 decode"),
        ({"inputs": GOOD | {"city": [{"b64": "é"}]}}, "city: Unable to base64 decode"),
        ({"inputs": GOOD | {"tags": [["a"], ["b", "c"]]}}, "tags: lists at depth 1 must have one length"),
        ({"inputs": GOOD | {"tags": ["a", ["b"]]}}, "tags: lists at depth 1 must have one length"),
        ({"inputs": GOOD | {"tags": ["a"]}}, "'tags' must have shape (?, ?)"),
        ({"inputs": GOOD, "signature_name": "other"}, 'Serving signature name: "other" not found'),
        ({"inputs": GOOD, "signature_name": 1}, "'signature_name' key must be a string"),
        ({"inputs": GOOD, "signature_name": None}, "'signature_name' key must be a string value. Received: null"),
    ],
)
def test_predict_refuses(ask, body, message):
    status, answer = ask("default:predict", body)
    assert (status, message in answer["error"]) == (400, True), answer


@pytest.mark.parametrize(
    "body",
    [
        {"inputs": GOOD},
        {"inputs": GOOD, "signature_name": ""},
        {"inputs": GOOD | {"other": [None]}, "unknown": {}},  # as in the real server
        {"inputs": GOOD | {"city": [{"b64": "T3Nsbw"}]}},  # without padding
        {"inputs": GOOD | {"price": [1]}},  # JavaScript's 1.0
    ],
)
def test_predict_takes(ask, body):
    status, answer = ask("default:predict", body)
    price = body["inputs"]["price"][0]
    assert (status, answer["outputs"]["logits"]) == (200, [[3.375 - price]])


def test_paths_match_in_either_case_but_methods_are_in_lower_case(ask):
    assert ask("default/METADATA") == ask("default")  # both as in the real server
    assert ask("default:PREDICT", {}) == (400, {"error": "Malformed request: POST /v1/models/default:PREDICT"})


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
    assert (status, "A body of 1800022 bytes takes too much memory" in answer["error"]) == (400, True)


def test_messages_show_the_beginning_of_a_long_value(ask):
    status, answer = ask("default:predict", {"inputs": {"price": ["x" * 10**6]}})
    assert status == 400
    assert len(answer["error"]) < 300
    status, answer = ask("default:predict", {"inputs": {"x" * 10**6: [1.0]}})
    assert (status, len(answer["error"]) < 400) == (400, True)


NUMBERS = {f"column_{number:02}": number / 7 for number in range(39)}
CODES = {f"column_{number:02}": f"{number:08x}" for number in range(26)}


@pytest.mark.parametrize(
    ("body", "later"),
    [
        ({"instances": [NUMBERS] * 4096}, ARRAYS),
        ({"instances": [NUMBERS | CODES] * 4096}, ARRAYS),
        ({"inputs": {"x": [0.1] * 100_000}}, ARRAYS),
        ({"examples": [NUMBERS] * 4096}, EXAMPLES),
    ],
)
def test_bodies_of_ordinary_requests_have_room(body, later):
    check_body(json.dumps(body).encode(), later)


def test_a_body_that_takes_too_much_is_refused():
    body = json.dumps({"instances": [NUMBERS] * 100}).encode()
    check_body(body, ARRAYS, 40 * len(body))
    with pytest.raises(ValueError, match="takes too much memory"):
        check_body(body, ARRAYS, 5 * len(body))
