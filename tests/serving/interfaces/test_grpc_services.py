"""The official stubs as the client of the embedded server: same messages, same status codes."""

import grpc
import numpy as np
import pytest
import tensorflow as tf
from c2al_serving.server import Server
from google.protobuf import wrappers_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from c2al_tf.protocol import messages


@pytest.fixture
def channel(server):
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        yield channel


@pytest.fixture
def prediction(channel):
    return prediction_service_pb2_grpc.PredictionServiceStub(channel)


@pytest.fixture
def models(channel):
    return model_service_pb2_grpc.ModelServiceStub(channel)


def predict_request(columns, **spec):
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "default"
    for name, value in spec.items():
        target = request.model_spec.version if name == "version" else request.model_spec
        setattr(target, "value" if name == "version" else name, value)
    for name, column in columns.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(column))
    return request


def test_predict(prediction, export):
    response = prediction.Predict(predict_request(export.columns))
    logits = tf.make_ndarray(response.outputs["logits"])
    np.testing.assert_allclose(logits, export.logits, rtol=1e-6)
    np.testing.assert_array_equal(response.outputs["logits"].float_val, logits.ravel())
    spec = response.model_spec
    assert (spec.name, spec.version.value, spec.signature_name) == ("default", 2, "serving_default")


def test_predict_filters_outputs_and_takes_signature_and_version(prediction, export):
    request = predict_request({"examples": export.examples}, signature_name="serialized_examples", version=2)
    request.output_filter.append("probabilities")
    response = prediction.Predict(request)
    assert list(response.outputs) == ["probabilities"]
    assert response.model_spec.signature_name == "serialized_examples"


def break_inputs(columns, **changes):
    return {name: column for name, column in (columns | changes).items() if column is not None}


@pytest.mark.parametrize(
    ("changes", "spec", "output", "code", "message"),
    [
        ({"city": None}, {}, None, "INVALID_ARGUMENT", "Missing but required: {city}"),
        (
            {"extra": np.ones(64)},
            {},
            None,
            "INVALID_ARGUMENT",
            "Sent extra: {extra}. Missing but required: {}",
        ),
        (
            {"extra": np.ones(64), "city": None},
            {},
            None,
            "INVALID_ARGUMENT",
            "Sent extra: {extra}. Missing but required: {city}",
        ),
        (
            {"user": np.ones(64, np.int32)},
            {},
            None,
            "INVALID_ARGUMENT",
            "'user' must have dtype int64. Received: int32",
        ),
        ({"price": np.ones((64, 1), np.float32)}, {}, None, "INVALID_ARGUMENT", "'price' must have shape (?)"),
        ({"price": np.ones(63, np.float32)}, {}, None, "INVALID_ARGUMENT", "Shapes of all inputs must match"),
        ({}, {}, "other", "INVALID_ARGUMENT", "output tensor alias not found in signature: other"),
        (
            {},
            {"signature_name": "other"},
            None,
            "FAILED_PRECONDITION",
            '"other" not found. The model has: {ser',
        ),
        ({}, {"name": "other"}, None, "NOT_FOUND", "Servable not found for request: Latest(other). Models: default"),
        ({}, {"version": 1}, None, "NOT_FOUND", "Servable not found for request: Specific(default, 1). Versions: 2"),
        ({}, {"name": ""}, None, "INVALID_ARGUMENT", "no name"),
        ({}, {"version_label": "stable"}, None, "INVALID_ARGUMENT", "Unrecognized servable version label: stable"),
    ],
)
def test_predict_refuses(prediction, export, changes, spec, output, code, message):
    request = predict_request(break_inputs(export.columns, **changes), **spec)
    if output:
        request.output_filter.append(output)
    with pytest.raises(grpc.RpcError) as caught:
        prediction.Predict(request)
    assert caught.value.code().name == code
    assert message in caught.value.details()


def test_predict_refuses_a_broken_tensor(prediction, export):
    request = predict_request(export.columns)
    request.inputs["price"].tensor_content = b"12345"
    with pytest.raises(grpc.RpcError, match="tensor parsing error: price: a tensor of shape") as caught:
        prediction.Predict(request)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_a_long_message_in_any_script_keeps_its_code(prediction, export):
    with pytest.raises(grpc.RpcError) as refused:
        prediction.Predict(predict_request({"字" * 3000: export.columns["user"]}), timeout=300)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert refused.value.details().startswith("input size does not match signature. Sent extra: {字字")
    assert refused.value.details().endswith("...TRUNCATED")


def test_missing_model_spec(prediction, models):
    for call, request in (
        (prediction.Predict, predict_pb2.PredictRequest()),
        (prediction.GetModelMetadata, get_model_metadata_pb2.GetModelMetadataRequest()),
        (models.GetModelStatus, get_model_status_pb2.GetModelStatusRequest()),
    ):
        with pytest.raises(grpc.RpcError, match="Missing ModelSpec") as caught:
            call(request)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_metadata_is_what_the_file_declares(prediction, export):
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = "default"
    response = prediction.GetModelMetadata(request)
    assert response.model_spec.version == wrappers_pb2.Int64Value(value=2)
    received = get_model_metadata_pb2.SignatureDefMap()
    response.metadata["signature_def"].Unpack(received)
    model = saved_model_pb2.SavedModel.FromString((export.latest / "saved_model.pb").read_bytes())
    assert dict(received.signature_def) == dict(model.meta_graphs[0].signature_def)


