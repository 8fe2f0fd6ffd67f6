"""Classify, Regress and MultiInference, with the official stubs as the client, and their REST forms."""

import http.client
import json

import grpc
import numpy as np
import pytest
import tensorflow as tf
from c2al_serving.config.batching_parameters import BatchingParameters
from c2al_serving.server import Server
from tensorflow_serving.apis import (
    classification_pb2,
    inference_pb2,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

from c2al_tf.protocol import messages
from c2al_tf.saved_model.session import Session

CLASSIFY, REGRESS = "tensorflow/serving/classify", "tensorflow/serving/regress"
SPEC = [tf.TensorSpec([None], tf.string, "inputs")]


class Forms(tf.Module):
    """`x` of an example doubled, `y` added to it, in every form that is right, and in some that are not."""

    def __init__(self):
        self.two = tf.Variable(2.0)

    def value(self, inputs):
        features = {name: tf.io.FixedLenFeature([], tf.float32, 0.0) for name in "xy"}
        parsed = tf.io.parse_example(inputs, features)
        return self.two * parsed["x"] + parsed["y"]

    def signatures(self):
        def scores(inputs):
            return tf.stack([-self.value(inputs), self.value(inputs)], axis=1)

        def classes(inputs):
            return tf.tile([["no", "yés"]], [tf.size(inputs), 1])

        forms = {
            "serving_default": lambda inputs: {"classes": classes(inputs), "scores": scores(inputs)},
            "scores_only": lambda inputs: {"scores": scores(inputs)},
            "classes_only": lambda inputs: {"classes": classes(inputs)},
            "regress": lambda inputs: {"outputs": self.value(inputs)[:, None]},
            "regress_flat": lambda inputs: {"outputs": self.value(inputs)},
            "three_outputs": lambda inputs: {name: self.value(inputs) for name in "abc"},
            "other_outputs": lambda inputs: {"other": self.value(inputs)},
            "flat_scores": lambda inputs: {"scores": self.value(inputs)},
            "double_scores": lambda inputs: {"scores": tf.cast(scores(inputs), tf.float64)},
            "short": lambda inputs: {"scores": scores(inputs)[1:]},
            "wide_classes": lambda inputs: {"classes": tf.tile(classes(inputs), [1, 2]), "scores": scores(inputs)},
            "wide_values": lambda inputs: {"outputs": scores(inputs)},
            "double_values": lambda inputs: {"outputs": tf.cast(self.value(inputs), tf.float64)},
            "short_values": lambda inputs: {"outputs": self.value(inputs)[1:]},
        }
        functions = {name: tf.function(form, input_signature=SPEC) for name, form in forms.items()}
        named = tf.function(lambda examples: {"scores": scores(examples)})
        two = tf.function(lambda inputs, more: {"scores": scores(inputs), "more": more})
        functions["other_input"] = named.get_concrete_function(tf.TensorSpec([None], tf.string, "examples"))
        functions["two_inputs"] = two.get_concrete_function(*SPEC, tf.TensorSpec([None], tf.string, "more"))
        return functions


@pytest.fixture(scope="module")
def base_path(tmp_path_factory):
    """Method names as TensorFlow 2 writes them, `predict`, but for two signatures."""
    base, module = tmp_path_factory.mktemp("forms"), Forms()
    tf.saved_model.save(module, str(base / "3"), signatures=module.signatures())
    updater = tf.compat.v1.saved_model.signature_def_utils.MethodNameUpdater(str(base / "3"))
    updater.replace_method_name("serving_default", CLASSIFY)
    updater.replace_method_name("regress", REGRESS)
    updater.save()
    return base


@pytest.fixture(scope="module")
def server(serving_process, base_path):
    with serving_process(base_path) as server:
        yield server


@pytest.fixture(scope="module")
def channel(server):
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        yield channel


@pytest.fixture(scope="module")
def stub(channel):
    return prediction_service_pb2_grpc.PredictionServiceStub(channel)


def example(**features):
    made = tf.train.Example()
    for name, value in features.items():
        made.features.feature[name].float_list.value.append(value)
    return made


def fill(request, examples, context=None, signature=""):
    request.model_spec.name, request.model_spec.signature_name = "default", signature
    if context is None:
        request.input.example_list.examples.extend(examples)
    else:
        request.input.example_list_with_context.examples.extend(examples)
        request.input.example_list_with_context.context.CopyFrom(context)
    return request


def classify_request(*args, **kwargs):
    return fill(classification_pb2.ClassificationRequest(), *args, **kwargs)


def regress_request(*args, **kwargs):
    return fill(regression_pb2.RegressionRequest(), *args, **kwargs)


def pairs(result):
    return [[(each.label, each.score) for each in row.classes] for row in result.classifications]


def values(result):
    return [each.value for each in result.regressions]


THREE = [example(x=x) for x in (0.5, 1.0, -2.0)]


def test_classify(stub):
    response = stub.Classify(classify_request(THREE))
    assert pairs(response.result) == [
        [("no", -1.0), ("yés", 1.0)],
        [("no", -2.0), ("yés", 2.0)],
        [("no", 4.0), ("yés", -4.0)],
    ]
    spec = response.model_spec
    assert (spec.name, spec.version.value, spec.signature_name) == ("default", 3, "serving_default")


def test_classify_with_one_of_its_outputs(stub):
    response = stub.Classify(classify_request(THREE[:1], signature="scores_only"))
    assert pairs(response.result) == [[("", -1.0), ("", 1.0)]]
    assert response.model_spec.signature_name == "scores_only"
    response = stub.Classify(classify_request(THREE[:1], signature="classes_only"))
    assert pairs(response.result) == [[("no", 0.0), ("yés", 0.0)]]


@pytest.mark.parametrize("signature", ["regress", "regress_flat"])
def test_regress(stub, signature):
    response = stub.Regress(regress_request(THREE, signature=signature))
    assert values(response.result) == [1.0, 2.0, -4.0]
    spec = response.model_spec
    assert (spec.name, spec.version.value, spec.signature_name) == ("default", 3, signature)


def test_the_context_is_merged_into_each_example(stub):
    """Where both have a feature, the example's counts."""
    rows = [example(x=1.0), example(x=1.0, y=5.0), example()]
    response = stub.Regress(regress_request(rows, context=example(x=7.0, y=0.25), signature="regress"))
    assert values(response.result) == [2.25, 7.0, 14.25]


def test_predict_takes_the_same_signatures(stub):
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = "default", "regress"
    request.inputs["inputs"].CopyFrom(tf.make_tensor_proto([row.SerializeToString() for row in THREE]))
    assert list(stub.Predict(request).outputs["outputs"].float_val) == [1.0, 2.0, -4.0]


def refusal(call, request):
    with pytest.raises(grpc.RpcError) as caught:
        call(request)
    return caught.value.code().name, caught.value.details()


@pytest.mark.parametrize(
    ("signature", "message"),
    [
        ("absent", "No signature was found with the name: absent. The model has: classes_only, double_scores"),
        ("two_inputs", "Expected one input Tensor"),
        ("other_input", 'No "inputs" found in SignatureDef: Signature other_input has inputs {examples}'),
        ("three_outputs", "Expected one or two output Tensors, found 3"),
        ("regress", 'at least one of "classes" or "scores". Signature regress has inputs {inputs}, outputs {outputs}'),
        ("regress", "method_name tensorflow/serving/regress"),
        ("flat_scores", "Expected Tensor shape: [batch_size num_classes] but got [3]"),
        ("double_scores", "Expected scores Tensor of float32. Got: float64"),
        ("short", "Expected scores output batch size of 3. Got: 2"),
        ("wide_classes", "Tensors class and score should match in dim_size(1). Got 4 vs. 2"),
    ],
)
def test_classify_refuses(stub, signature, message):
    code, details = refusal(stub.Classify, classify_request(THREE, signature=signature))
    assert code == "INVALID_ARGUMENT"
    assert message in details


@pytest.mark.parametrize(
    ("signature", "message"),
    [
        ("absent", "No signature was found with the name: absent"),
        ("two_inputs", "Expected one input Tensor"),
        (
            "serving_default",
            "Expected one output Tensor. Signature serving_default has inputs {inputs}, outputs {classes",
        ),
        ("other_outputs", "No regression outputs found in SignatureDef: Signature other_outputs has"),
        ("wide_values", "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got [3, 2]"),
        ("double_values", "Expected outputs Tensor of float32. Got: float64"),
        ("short_values", "Input batch size did not match output batch size: 3 vs. 2"),
    ],
)
def test_regress_refuses(stub, signature, message):
    code, details = refusal(stub.Regress, regress_request(THREE, signature=signature))
    assert code == "INVALID_ARGUMENT"
    assert message in details


@pytest.mark.parametrize(("call", "make"), [("Classify", classify_request), ("Regress", regress_request)])
def test_requests_that_name_no_model_or_hold_no_example(stub, call, make):
    signature = "serving_default" if call == "Classify" else "regress"
    call = getattr(stub, call)
    assert refusal(call, type(make([]))()) == ("INVALID_ARGUMENT", "Missing ModelSpec")
    other = make(THREE)
    other.model_spec.name = "other"
    assert refusal(call, other)[0] == "NOT_FOUND"
    old = make(THREE)
    old.model_spec.version.value = 2
    assert refusal(call, old)[0] == "NOT_FOUND"
    for empty in (make([], signature=signature), make([], context=example(x=1.0), signature=signature)):
        assert refusal(call, empty) == ("INVALID_ARGUMENT", "Input is empty.")
    nothing = make([], signature=signature)
    nothing.ClearField("input")
    assert refusal(call, nothing) == ("INVALID_ARGUMENT", "Input is empty.")


def test_bytes_that_are_no_example(channel):
    """The official stubs cannot send them."""
    request = messages.ClassificationRequest()
    request.model_spec.name = "default"
    request.input.example_list.examples.extend([THREE[0].SerializeToString(), b"no example"])
    code, details = refusal(
        channel.unary_unary(f"/{messages.PREDICTION_SERVICE}/Classify"), request.SerializeToString()
    )
    assert (code, "Could not parse example input" in details) == ("INVALID_ARGUMENT", True), details


def multi_request(tasks, examples=THREE):
    request = inference_pb2.MultiInferenceRequest()
    for model, signature, method in tasks:
        task = request.tasks.add(method_name=method)
        task.model_spec.name, task.model_spec.signature_name = model, signature
    request.input.example_list.examples.extend(examples)
    return request


def test_multi_inference_is_one_call_of_the_model(base_path, monkeypatch):
    runs, run = [], Session.run
    monkeypatch.setattr(Session, "run", lambda *args: runs.append(len(args[2])) or run(*args))
    tasks = [("default", "regress", REGRESS), ("default", "", CLASSIFY), ("default", "regress_flat", REGRESS)]
    with Server(base_path) as server, grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        response = stub.MultiInference(multi_request(tasks))
    assert runs == [3]  # once, with the same examples for each of the three placeholders
    regressed, classified, flat = response.results
    assert values(regressed.regression_result) == values(flat.regression_result) == [1.0, 2.0, -4.0]
    assert pairs(classified.classification_result)[0] == [("no", -1.0), ("yés", 1.0)]
    assert [each.model_spec.signature_name for each in response.results] == [
        "regress",
        "serving_default",
        "regress_flat",
    ]
    assert {(each.model_spec.name, each.model_spec.version.value) for each in response.results} == {("default", 3)}


@pytest.mark.parametrize(
    ("tasks", "code", "message"),
    [
        ([], "INVALID_ARGUMENT", "no name"),
        ([("other", "regress", REGRESS)], "NOT_FOUND", "Servable not found for request: Latest(other)"),
        ([("default", "regress", REGRESS), ("", "", CLASSIFY)], "INVALID_ARGUMENT", "with an empty model name"),
        ([("default", "regress", REGRESS), ("b", "", CLASSIFY)], "INVALID_ARGUMENT", "must access the same model name"),
        ([("default", "", CLASSIFY)] * 2, "INVALID_ARGUMENT", "Duplicate evaluation of signature: serving_default"),
        ([("default", "absent", CLASSIFY)], "INVALID_ARGUMENT", "Requested signature not found in model graph: absent"),
        (
            [("default", "", "tensorflow/serving/predict")],
            "UNIMPLEMENTED",
            "Unsupported signature method_name: tensorf",
        ),
        ([("default", "regress", CLASSIFY)], "INVALID_ARGUMENT", 'at least one of "classes" or "scores"'),
    ],
)
def test_multi_inference_refuses(stub, tasks, code, message):
    received, details = refusal(stub.MultiInference, multi_request(tasks))
    assert received == code
    assert message in details


def test_multi_inference_without_examples(stub):
    request = multi_request([("default", "", CLASSIFY)], examples=[])
    assert refusal(stub.MultiInference, request) == ("INVALID_ARGUMENT", "Input is empty.")


@pytest.fixture
def ask(server):
    connection = http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=300)

    def ask(action, body, method="POST"):
        connection.request(method, f"/v1/models/default{action}", body if isinstance(body, bytes) else json.dumps(body))
        response = connection.getresponse()
        return response.status, json.loads(response.read())

    yield ask
    connection.close()


