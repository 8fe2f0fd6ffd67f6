import socket

import grpc
import numpy as np
import pytest
from c2al_serving.client import PredictClient, PredictError

from c2al_tf.protocol import messages


@pytest.fixture
def client(server):
    with PredictClient(f"127.0.0.1:{server.grpc_port}") as client:
        yield client


@pytest.mark.parametrize("module", ["client", "async_client"])
def test_a_client_is_thin(module, run_python):
    """What its import takes: modules, on which the seconds depend, and memory."""
    code = f"""
import sys, warnings
warnings.simplefilter("error")
import c2al_serving.{module}
loaded = {{name.partition(".")[0] for name in sys.modules}}
assert not loaded & {{"tensorflow", "tensorflow_serving", "keras", "pandas", "pyarrow"}}, loaded
ours = {{name for name in sys.modules if name.startswith("c2al_tf.")}}
assert all(name.startswith("c2al_tf.protocol") for name in ours), ours
num_modules = len(sys.modules)
with open("/proc/self/status") as status:
    peak = next(line.split()[1] for line in status if line.startswith("VmHWM"))
print(num_modules, peak)
"""
    num_modules, kilobytes = map(int, run_python(code).stdout.split())
    assert num_modules <= 400  # 327 with NumPy 2.4 and gRPC 1.80
    assert kilobytes <= 60_000


def test_predictions_are_the_models(client, export):
    outputs = client.predict(export.columns)
    assert outputs["logits"].shape == (64, 1)
    np.testing.assert_allclose(outputs["logits"], export.logits, rtol=1e-6)
    np.testing.assert_allclose(outputs["probabilities"], 1 / (1 + np.exp(-export.logits)), atol=1e-6)


def test_examples_give_the_same_as_columns(client, export):
    outputs = client.predict_examples(export.examples, outputs=["logits"])
    assert list(outputs) == ["logits"]
    np.testing.assert_allclose(outputs["logits"], export.logits, rtol=1e-6)


def test_columns_are_cast_to_what_the_model_declares(client, export):
    lists = {name: column.tolist() for name, column in export.columns.items()}
    np.testing.assert_allclose(client.predict(lists)["logits"], export.logits, rtol=1e-5)
    with pytest.raises(ValueError, match=r"column 'user' must hold int64. Received: float64"):
        client.predict(export.columns | {"user": export.columns["price"].astype(np.float64)})


def test_without_casting_the_server_decides(server, export):
    with PredictClient(f"127.0.0.1:{server.grpc_port}", cast=False) as client:
        assert client.predict(export.columns)["logits"].shape == (64, 1)
        with pytest.raises(PredictError, match=r"dtype int64. Received: int32") as caught:
            client.predict(export.columns | {"user": np.zeros(64, np.int32)})
        assert caught.value.code is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("max_rows", [1, 7, 64, 65])
def test_large_batches_go_in_pieces(server, export, max_rows):
    with PredictClient(f"127.0.0.1:{server.grpc_port}", max_rows=max_rows) as client:
        np.testing.assert_allclose(client.predict(export.columns)["logits"], export.logits, rtol=1e-6)


def test_requests_stay_under_four_megabytes(server, export):
    rows = 300
    columns = {name: np.resize(column, (rows, *column.shape[1:])) for name, column in export.columns.items()}
    columns["city"] = np.array(["x" * (100 * row) for row in range(rows)], object)  # 4.5 MB, the last rows the longest
    with PredictClient(f"127.0.0.1:{server.grpc_port}") as client:
        assert client.predict(columns)["logits"].shape == (rows, 1)


@pytest.mark.parametrize("max_rows", [2, 5])
def test_classify_and_regress(scores_server, score_examples, max_rows):
    with PredictClient(f"127.0.0.1:{scores_server.grpc_port}", max_rows=max_rows) as client:
        labels, scores = client.classify(score_examples)
        values = client.regress(score_examples, "regress")
        with pytest.raises(PredictError, match="INVALID_ARGUMENT"):
            client.regress(score_examples)  # the default signature is Classify's
        with pytest.raises(ValueError, match="column 'examples'") as ours:
            client.classify([1, 2])
    assert type(ours.value) is ValueError
    assert labels.tolist() == [["no", "yés"]] * 5
    np.testing.assert_array_equal(scores, [[-x, x] for x in range(5)])
    np.testing.assert_array_equal(values, [0, 2, 4, 6, 8])


