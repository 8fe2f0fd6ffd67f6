"""What a client without any .proto file learns from the server, by grpcio-reflection's own client."""

import grpc
import numpy as np
import pytest
from google.protobuf import message_factory
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

SERVICES = [
    "grpc.health.v1.Health",
    "grpc.reflection.v1alpha.ServerReflection",
    "tensorflow.serving.ModelService",
    "tensorflow.serving.PredictionService",
]


@pytest.fixture
def channel(server):
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        yield channel


@pytest.fixture
def pool(channel):
    return DescriptorPool(ProtoReflectionDescriptorDatabase(channel))


def test_services_are_listed_and_described(channel, pool) -> None:
    assert sorted(ProtoReflectionDescriptorDatabase(channel).get_services()) == SERVICES
    methods = {name: list(pool.FindServiceByName(name).methods_by_name) for name in SERVICES}
    assert methods["grpc.health.v1.Health"][:1] == ["Check"]
    assert methods["grpc.reflection.v1alpha.ServerReflection"] == ["ServerReflectionInfo"]
    assert methods["tensorflow.serving.ModelService"] == ["GetModelStatus", "HandleReloadConfigRequest"]
    assert {"Predict", "GetModelMetadata"} <= set(methods["tensorflow.serving.PredictionService"])
    with pytest.raises(KeyError):
        pool.FindMessageTypeByName("tensorflow.serving.NoSuchMessage")


def test_a_request_is_built_from_what_is_described(channel, pool, export) -> None:
    method = pool.FindServiceByName("tensorflow.serving.PredictionService").methods_by_name["Predict"]
    request = message_factory.GetMessageClass(method.input_type)()
    request.model_spec.name = "default"
    request.model_spec.signature_name = "serialized_examples"
    examples = request.inputs["examples"]
    examples.dtype = pool.FindEnumTypeByName("tensorflow.DataType").values_by_name["DT_STRING"].number
    examples.tensor_shape.dim.add(size=len(export.examples))
    examples.string_val.extend(export.examples)
    call = channel.unary_unary(
        f"/{method.containing_service.full_name}/{method.name}",
        request_serializer=lambda request: request.SerializeToString(),
        response_deserializer=message_factory.GetMessageClass(method.output_type).FromString,
    )
    logits = np.array(call(request, timeout=300).outputs["logits"].float_val)
    np.testing.assert_allclose(logits, export.logits[:, 0], rtol=1e-6)
