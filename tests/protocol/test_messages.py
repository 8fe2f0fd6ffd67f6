"""Our messages against the official ones, in one process: each has its own descriptor pool."""

from types import SimpleNamespace

import pytest
from c2al_serving.interfaces import grpc_services
from c2al_serving.interfaces.room import Room
from c2al_serving.lifecycle.models import Models
from c2al_serving.metrics import Metrics
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from tensorflow.core.example import example_pb2
from tensorflow.core.framework import tensor_pb2
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    model_pb2,
    model_service_pb2,
    predict_pb2,
    prediction_log_pb2,
    prediction_service_pb2,
    regression_pb2,
)

from c2al_tf.protocol import messages

PAIRS = [
    (messages.TensorProto, tensor_pb2.TensorProto),
    (messages.SignatureDef, meta_graph_pb2.SignatureDef),
    (messages.ModelSpec, model_pb2.ModelSpec),
    (messages.PredictRequest, predict_pb2.PredictRequest),
    (messages.PredictResponse, predict_pb2.PredictResponse),
    (messages.Example, example_pb2.Example),
    (messages.ClassificationRequest, classification_pb2.ClassificationRequest),
    (messages.ClassificationResponse, classification_pb2.ClassificationResponse),
    (messages.RegressionRequest, regression_pb2.RegressionRequest),
    (messages.RegressionResponse, regression_pb2.RegressionResponse),
    (messages.MultiInferenceRequest, inference_pb2.MultiInferenceRequest),
    (messages.MultiInferenceResponse, inference_pb2.MultiInferenceResponse),
    (messages.SignatureDefMap, get_model_metadata_pb2.SignatureDefMap),
    (messages.GetModelMetadataRequest, get_model_metadata_pb2.GetModelMetadataRequest),
    (messages.GetModelMetadataResponse, get_model_metadata_pb2.GetModelMetadataResponse),
    (messages.GetModelStatusRequest, get_model_status_pb2.GetModelStatusRequest),
    (messages.GetModelStatusResponse, get_model_status_pb2.GetModelStatusResponse),
    (messages.ModelVersionStatus, get_model_status_pb2.ModelVersionStatus),
    (messages.PredictionLog, prediction_log_pb2.PredictionLog),
    (messages.ReloadConfigRequest, model_management_pb2.ReloadConfigRequest),
    (messages.ReloadConfigResponse, model_management_pb2.ReloadConfigResponse),
]
NAMES = [ours.DESCRIPTOR.full_name for ours, _ in PAIRS]
SERIALIZED = {"ExampleList.examples", "ExampleListWithContext.examples", "ExampleListWithContext.context"}
"""What we declare as bytes, and they as tf.Examples."""
EXAMPLE = messages.Example()
EXAMPLE.features.feature["age"].float_list.value.append(0.5)


def is_serialized(field: FieldDescriptor) -> bool:
    return f"{field.containing_type.name}.{field.name}" in SERIALIZED


def every_descriptor(descriptor: Descriptor, seen: dict[str, Descriptor]) -> dict[str, Descriptor]:
    if descriptor.full_name not in seen:
        seen[descriptor.full_name] = descriptor
        for field in descriptor.fields:
            if field.message_type is not None:
                every_descriptor(field.message_type, seen)
    return seen


def fill(message) -> None:
    """Sets every field to something other than its default."""
    for number, field in enumerate(message.DESCRIPTOR.fields, start=1):
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            values = getattr(message, field.name)
            value = field.message_type.fields_by_name["value"]
            if value.message_type is None:
                values[f"key {number}"] = scalar(value, number)
            else:
                fill(values[f"key {number}"])
        elif field.message_type is not None:
            values = getattr(message, field.name)
            fill(values.add() if field.is_repeated else values)
        else:
            value = scalar(field, number)
            if field.is_repeated:
                getattr(message, field.name).extend([value, value])
            else:
                setattr(message, field.name, value)


def scalar(field: FieldDescriptor, number: int):
    if is_serialized(field):
        return EXAMPLE.SerializeToString()
    if field.enum_type is not None:
        return field.enum_type.values[-1].number
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        return b"bytes" if field.type == FieldDescriptor.TYPE_BYTES else f"text {number}"
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return True
    return number + 0.5 if field.cpp_type == FieldDescriptor.CPPTYPE_FLOAT else number


@pytest.mark.parametrize(("ours", "theirs"), PAIRS, ids=NAMES)
def test_every_field_is_declared_as_theirs(ours, theirs):
    official = every_descriptor(theirs.DESCRIPTOR, {})
    for name, descriptor in every_descriptor(ours.DESCRIPTOR, {}).items():
        assert name in official
        for field in descriptor.fields:
            other = official[name].fields_by_number[field.number]
            assert (field.name, field.is_repeated) == (other.name, other.is_repeated)
            if is_serialized(field):
                assert (field.type, other.message_type.full_name) == (FieldDescriptor.TYPE_BYTES, "tensorflow.Example")
            else:
                assert field.type == other.type
            oneofs = [f.containing_oneof and f.containing_oneof.name for f in (field, other)]
            assert oneofs[0] == oneofs[1]
            if field.message_type is not None:
                assert field.message_type.full_name == other.message_type.full_name
            if field.enum_type is not None:
                numbers = {value.name: value.number for value in other.enum_type.values}
                assert all(numbers[value.name] == value.number for value in field.enum_type.values)


@pytest.mark.parametrize(("ours", "theirs"), PAIRS, ids=NAMES)
def test_every_message_goes_both_ways(ours, theirs):
    message = ours()
    fill(message)
    sent = message.SerializeToString(deterministic=True)
    assert len(sent) > 3
    received = theirs.FromString(sent)
    fields = [field for descriptor in every_descriptor(ours.DESCRIPTOR, {}).values() for field in descriptor.fields]
    if not any(map(is_serialized, fields)):
        assert str(received) == str(message)
    assert received.SerializeToString(deterministic=True) == sent
    assert ours.FromString(sent) == message


def test_fields_unknown_here_are_passed_on():
    theirs = predict_pb2.PredictRequest(client_id=b"me")
    ours = messages.PredictRequest.FromString(theirs.SerializeToString())
    assert predict_pb2.PredictRequest.FromString(ours.SerializeToString()) == theirs


@pytest.mark.parametrize(
    ("name", "official"),
    [(messages.PREDICTION_SERVICE, prediction_service_pb2), (messages.MODEL_SERVICE, model_service_pb2)],
)
def test_services_have_the_methods_that_answer_as_theirs_are_declared(name, official):
    service = messages.POOL.FindServiceByName(name)
    answered = {
        handler.service_name(): handler
        for handler in grpc_services.handlers(Models([]), Room(1, Metrics(), "GRPC"), True)
    }
    assert set(answered) == {messages.PREDICTION_SERVICE, messages.MODEL_SERVICE}
    for method in service.methods_by_name:
        details = SimpleNamespace(method=f"/{name}/{method}")
        assert answered[name].service(details) is not None
    theirs = official.DESCRIPTOR.services_by_name[service.name].methods_by_name
    for method in service.methods:
        other = theirs[method.name]
        assert method.input_type.full_name == other.input_type.full_name
        assert method.output_type.full_name == other.output_type.full_name
