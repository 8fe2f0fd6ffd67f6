"""The loaded models by name and version: which one answers a request, and which versions come and go."""

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from .errors import FAILED_PRECONDITION, INTERNAL, NOT_FOUND, RequestError
from .messages import GetModelStatusResponse, ModelVersionStatus
from .model_config import ModelConfig
from .servable import Servable, find_versions

_log = logging.getLogger(__name__)


@dataclass
class _Version:
    """A version that was wanted once, and what became of it. The name of a state is that of TensorFlow Serving."""

    state: str = "LOADING"
    servable: Servable | None = None
    error: ValueError | None = None
    files: Any = None
    """Of a version that could not be loaded what its folder held: it is tried again once that changes."""
    num_users: int = 0
    """Requests that are answered by it."""


@dataclass
class _Model:
    config: ModelConfig
    versions: dict[int, _Version] = field(default_factory=dict)

    def available(self) -> list[int]:
        """The numbers of the versions that answer."""
        return sorted(number for number, version in self.versions.items() if version.state == "AVAILABLE")


class Models:
    """Serves the versions that the models' policies choose among the folders of their base paths.

    A version that appears is loaded and warmed before the one that it takes the place of goes, and that one goes once
    its requests are answered. A version that cannot be loaded takes no place; it is tried again when its files change.

    Args:
        configs: The models.
        poll_seconds: Seconds between two looks at the base paths. None: only `start` and `reload` look.
        load: Loads a version, given its model's name, its number and its folder.
    """

    def __init__(
        self,
        configs: Sequence[ModelConfig],
        poll_seconds: float | None = 1.0,
        load: Callable[[str, int, Path], Servable] = Servable,
    ) -> None:
        self.poll_seconds = poll_seconds
        self._load_version = load
        self._models = {config.name: _Model(config) for config in configs}
        self._labels: dict[str, dict[str, int]] = {}
        # Guards all of these; who waits for it waits for requests to end.
        self._changed = threading.Condition()
        # Held while base paths are looked at and versions come and go: by one at a time.
        self._updating = threading.Lock()
        self._closing = threading.Event()
        self._poller = threading.Thread(target=self._poll, name="versions", daemon=True)

    def start(self) -> Self:
        """Loads all models, then looks for new versions until `close`.

        Raises:
            ValueError: If a model has no version that can be loaded, or a label is of none that is.
        """
        try:
            with self._updating:
                for model in self._models.values():
                    self._update(model, find_versions(model.config.base_path))
                    self._check_available(model)
                self._labels = {name: self._checked_labels(model) for name, model in self._models.items()}
        except ValueError:
            self.close()
            raise
        if self.poll_seconds is not None:
            self._poller.start()
        return self

    def close(self) -> None:
        """Finishes the requests under way and releases all models."""
        self._closing.set()
        if self._poller.ident is not None:
            self._poller.join()
        with self._updating:
            for model in self._models.values():
                for number in model.available():
                    self._unload(model, number)

    def reload(self, configs: Sequence[ModelConfig]) -> None:
        """Serves these models from now on, and no others.

        Raises:
            ValueError: If a model has no version that can be loaded, or a label is of none that is: the models and
                labels from before are then kept.
        """
        with self._updating:
            before = self._models
            models = {config.name: _Model(config, self._versions_of(config, before)) for config in configs}
            try:
                for model in models.values():
                    # Nothing goes before all that is new has come.
                    self._update(model, find_versions(model.config.base_path), unload=False)
                    self._check_available(model)
                labels = {name: self._checked_labels(model) for name, model in models.items()}
            except ValueError:
                self._unload_surplus(models, kept=before)
                raise
            with self._changed:
                self._models, self._labels = models, labels
            self._unload_surplus(before, kept=models)
            for model in models.values():
                self._update(model, find_versions(model.config.base_path))

    @contextlib.contextmanager
    def use(self, model_spec: Any) -> Iterator[Servable]:
        """The servable of a ModelSpec: its version, that of its label, or the latest. It stays loaded meanwhile.

        Raises:
            RequestError: If the model or version is not loaded.
        """
        with self._changed:
            version = self._find(model_spec)
            version.num_users += 1
        try:
            assert version.servable is not None
            yield version.servable
        finally:
            with self._changed:
                version.num_users -= 1
                if version.num_users == 0:
                    self._changed.notify_all()

    def status(self, model_spec: Any) -> Any:
        """The GetModelStatusResponse for a ModelSpec: one version, or all that were ever wanted, the latest first.

        Raises:
            RequestError: If there is none.
        """
        with self._changed:
            model = self._models.get(model_spec.name)
            versions = dict(model.versions) if model else {}
            chosen = sorted(versions, reverse=True)
            missing = f"Could not find any versions of model {model_spec.name}"
            wanted = model_spec.WhichOneof("version_choice")
            if wanted is not None:
                number = (
                    model_spec.version.value
                    if wanted == "version"
                    else self._version_of_label(model_spec.name, model_spec.version_label)
                )
                chosen = [number] if number in versions else []
                missing = f"Could not find version {number} of model {model_spec.name}"
        if not chosen:
            raise RequestError(missing, NOT_FOUND)
        response = GetModelStatusResponse()
        for number in chosen:
            version = versions[number]
            added = response.model_version_status.add(version=number, state=getattr(ModelVersionStatus, version.state))
            added.status.SetInParent()
            if version.error is not None:
                added.status.error_code = getattr(version.error, "code", INTERNAL)
                added.status.error_message = str(version.error)
        return response

    def available(self) -> dict[str, list[int]]:
        """The numbers of the versions that answer, by model."""
        with self._changed:
            return {name: model.available() for name, model in self._models.items()}

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _find(self, model_spec: Any) -> _Version:
        name = model_spec.name
        if not name:
            raise RequestError("ModelSpec has no name specified.")
        model = self._models.get(name)
        available = model.available() if model else []
        wanted = model_spec.WhichOneof("version_choice")
        if model is None or (wanted is None and not available):
            known = ", ".join(sorted(self._models))
            raise RequestError(f"Servable not found for request: Latest({name}). Models: {known}", NOT_FOUND)
        if wanted is None:
            return model.versions[available[-1]]
        number = (
            model_spec.version.value if wanted == "version" else self._version_of_label(name, model_spec.version_label)
        )
        if number not in available:
            loaded = ", ".join(map(str, available)) or "none"
            raise RequestError(
                f"Servable not found for request: Specific({name}, {number}). Versions: {loaded}", NOT_FOUND
            )
        return model.versions[number]

    def _version_of_label(self, name: str, label: str) -> int:
        labels = self._labels.get(name, {})
        if label not in labels:
            raise RequestError(f"Unrecognized servable version label: {label}. Labels: {', '.join(labels) or 'none'}")
        return labels[label]

    def _checked_labels(self, model: _Model) -> dict[str, int]:
        labels = dict(model.config.labels)
        available = model.available()
        for label, number in labels.items():
            if number not in available:
                raise RequestError(
                    f"Request to assign label {label} to version {number} of model {model.config.name}, which is not "
                    f"currently available for inference. Available: {available}",
                    FAILED_PRECONDITION,
                )
        return labels

    def _check_available(self, model: _Model) -> None:
        if model.available():
            return
        errors = [str(version.error) for _, version in sorted(model.versions.items()) if version.error]
        if errors:
            raise ValueError("; ".join(errors))
        there = sorted(find_versions(model.config.base_path))
        raise ValueError(
            f"Model {model.config.name} must have a version that its policy chooses. "
            f"Received: {model.config.versions}; {model.config.base_path} holds {there}"
        )

    def _versions_of(self, config: ModelConfig, models: dict[str, _Model]) -> dict[int, _Version]:
        """What is there of a model already: its versions under the same base path."""
        model = models.get(config.name)
        same = model is not None and model.config.base_path == config.base_path
        return dict(model.versions) if model is not None and same else {}

    def _poll(self) -> None:
        problems: dict[str, str] = {}
        while not self._closing.wait(self.poll_seconds):
            with self._updating:
                for name, model in self._models.items():
                    try:
                        self._update(model, find_versions(model.config.base_path))
                        problems.pop(name, None)
                    except (OSError, ValueError) as error:  # storage that is away comes back
                        if problems.get(name) != str(error):
                            _log.warning("model %s keeps its versions: %s", name, error)
                        problems[name] = str(error)

    def _update(self, model: _Model, found: dict[int, Path], unload: bool = True) -> None:
        """Loads what the policy wants, then unloads what it does not, if anything that it wants is there."""
        wanted = model.config.versions.choose(found)
        for number in sorted(wanted):
            self._load(model, number, found[number])
        available = model.available()
        if unload and wanted & set(available):
            for number in set(available) - wanted:
                self._unload(model, number)

    def _load(self, model: _Model, number: int, directory: Path) -> None:
        known = model.versions.get(number)
        if known is not None and known.state != "END":
            return
        files = _files(directory)
        if known is not None and known.error is not None and known.files == files:
            return
        version = _Version()
        with self._changed:
            model.versions[number] = version
        try:
            servable = self._load_version(model.config.name, number, directory)
        except ValueError as error:
            _log.error("version %d of model %s cannot be loaded: %s", number, model.config.name, error)
            with self._changed:
                version.state, version.error, version.files = "END", error, files
            return
        with self._changed:
            version.state, version.servable = "AVAILABLE", servable

    def _unload(self, model: _Model, number: int) -> None:
        """Takes no more requests for a version, and releases it when those under way are answered."""
        version = model.versions[number]
        with self._changed:
            version.state = "UNLOADING"
            self._changed.wait_for(lambda: version.num_users == 0)
        assert version.servable is not None
        version.servable.close()
        with self._changed:
            version.state, version.servable = "END", None
        _log.info("unloaded %s version %d", model.config.name, number)

    def _unload_surplus(self, models: dict[str, _Model], kept: dict[str, _Model]) -> None:
        """Unloads the versions of `models` that `kept` does not share."""
        shared = {id(version) for model in kept.values() for version in model.versions.values()}
        for model in models.values():
            for number in model.available():
                if id(model.versions[number]) not in shared:
                    self._unload(model, number)


def _files(directory: Path) -> list[tuple[str, int, int]]:
    """Names, sizes and times of what a folder holds."""
    stats = [(str(path), path.lstat()) for path in sorted(directory.rglob("*"))]
    return [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]
