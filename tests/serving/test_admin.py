"""Models, versions and labels that change while a server runs."""

import grpc
import numpy as np
import pytest
from c2al_serving.admin import reload_config
from c2al_serving.client import PredictClient, PredictError
from c2al_serving.config.model_config import ModelConfig, VersionPolicy, to_proto
from c2al_serving.server import Server


@pytest.fixture
def target(export):
    with Server(export.base_path, poll_seconds=None) as server:
        yield f"127.0.0.1:{server.grpc_port}"


def both(export, **labels):
    return to_proto([ModelConfig("default", export.base_path, VersionPolicy(specific=(1, 2)), labels)])


def test_a_label_moves_on_and_back(target, export) -> None:
    def logits(label):
        with PredictClient(target, label=label, cast=False) as client:
            return client.predict(export.columns)["logits"]

    reload_config(target, both(export))  # a label means what is loaded
    for stable, canary in ((1, 2), (2, 2), (1, 2)):
        reload_config(target, both(export, stable=stable, canary=canary))
        np.testing.assert_allclose(logits("canary"), export.logits, rtol=1e-6)
        np.testing.assert_allclose(logits("stable") - logits("canary"), 0 if stable == 2 else -3, atol=1e-5)


def test_what_the_server_refuses(target, export) -> None:
    with pytest.raises(PredictError, match=rf"{target}: FAILED_PRECONDITION: .*version 9 of model default") as refused:
        reload_config(target, both(export, stable=9))
    assert refused.value.code == grpc.StatusCode.FAILED_PRECONDITION
    with PredictClient(target, label="stable", cast=False) as client, pytest.raises(PredictError, match="INVALID"):
        client.predict(export.columns)


def test_nobody_there() -> None:
    with pytest.raises(PredictError, match="127.0.0.1:1: UNAVAILABLE"):
        reload_config("127.0.0.1:1", to_proto([]))


def test_metadata_goes_with_the_request(answering) -> None:
    def refuse(_method, _request, context):
        context.abort(grpc.StatusCode.PERMISSION_DENIED, dict(context.invocation_metadata())["authorization"])

    with answering(refuse) as target, pytest.raises(PredictError, match="PERMISSION_DENIED: Bearer abc"):
        reload_config(target, to_proto([]), metadata={"authorization": "Bearer abc"})
