"""TLS for the gRPC interface, from tensorflow_model_server's `--ssl_config_file`."""

from pathlib import Path
from typing import Any

import grpc

from c2al_tf.protocol import messages
from c2al_tf.storage import opened

from .text import parsed


def read_server_credentials(path: Path) -> grpc.ServerCredentials:
    """Reads an `SSLConfig` as text: `server_key`, `server_cert`, and for mutual TLS `custom_ca` and `client_verify`.

    Raises:
        ValueError: If it is none, or a field does not hold a PEM block.
    """
    with parsed(path, messages.SSLConfig()) as config:
        key, certificate = _pem(config, "server_key"), _pem(config, "server_cert")
        authorities = _pem(config, "custom_ca") if config.custom_ca or config.client_verify else None
        return grpc.ssl_server_credentials([(key, certificate)], authorities, config.client_verify)


def read_channel_credentials(
    authorities: Path | None = None, certificate: Path | None = None, key: Path | None = None
) -> grpc.ChannelCredentials:
    """Reads a client's credentials from PEM files.

    Args:
        authorities: Certificates of those who may vouch for the server; None: those that gRPC brings along.
        certificate: The client's own, where the server asks for one, with its `key`.
        key: Its private key.
    """
    if (certificate is None) != (key is None):
        raise ValueError(f"A client's certificate and key go together. Received: {certificate=!s}, {key=!s}")
    contents = [None if path is None else opened(path).read_bytes() for path in (authorities, key, certificate)]
    return grpc.ssl_channel_credentials(*contents)


def _pem(config: Any, name: str) -> bytes:
    content = getattr(config, name)
    if "-----BEGIN" not in content:
        wanted = "the text of a PEM file, -----BEGIN and so on, not its name"
        raise ValueError(f"`{name}` must hold {wanted}. Received: {content[:40]!r}")
    return content.encode()