@pytest.mark.parametrize(("limit", "count"), [(None, 2), (1 << 20, 5), (8 << 20, 1)])
def test_requests_are_as_large_as_they_may_be(answering, limit, count):
    sizes = []

    def answer(_method, request, _context):
        sizes.append(len(request))
        sent = messages.PredictRequest.FromString(request).inputs["x"]
        response = messages.PredictResponse()
        response.outputs["y"].CopyFrom(sent)
        return response

    keywords = {} if limit is None else {"max_request_bytes": limit}
    texts = [b"x" * (100 * row) for row in range(300)]  # 4.5 MB, the last rows the longest
    with answering(answer) as target, PredictClient(target, cast=False, **keywords) as client:
        assert client.predict({"x": texts})["y"].tolist() == texts
    limit = limit or 4 << 20
    assert len(sizes) == count
    assert max(sizes) < limit
    assert count == 1 or max(sizes) > limit - 35_000  # another row has no room


def test_a_row_beyond_four_megabytes_is_refused(client, export):
    columns = {name: column[:2] for name, column in export.columns.items()}
    columns["city"] = np.array(["x", "x" * (5 << 20)], object)
    with pytest.raises(ValueError, match="row 1 takes 5242"):
        client.predict(columns)


def test_no_rows(client, export):
    outputs = client.predict({name: column[:0] for name, column in export.columns.items()})
    assert outputs["logits"].shape == (0, 1)


def test_columns_must_have_rows_in_common(client, export):
    with pytest.raises(ValueError, match=r"same number of rows. Received: \{'city': 3"):
        client.predict(export.columns | {"city": ["a", "b", "c"]})
    with pytest.raises(ValueError, match="Received a scalar for: city"):
        client.predict(export.columns | {"city": "a"})


def test_metadata_and_status(client):
    signatures = client.metadata()
    assert list(signatures) == ["serialized_examples", "serving_default"]
    inputs = signatures["serving_default"].inputs
    assert {name: (str(spec.dtype), spec.shape) for name, spec in inputs.items()} == {
        "city": ("object", (None,)),
        "price": ("float32", (None,)),
        "tags": ("object", (None, None)),
        "user": ("int64", (None,)),
    }
    assert signatures["serving_default"].outputs["logits"].shape == (None, 1)
    assert [(status.version, status.state, status.error) for status in client.status()] == [(2, "AVAILABLE", "")]


def test_a_pinned_client_stays_with_its_version(server, export):
    with PredictClient(f"127.0.0.1:{server.grpc_port}") as client:
        assert client.version is None
        assert (client.pin(), client.version) == (2, 2)
        assert client.predict(export.columns)["logits"].shape == (64, 1)
    with PredictClient(f"127.0.0.1:{server.grpc_port}", version=1) as client:
        with pytest.raises(PredictError, match="NOT_FOUND"):
            client.pin()
        assert client.version == 1


def test_unknown_signature_names_the_right_ones(client, export):
    with pytest.raises(ValueError, match=r"no signature 'other'. It has: serialized_examples, serving_default"):
        client.predict(export.columns, signature_name="other")


def test_unknown_model_and_version(server, export):
    target = f"127.0.0.1:{server.grpc_port}"
    for keywords in ({"model_name": "other"}, {"version": 7}):
        with PredictClient(target, **keywords) as client, pytest.raises(PredictError, match=target) as caught:
            client.predict(export.columns)
        assert caught.value.code is grpc.StatusCode.NOT_FOUND
    with PredictClient(target, version=2) as client:
        assert client.predict(export.columns)["logits"].shape == (64, 1)


def test_no_server_is_an_error(export):
    with PredictClient("127.0.0.1:1") as client, pytest.raises(PredictError, match="UNAVAILABLE") as caught:
        client.predict(export.columns)
    assert caught.value.code is grpc.StatusCode.UNAVAILABLE


def test_a_late_answer_is_an_error():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        target = f"127.0.0.1:{silent.getsockname()[1]}"
        with PredictClient(target, timeout=0.2) as client, pytest.raises(PredictError, match="DEADLINE_EXCEEDED"):
            client.status()


def test_max_rows_must_be_positive():
    with pytest.raises(ValueError, match=r"`max_rows` must be at least 1. Received: max_rows=0"):
        PredictClient("localhost:1", max_rows=0)


def test_a_server_that_is_away_for_a_moment(door):
    door.refusals = 1
    with PredictClient(door.address, retries=0) as client, pytest.raises(PredictError, match="UNAVAILABLE"):
        client.status()
    door.refusals = 1
    with PredictClient(door.address, retries=4) as client:
        assert client.status()[0].state == "AVAILABLE"
    assert door.refusals == 0


def test_retries_that_cannot_be():
    with pytest.raises(ValueError, match="`retries` must be from 0 to 4, what gRPC allows. Received: retries=5"):
        PredictClient("localhost:1", retries=5)
