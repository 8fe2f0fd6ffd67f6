"""Health and reflection beside the services of models: their requests are short, and bounded before they are parsed.

By reflection `grpcurl` and the like list the services of a server, and learn their messages from it. They learn what
`messages` declares: the examples of Classify and Regress are `bytes`.
"""

from collections.abc import Callable, Mapping
from typing import Any

import grpc.aio
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2, reflection_pb2_grpc

from c2al_tf.protocol import messages

from .grpc_services import MAX_PLAIN_MESSAGE

_SERVICES = (messages.PREDICTION_SERVICE, messages.MODEL_SERVICE, "grpc.health.v1.Health", reflection.SERVICE_NAME)


def add_plain_services(server: grpc.aio.Server, health: Any) -> None:
    """Adds a health servicer, and reflection, to a server that has PredictionService and ModelService."""
    pool, bounded = DescriptorPool(), _BoundedServer(server)
    serving = messages.POOL.FindFileContainingSymbol(messages.PREDICTION_SERVICE)
    for file in (serving, health_pb2.DESCRIPTOR, reflection_pb2.DESCRIPTOR):
        _add(pool, file)
    health_pb2_grpc.add_HealthServicer_to_server(health, bounded)
    servicer = reflection.aio.ReflectionServicer(_SERVICES, pool=pool)
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(servicer, bounded)


def _add(pool: DescriptorPool, file: FileDescriptor) -> None:
    for needed in file.dependencies:
        _add(pool, needed)
    pool.AddSerializedFile(file.serialized_pb)


class _BoundedServer:
    """Takes the handlers of services as a server does, and adds them to one with a bound on their requests."""

    def __init__(self, server: grpc.aio.Server) -> None:
        self._server = server

    def add_generic_rpc_handlers(self, handlers: Any) -> None:
        """Does nothing: a service adds the same handlers in the form that follows."""

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        """Adds the handlers of a service by method."""
        bounded = {
            name: handler._replace(request_deserializer=_bounded(handler.request_deserializer))
            for name, handler in handlers.items()
        }
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, bounded),))


def _bounded(parse: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    def parse_if_short(data: bytes) -> Any:
        if len(data) > MAX_PLAIN_MESSAGE:
            raise DecodeError(f"a request may have {MAX_PLAIN_MESSAGE} bytes. Received: {len(data)} bytes")
        return parse(data)

    return parse_if_short