@pytest.mark.parametrize(
    ("fields", "message"), [([], "at least one metadata_field"), (["other"], "other is not supported")]
)
def test_metadata_refuses(prediction, fields, message):
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=fields)
    request.model_spec.name = "default"
    with pytest.raises(grpc.RpcError, match=message) as caught:
        prediction.GetModelMetadata(request)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_status(models):
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "default"
    (status,) = models.GetModelStatus(request).model_version_status
    assert (status.version, status.state) == (2, get_model_status_pb2.ModelVersionStatus.AVAILABLE)
    assert status.HasField("status")
    assert status.status.error_code == 0
    request.model_spec.version.value = 5
    with pytest.raises(grpc.RpcError, match="Could not find version 5 of model default") as caught:
        models.GetModelStatus(request)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    request.model_spec.Clear()
    request.model_spec.name = "other"
    with pytest.raises(grpc.RpcError, match="Could not find any versions of model other"):
        models.GetModelStatus(request)


def test_health(channel):
    health = health_pb2_grpc.HealthStub(channel)
    for service in ("", "PredictionService", "ModelService", messages.PREDICTION_SERVICE, messages.MODEL_SERVICE):
        response = health.Check(health_pb2.HealthCheckRequest(service=service))
        assert response.status == health_pb2.HealthCheckResponse.SERVING


@pytest.fixture
def reloadable(export):
    """A server of its own, whose models may change."""
    with Server(export.base_path) as server, grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        yield channel


def test_reload_config(reloadable, export):
    models = model_service_pb2_grpc.ModelServiceStub(reloadable)
    prediction = prediction_service_pb2_grpc.PredictionServiceStub(reloadable)
    request = model_management_pb2.ReloadConfigRequest()
    ads = request.config.model_config_list.config.add(name="ads", base_path=str(export.base_path))
    ads.model_platform = "tensorflow"
    ads.model_version_policy.all.SetInParent()
    assert models.HandleReloadConfigRequest(request).status.error_code == 0
    ads.version_labels["stable"], ads.version_labels["canary"] = 1, 2
    assert models.HandleReloadConfigRequest(request).status.error_code == 0
    for label, version in (("stable", 1), ("canary", 2)):
        asked = predict_request(export.columns, version_label=label)
        asked.model_spec.name = "ads"
        assert prediction.Predict(asked).model_spec.version.value == version
    with pytest.raises(grpc.RpcError) as gone:
        prediction.Predict(predict_request(export.columns))
    assert gone.value.code() == grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize(
    ("base_path", "label", "code", "message"),
    [
        ("/absent", None, "INVALID_ARGUMENT", "Could not find base path /absent"),
        (None, 9, "FAILED_PRECONDITION", "version 9 of model other, which is not currently available"),
        ("models", None, "INVALID_ARGUMENT", "Expected model other to have an absolute path"),
    ],
)
def test_a_config_that_cannot_be_is_refused(reloadable, export, base_path, label, code, message):
    models = model_service_pb2_grpc.ModelServiceStub(reloadable)
    request = model_management_pb2.ReloadConfigRequest()
    path = str(export.base_path) if base_path is None else base_path
    added = request.config.model_config_list.config.add(name="other", base_path=path, model_platform="tensorflow")
    if label:
        added.version_labels["stable"] = label
    with pytest.raises(grpc.RpcError, match=message) as refused:
        models.HandleReloadConfigRequest(request)
    assert refused.value.code().name == code
    prediction = prediction_service_pb2_grpc.PredictionServiceStub(reloadable)
    assert prediction.Predict(predict_request(export.columns)).model_spec.version.value == 2  # as before


def test_reloads_can_be_forbidden(export):
    with (
        Server(export.base_path, reloads=False) as server,
        grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel,
    ):
        models = model_service_pb2_grpc.ModelServiceStub(channel)
        with pytest.raises(grpc.RpcError, match="does not let its models be changed") as refused:
            models.HandleReloadConfigRequest(model_management_pb2.ReloadConfigRequest())
        assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED


def test_outputs_are_named_once(prediction, export):
    request = predict_request(export.columns)
    request.output_filter.extend(["logits"] * 3)
    with pytest.raises(grpc.RpcError, match="duplicate output tensor alias"):
        prediction.Predict(request)


def test_a_compressed_request_is_refused(prediction, export):
    with pytest.raises(grpc.RpcError) as refused:
        prediction.Predict(predict_request(export.columns), compression=grpc.Compression.Gzip)
    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_requests_that_are_not_for_inference_are_short(models, channel):
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "x" * 2**17
    with pytest.raises(grpc.RpcError, match="a request may have 131072 bytes") as refused:
        models.GetModelStatus(request)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    with pytest.raises(grpc.RpcError, match="a request may have 131072 bytes"):
        health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service="x" * 2**17))
