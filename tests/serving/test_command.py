"""`c2al serve` with the flags of tensorflow_model_server."""

import grpc
import numpy as np
import pytest
from c2al_pipelines.benchmarks.serving_load.server_process import serve
from c2al_pipelines.commands.serving import _channel_arguments
from c2al_serving.admin import reload_config
from c2al_serving.client import PredictClient, PredictError
from c2al_serving.config.model_config import to_proto


def test_the_real_servers_flags(export) -> None:
    flags = [
        f"--model_base_path={export.base_path}",
        "--model_name=ads",
        "--port=0",
        "--rest_api_port=0",
        "--file_system_poll_wait_seconds=0",
        "--max_num_load_retries=0",
        "--load_retry_interval_micros=1",
        "--allow_version_labels_for_unavailable_models",
        "--tensorflow_intra_op_parallelism=2",
        "--enable_batching=true",
        "--grpc_channel_arguments=grpc.max_connection_age_ms=300000",
        "--no-reload-config",
    ]
    with serve(*flags) as server, PredictClient(f"127.0.0.1:{server.grpc_port}", "ads") as client:
        np.testing.assert_allclose(client.predict(export.columns)["logits"], export.logits, atol=1e-5, rtol=1e-6)
        with pytest.raises(PredictError, match="does not let its models be changed") as refused:
            reload_config(f"127.0.0.1:{server.grpc_port}", to_proto([]))
        assert refused.value.code is grpc.StatusCode.PERMISSION_DENIED


def test_channel_arguments() -> None:
    assert _channel_arguments("") == {}
    assert _channel_arguments("a=-1,b=x") == {"a": -1, "b": "x"}
    with pytest.raises(ValueError, match="must be name=value,name=value. Received: a"):
        _channel_arguments("a")
