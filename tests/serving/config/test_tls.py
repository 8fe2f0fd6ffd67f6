"""TLS and mutual TLS between our server and clients, ours and grpc's own, with certificates made here."""

import asyncio

import grpc
import numpy as np
import pytest
import trustme
from c2al_serving.async_client import AsyncPredictClient
from c2al_serving.client import PredictClient, PredictError
from c2al_serving.config.tls import read_channel_credentials, read_server_credentials
from c2al_serving.server import Server
from google.protobuf import text_format

from c2al_tf.protocol.messages import SSLConfig


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def files(authority, tmp_path_factory):
    """PEM files: the authority's, and a client's certificate and key."""
    folder = tmp_path_factory.mktemp("pem")
    client = authority.issue_cert("client@example.org")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    client.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    client.private_key_pem.write_to_path(folder / "key.pem")
    return folder


@pytest.fixture
def write_config(authority, tmp_path):
    """`write_config(**fields)` writes a server's SSLConfig as text, with some fields changed."""
    certificate = authority.issue_cert("localhost", "127.0.0.1")

    def write(**fields):
        config = {
            "server_key": certificate.private_key_pem.bytes().decode(),
            "server_cert": certificate.cert_chain_pems[0].bytes().decode(),
            **fields,
        }
        path = tmp_path / "ssl.config"
        path.write_text(text_format.MessageToString(SSLConfig(**config)))
        return path

    return write


def test_tls(export, write_config, files) -> None:
    with Server(export.base_path, credentials=read_server_credentials(write_config())) as server:
        target = f"localhost:{server.grpc_port}"
        with PredictClient(target, credentials=read_channel_credentials(files / "ca.pem")) as client:
            np.testing.assert_allclose(client.predict(export.columns)["logits"], export.logits, rtol=1e-6)

        async def ask():
            async with AsyncPredictClient(target, credentials=read_channel_credentials(files / "ca.pem")) as client:
                return await client.predict(export.columns)

        np.testing.assert_allclose(asyncio.run(ask())["logits"], export.logits, rtol=1e-6)
        for credentials in (None, read_channel_credentials()):  # plain text; authorities that do not know this one
            with PredictClient(target, credentials=credentials) as client, pytest.raises(PredictError) as refused:
                client.status()
            assert refused.value.code == grpc.StatusCode.UNAVAILABLE


def test_mutual_tls(export, authority, write_config, files) -> None:
    config = write_config(custom_ca=authority.cert_pem.bytes().decode(), client_verify=True)
    with Server(export.base_path, credentials=read_server_credentials(config)) as server:
        target = f"localhost:{server.grpc_port}"
        own = read_channel_credentials(files / "ca.pem", files / "cert.pem", files / "key.pem")
        with PredictClient(target, credentials=own) as client:
            assert client.status()[0].state == "AVAILABLE"
        nobody = read_channel_credentials(files / "ca.pem")
        with PredictClient(target, credentials=nobody) as client, pytest.raises(PredictError, match="UNAVAILABLE"):
            client.status()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"server_key": "key.pem"}, "`server_key` must hold the text of a PEM file.*not its name. Received: 'key.pem'"),
        ({"server_cert": ""}, "`server_cert` must hold the text of a PEM file"),
        ({"client_verify": True}, "`custom_ca` must hold the text of a PEM file"),
    ],
)
def test_configs_that_cannot_be(write_config, fields, message) -> None:
    with pytest.raises(ValueError, match=message):
        read_server_credentials(write_config(**fields))


def test_what_is_no_config(tmp_path) -> None:
    (tmp_path / "ssl.config").write_text("server_kee: 'x'")
    with pytest.raises(ValueError, match='ssl.config: .*no field named "server_kee"'):
        read_server_credentials(tmp_path / "ssl.config")


def test_a_certificate_without_its_key(tmp_path) -> None:
    with pytest.raises(ValueError, match="certificate and key go together"):
        read_channel_credentials(certificate=tmp_path / "cert.pem")
