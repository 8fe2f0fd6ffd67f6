"""Which models a server has: tensorflow_model_server's `model_config_list`, as values."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from c2al_tf.protocol import messages
from c2al_tf.storage import is_url, local_path, shown

from .text import parsed

_TENSORFLOW = 1  # its number as a `ModelType`


@dataclass(frozen=True)
class VersionPolicy:
    """Which of the versions in a base path are served.

    Args:
        latest: So many of the largest numbers. None: all of them.
        specific: These numbers alone, whatever `latest` says.
    """

    latest: int | None = 1
    specific: tuple[int, ...] = ()

    def choose(self, numbers: Iterable[int]) -> set[int]:
        """The numbers to be served, of those that there are."""
        ordered = sorted(numbers)
        if self.specific:
            return set(ordered) & set(self.specific)
        return set(ordered if self.latest is None else ordered[-self.latest :])


@dataclass(frozen=True)
class ModelConfig:
    """One model of a server.

    Args:
        name: Name that requests call it by.
        base_path: Folder with version folders (`1`, `2`, ...).
        versions: Which of them are served.
        labels: Version number by label, such as `stable` and `canary`.
    """

    name: str
    base_path: Path
    versions: VersionPolicy = VersionPolicy()
    labels: Mapping[str, int] = field(default_factory=dict)


def read_model_configs(path: Path) -> list[ModelConfig]:
    """Reads a file of tensorflow_model_server's `--model_config_file`: a `ModelServerConfig` as text.

    Raises:
        ValueError: If it is none; the message names file, line and field.
    """
    return from_proto(read_config(path))


def read_config(path: Path) -> Any:
    """Reads such a file as the ModelServerConfig itself, with what a server may need beyond our `ModelConfig`s.

    Raises:
        ValueError: As `read_model_configs`.
    """
    with parsed(path, messages.ModelServerConfig()) as config:
        from_proto(config)
        return config


def from_proto(config: Any) -> list[ModelConfig]:
    """The models of a ModelServerConfig.

    Raises:
        ValueError: If it is of another kind, or tensorflow_model_server would refuse it.
    """
    if config.WhichOneof("config") != "model_config_list":
        raise ValueError("a `model_config_list` is wanted: model_config_list { config { name: ... base_path: ... } }")
    models = [_model(model) for model in config.model_config_list.config]
    names = [model.name for model in models]
    if repeated := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"Illegal to list model {min(repeated)} multiple times in config list")
    return models


def to_proto(models: Sequence[ModelConfig]) -> Any:
    """The inverse of `from_proto`."""
    config = messages.ModelServerConfig()
    config.model_config_list.SetInParent()
    for model in models:
        added = config.model_config_list.config.add(
            name=model.name, base_path=shown(model.base_path), model_platform="tensorflow", version_labels=model.labels
        )
        policy = added.model_version_policy
        if model.versions.specific:
            policy.specific.versions.extend(model.versions.specific)
        elif model.versions.latest is None:
            policy.all.SetInParent()
        else:
            policy.latest.num_versions = model.versions.latest
    return config


def _model(model: Any) -> ModelConfig:
    name = model.name
    if not name:
        raise ValueError(f"Every model needs a `name`. Received: name='', base_path={model.base_path!r}")
    if bool(model.model_platform) == bool(model.model_type):
        which, link = ("both", "and") if model.model_platform else ("neither", "nor")
        what = f"{which} model_type (deprecated) {link} model_platform, model name is {name}"
        raise ValueError(f'Illegal setting {what}: give model_platform: "tensorflow"')
    if model.model_platform not in ("", "tensorflow") or model.model_type not in (0, _TENSORFLOW):
        platform = model.model_platform or model.model_type
        raise ValueError(f"Model {name} requests unsupported platform {platform}; 'tensorflow' is supported")
    if not is_url(model.base_path) and not Path(model.base_path).is_absolute():
        wanted = f"Expected model {name} to have an absolute path"
        raise ValueError(f"{wanted}; got base_path()={model.base_path}. Folders of this machine are served")
    if model.HasField("logging_config"):
        raise ValueError(f"Model {name} has a `logging_config`: no request-logger-creator provided. Remove it")
    return ModelConfig(name, local_path(model.base_path), _policy(model), dict(model.version_labels))


def _policy(model: Any) -> VersionPolicy:
    policy = model.model_version_policy
    kind = policy.WhichOneof("policy_choice")
    if kind == "all":
        return VersionPolicy(latest=None)
    if kind == "specific":
        if not policy.specific.versions:
            raise ValueError(f"`specific` of model {model.name} must list `versions`. Received: none")
        return VersionPolicy(specific=tuple(policy.specific.versions))
    # As in TensorFlow Serving 0 is taken for the default.
    return VersionPolicy(latest=max(1, policy.latest.num_versions) if kind == "latest" else 1)