def test_rest_classify(ask):
    status, answer = ask("/versions/3:classify", {"examples": [{"x": 0.1}, {"x": [1.0]}]})
    assert (status, answer) == (200, {"results": [[["no", -0.2], ["yés", 0.2]], [["no", -2.0], ["yés", 2.0]]]})


def test_rest_regress_with_context(ask):
    body = {"signature_name": "regress", "context": {"y": 0.5}, "examples": [{"x": 1.0}, {"y": 2.0}]}
    assert ask(":regress", body) == (200, {"results": [2.5, 2.0]})


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{", "JSON Parse error"),
        ({}, "JSON object must have 'examples'"),
        ({"examples": []}, "at least one example"),
        ({"examples": {"x": 1.0}}, "a list of at least one example"),
        ({"examples": [1]}, "Example must be JSON object but got JSON 1"),
        ({"examples": [{}], "context": []}, "Example must be JSON object but got JSON []"),
        (
            {"examples": [{"x": None}]},
            'unexpected JSON type: null. For what is not there send "" or NaN, or no such feature',
        ),
        ({"examples": [{"x": [[1.0]]}]}, "Feature: x has element with unexpected JSON type: [1.0]"),
        ({"examples": [{"x": {"a": "b"}}]}, "x: JSON Value: {'a': 'b'} is not of expected type: string"),
        ({"examples": [{"x": {"b64": "?"}}]}, "x: Unable to base64 decode"),
        ({"examples": [{"x": {"b64": 1}}]}, "x: JSON Value: {'b64': 1} is not of expected type: string"),
        (
            {"examples": [{"x": [1.0, 2]}]},
            "Unexpected element type in feature: x. Received: [1.0, 2]. In JSON examples a number without a fraction",
        ),
        ({"examples": [{"x": 2**63}]}, "Feature: x must be of int64. Received: [9223372036854775808]"),
        ({"examples": [{"\ud800": 1}]}, "JSON Parse error"),
        ({"examples": [{"x": 1}]}, "is an int64: for a float send 10.0, not 10."),
        ({"examples": [{"x": 1.0}], "signature_name": 1}, "'signature_name' key must be a string"),
        ({"examples": [{"x": 1.0}], "signature_name": "\udfff"}, "JSON Parse error"),
        ({"examples": [{"x": 1.0}], "signature_name": "regress"}, 'at least one of "classes" or "scores"'),
    ],
)
def test_rest_refuses(ask, body, message):
    status, answer = ask(":classify", body)
    assert (status, message in answer["error"]) == (400, True), answer


