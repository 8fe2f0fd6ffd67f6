"""gRPC server reflection: `grpcurl` and the like list the services of a server, and learn their messages from it.

They learn what `messages` declares: the examples of Classify and Regress are `bytes`.
"""

from google.protobuf import descriptor_pool
from google.protobuf.descriptor import FileDescriptor
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2, reflection_pb2_grpc

from c2al_tf.protocol import messages

from .plain_services import PlainServices

_SERVICES = (messages.PREDICTION_SERVICE, messages.MODEL_SERVICE, "grpc.health.v1.Health", reflection.SERVICE_NAME)


def add_reflection(server: PlainServices) -> None:
    """Adds the reflection service to a server that has PredictionService, ModelService and the health service."""
    pool = descriptor_pool.DescriptorPool()
    _add(pool, messages.POOL.FindFileContainingSymbol(messages.PREDICTION_SERVICE))
    _add(pool, health_pb2.DESCRIPTOR)
    _add(pool, reflection_pb2.DESCRIPTOR)
    servicer = reflection.aio.ReflectionServicer(_SERVICES, pool=pool)
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(servicer, server)


def _add(pool: descriptor_pool.DescriptorPool, file: FileDescriptor) -> None:
    for needed in file.dependencies:
        _add(pool, needed)
    pool.AddSerializedFile(file.serialized_pb)
