"""Health and reflection beside the services of models: their requests are short, and bounded before they are parsed."""

from collections.abc import Callable, Mapping
from typing import Any

import grpc.aio
from google.protobuf.message import DecodeError

from .grpc_services import MAX_PLAIN_MESSAGE


class PlainServices:
    """Takes the handlers of services as a server does, and adds them to one with a bound on their requests.

    Args:
        server: The server.
    """

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