def test_rest_asks_by_post(ask):
    status, answer = ask(":regress", b"", method="GET")
    assert (status, answer) == (400, {"error": "Malformed request: GET /v1/models/default:regress"})


def test_requests_are_counted(stub, ask, server):
    def count(text, name, **labels):
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        lines = [line for line in text.splitlines() if line.startswith(name + "{") and all(w in line for w in wanted)]
        return sum(float(line.split()[-1]) for line in lines)

    def all_counts():
        connection = http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=300)
        connection.request("GET", "/monitoring/prometheus/metrics")
        text = connection.getresponse().read().decode()
        connection.close()
        latency = ":tensorflow:serving:request_latency_count"
        calls = [(api, "GRPC") for api in ("Classify", "Regress", "MultiInference")]
        calls += [(api, "REST") for api in ("classify", "regress")]
        found = {call: count(text, latency, API=call[0], entrypoint=call[1]) for call in calls}
        return found | {"refused": count(text, ":tensorflow:serving:request_count", status="INVALID_ARGUMENT")}

    before = all_counts()
    stub.Classify(classify_request(THREE))
    stub.Regress(regress_request(THREE, signature="regress"))
    stub.MultiInference(multi_request([("default", "", CLASSIFY)]))
    refusal(stub.Regress, regress_request(THREE))
    ask(":classify", {"examples": [{"x": 1.0}]})
    ask(":regress", {})
    after = all_counts()
    assert {call: after[call] - before[call] for call in after} == {
        ("Classify", "GRPC"): 1,
        ("Regress", "GRPC"): 1,
        ("MultiInference", "GRPC"): 0,  # as in the real server
        ("classify", "REST"): 1,
        ("regress", "REST"): 0,
        "refused": 2,
    }


def test_batches_are_formed_of_them_too(base_path, hold_model, batcher_of, until):
    """Requests of two forms wait in one queue, and each gets its own rows."""
    parameters = BatchingParameters(max_batch_size=64, num_batch_threads=1, batch_timeout_micros=1)
    with (
        Server(base_path, batching=parameters) as server,
        grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel,
        hold_model() as held,
    ):
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        asked = [(0.0, stub.Regress.future(regress_request([example()], signature="regress")))]
        until(lambda: held.calls == [1])  # the others wait for it
        asked += [
            (x, stub.Regress.future(regress_request([example(x=x)], signature="regress"))) for x in np.arange(20.0)
        ]
        classified = [(x, stub.Classify.future(classify_request([example(x=x)]))) for x in np.arange(20.0)]
        until(lambda: len(batcher_of(server)._waiting) == 40)
        held.released.set()
        assert [values(call.result().result) for _, call in asked] == [[2 * x] for x, _ in asked]
        assert [pairs(call.result().result)[0][1] for _, call in classified] == [("yés", 2 * x) for x, _ in classified]
    assert held.calls == [1, 20, 20]
