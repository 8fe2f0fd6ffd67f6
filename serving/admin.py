"""What an operator asks of a running server. Imports no TensorFlow."""

from typing import Any

import grpc

from .client import PredictError
from .protocol import messages


def reload_config(
    target: str, config: Any, *, credentials: grpc.ChannelCredentials | None = None, timeout: float = 60.0
) -> None:
    """Has a server serve other models, versions and labels from now on, without a restart.

    Args:
        target: `host:port` of the gRPC interface.
        config: All models that it shall serve (`model_config.read_config`): those that are not among them go.
        credentials: TLS credentials; none for plain text.
        timeout: Seconds that it may take. New models are loaded meanwhile.

    Raises:
        PredictError: If the server refuses, is late, or cannot be reached.
    """
    secure = credentials is not None
    with grpc.secure_channel(target, credentials) if secure else grpc.insecure_channel(target) as channel:
        call = channel.unary_unary(
            f"/{messages.MODEL_SERVICE}/HandleReloadConfigRequest",
            request_serializer=lambda request: request.SerializeToString(),
            response_deserializer=messages.ReloadConfigResponse.FromString,
        )
        try:
            call(messages.ReloadConfigRequest(config=config), timeout=timeout)
        except grpc.RpcError as error:
            raise PredictError(f"{target}: {error.code().name}: {error.details()}", error.code()) from error
