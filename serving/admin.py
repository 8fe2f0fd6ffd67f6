"""What an operator asks of a running server. Imports no TensorFlow."""

from typing import Any

import grpc

from c2al_tf.protocol import messages

from .requests.model_client import Credentials, Metadata, ask, open_channel, run


def reload_config(
    target: str, config: Any, *, credentials: Credentials = None, timeout: float = 60, metadata: Metadata | None = None
) -> None:
    """Has a server serve other models, versions and labels from now on, without a restart.

    Args:
        target: `host:port` of the gRPC interface of one server: others of the same name are not asked.
        config: All models that it shall serve (`model_config.read_config`): those that are not among them go.
        credentials: TLS credentials; none for plain text.
        timeout: Seconds that it may take. New models are loaded meanwhile.
        metadata: What goes with the request, by key.

    Raises:
        PredictError: If the server refuses, is late, or cannot be reached.
    """
    with open_channel(grpc, target, credentials, {}, 0, timeout) as channel:
        request = messages.ReloadConfigRequest(config=config)
        run(ask(channel, "ModelService.HandleReloadConfigRequest", request, timeout, metadata or {}, target))
