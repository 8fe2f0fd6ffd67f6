"""A server whose base path is in a store follows its versions."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from c2al_serving.client import PredictClient
from c2al_serving.config.model_config import read_model_configs
from c2al_serving.server import Server

from c2al_tf.files import remove, replace_directory
from c2al_tf.storage import local_path
from c2al_tf.storage.copies import UPLOADING


class Model(tf.Module):
    def __init__(self, slope: float) -> None:
        super().__init__()
        self.slope = tf.Variable(slope)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "x")])
    def serve(self, x):
        return {"y": self.slope * x}


@pytest.fixture(scope="module")
def versions(tmp_path_factory) -> list[Path]:
    """Models that multiply by their number."""
    folder = tmp_path_factory.mktemp("versions")
    for number in range(5):
        model = Model(float(number))
        tf.saved_model.save(model, str(folder / str(number)), signatures=model.serve)
    return [folder / str(number) for number in range(5)]


def publish(version: Path, base: str) -> None:
    with replace_directory(f"{base}/{version.name}") as folder:
        shutil.copytree(version, folder, dirs_exist_ok=True)


def test_versions_are_followed_and_half_ones_are_not(versions, bucket, network, upload, another_machine, until) -> None:
    base = f"{bucket}/models/ranker"
    publish(versions[1], base)
    another_machine()
    with Server(base, poll_seconds=0.05) as server, PredictClient(f"127.0.0.1:{server.grpc_port}") as client:

        def answers() -> float:
            return float(client.predict({"x": np.ones(1, np.float32)})["y"][0])

        assert answers() == 1
        upload(versions[2], "models/ranker/2")
        until(lambda: answers() == 2)
        (versions[3].parent / UPLOADING).touch()
        upload(versions[3].parent / UPLOADING, f"models/ranker/3/{UPLOADING}")
        upload(versions[3], "models/ranker/3")
        network.meddle = lambda method, path: {"status": 403}
        seen = len(network.requests)
        until(lambda: len(network.requests) > seen + 3)
        assert answers() == 2
        network.meddle = lambda method, path: None
        seen = len(network.requests)
        until(lambda: len(network.requests) > seen + 10)
        assert answers() == 2
        remove(local_path(base) / "1")
        publish(versions[4], base)
        until(lambda: answers() == 4)
        assert sorted(path.name for path in local_path(base).iterdir()) == ["2", "4"]


def test_a_configuration_file_names_urls(versions, bucket, tmp_path) -> None:
    publish(versions[1], f"{bucket}/a")
    text = f'model_config_list {{ config {{ name: "m" base_path: "{bucket}/a" model_platform: "tensorflow" }} }}'
    (tmp_path / "models.config").write_text(text)
    with (
        Server(read_model_configs(tmp_path / "models.config")) as server,
        PredictClient(f"127.0.0.1:{server.grpc_port}", "m") as client,
    ):
        assert client.predict({"x": np.ones(1, np.float32)})["y"].tolist() == [1]
