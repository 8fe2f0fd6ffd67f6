"""tensorflow_model_server's `model_config_list`: its files as values, and back."""

from pathlib import Path

import pytest
from c2al_serving.config.model_config import (
    ModelConfig,
    VersionPolicy,
    from_proto,
    read_config,
    read_model_configs,
    to_proto,
)
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

FILE = """
model_config_list {
  config {
    name: "ads"
    base_path: "/models/ads"
    model_platform: "tensorflow"
    model_version_policy { specific { versions: 3 versions: 5 } }
    version_labels { key: "stable" value: 3 }
    version_labels { key: "canary" value: 5 }
    logging_config { sampling_config { sampling_rate: 0.1 } }
  }
  config { name: "feed" base_path: "/models/feed" }
  config { name: "all" base_path: "/models/all" model_version_policy { all {} } }
  config { name: "two" base_path: "/models/two" model_version_policy { latest { num_versions: 2 } } }
}
"""
CONFIGS = [
    ModelConfig("ads", Path("/models/ads"), VersionPolicy(specific=(3, 5)), {"stable": 3, "canary": 5}),
    ModelConfig("feed", Path("/models/feed")),
    ModelConfig("all", Path("/models/all"), VersionPolicy(latest=None)),
    ModelConfig("two", Path("/models/two"), VersionPolicy(latest=2)),
]


def test_a_file_of_the_real_server(tmp_path) -> None:
    text_format.Parse(FILE, model_server_config_pb2.ModelServerConfig())  # it is one
    path = tmp_path / "models.config"
    path.write_text(FILE)
    assert read_model_configs(path) == CONFIGS
    assert read_config(path).model_config_list.config[0].logging_config.sampling_config.sampling_rate == 0.1


def test_what_is_sent_is_what_the_real_server_reads() -> None:
    official = model_server_config_pb2.ModelServerConfig.FromString(to_proto(CONFIGS).SerializeToString())
    assert from_proto(official) == CONFIGS


@pytest.mark.parametrize(
    ("policy", "chosen"),
    [
        (VersionPolicy(), {9}),
        (VersionPolicy(latest=2), {7, 9}),
        (VersionPolicy(latest=None), {1, 7, 9}),
        (VersionPolicy(specific=(7, 8)), {7}),
    ],
)
def test_policies(policy: VersionPolicy, chosen: set[int]) -> None:
    assert policy.choose([7, 9, 1]) == chosen


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model_config_list { config { nme: 'a' } }", 'models.config: 1:30 .* no field named "nme"'),
        ("model_config_list { config { name: 'a' } }", "a `name` and a `base_path`. Received: name='a', base_path=''"),
        ("", "a `model_config_list` is wanted"),
        (
            "model_config_list { config { name: 'a' base_path: '/a' } config { name: 'a' base_path: '/b' } }",
            r"a name of its own. Received more than once: \['a'\]",
        ),
        (
            "model_config_list { config { name: 'a' base_path: '/a' model_version_policy { specific {} } } }",
            "`specific` of model a must list `versions`",
        ),
        (
            "model_config_list { config { name: 'a' base_path: '/a' model_platform: 'onnx' } }",
            "`model_platform` of model a must be 'tensorflow'. Received: 'onnx'",
        ),
    ],
)
def test_files_that_say_nothing_clear(tmp_path, text: str, message: str) -> None:
    path = tmp_path / "models.config"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_model_configs(path)


def test_no_file(tmp_path) -> None:
    with pytest.raises(ValueError, match=r"absent\.config: .*No such file"):
        read_model_configs(tmp_path / "absent.config")
