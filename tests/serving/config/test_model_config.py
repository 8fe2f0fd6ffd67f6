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
  }
  config { name: "feed" base_path: "/models/feed" model_type: TENSORFLOW }
  config { name: "all" base_path: "/models/all" model_platform: "tensorflow" model_version_policy { all {} } }
  config {
    name: "two"
    base_path: "/models/two"
    model_platform: "tensorflow"
    model_version_policy { latest { num_versions: 2 } }
  }
}
"""
PLATFORM = 'model_platform: "tensorflow"'
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
    assert from_proto(read_config(path)) == CONFIGS


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
        ("model_config_list { config { base_path: '/a' } }", "Every model needs a `name`"),
        (f"model_config_list {{ config {{ name: 'a' {PLATFORM} }} }}", "model a to have an absolute path; got"),
        (f"model_config_list {{ config {{ name: 'a' base_path: 'b' {PLATFORM} }} }}", r"got base_path\(\)=b"),
        ("model_config_list { config { name: 'a' base_path: '/a' } }", "neither model_type .* model name is a"),
        (
            f"model_config_list {{ config {{ name: 'a' base_path: '/a' {PLATFORM} logging_config {{}} }} }}",
            "Model a has a `logging_config`: no request-logger-creator provided",
        ),
        ("", "a `model_config_list` is wanted"),
        (
            f"model_config_list {{ config {{ name: 'a' base_path: '/a' {PLATFORM} }} "
            f"config {{ name: 'a' base_path: '/b' {PLATFORM} }} }}",
            "Illegal to list model a multiple times in config list",
        ),
        (
            f"model_config_list {{ config {{ name: 'a' base_path: '/a' {PLATFORM} model_version_policy "
            "{ specific {} } } }",
            "`specific` of model a must list `versions`",
        ),
        (
            "model_config_list { config { name: 'a' base_path: '/a' model_platform: 'onnx' } }",
            "Model a requests unsupported platform onnx",
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
