"""The models of a server by name, version and label: which one answers a request."""

import contextlib
import functools
import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ..config.model_config import ModelConfig
from ..protocol.errors import FAILED_PRECONDITION, INTERNAL, NOT_FOUND, UNAVAILABLE, RequestError
from ..protocol.messages import GetModelStatusResponse, ModelVersionStatus
from ..servable.loading import load_servable
from ..servable.servable import Servable
from .metrics import OTHER, Metrics
from .versions import Load, Versions

_MAX_PAUSE = 1.0
_log = logging.getLogger(__name__)


class Models:
    """Serves the versions that the models' policies choose among the folders of their base paths. A context manager.

    A version that appears is loaded and warmed before the one that it takes the place of goes, and that one goes once
    its requests are answered. A version that cannot be loaded takes no place; it is tried again when its files change.

    Args:
        configs: The models.
        poll_seconds: Seconds between two looks at the base paths. None: only `start` and `reload` look.
        load: Loads a version.

    Attributes:
        metrics: What was asked of them, and loaded.
    """

    def __init__(
        self, configs: Sequence[ModelConfig], poll_seconds: float | None = 1.0, load: Load = load_servable
    ) -> None:
        self.poll_seconds = poll_seconds
        self.metrics = Metrics()
        self._load = functools.partial(self._counted_load, load)
        # Models and labels, replaced together and never changed: a request sees those of one moment.
        models = {config.name: Versions(config, self._load) for config in configs}
        self._served: tuple[dict[str, Versions], dict[str, dict[str, int]]] = (models, {})
        # Held while base paths are looked at and versions come and go.
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
                    model.update()
                    model.check_available()
                self._served = (self._models, {name: _checked_labels(model) for name, model in self._models.items()})
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
            _unload_all_but({}, self._models)

    def reload(self, configs: Sequence[ModelConfig]) -> None:
        """Serves these models from now on, and no others. Nothing goes before all that is new has come.

        Raises:
            ValueError: If a model has no version that can be loaded, or a label is of none that is: the models and
                labels from before are then kept.
        """
        with self._updating:
            if self._closing.is_set():
                raise RequestError("The server is about to stop.", UNAVAILABLE)
            before = self._models
            models = {config.name: Versions(config, self._load, _shared(config, before)) for config in configs}
            try:
                for model in models.values():
                    model.update(unload=False)
                    model.check_available()
                labels = {name: _checked_labels(model) for name, model in models.items()}
            except ValueError:
                _unload_all_but(before, models)
                raise
            self._served = (models, labels)
            _unload_all_but(models, before)
            for name, model in models.items():
                try:
                    model.update()
                except ValueError as error:  # the new ones are served: the poller will unload what they do not want
                    _log.warning("model %s keeps its versions: %s", name, error)

    @contextlib.contextmanager
    def use(self, model_spec: Any) -> Iterator[Servable]:
        """The servable of a ModelSpec: its version, that of its label, or the latest. It stays loaded meanwhile.

        Raises:
            RequestError: If the model or version is not loaded.
        """
        name = model_spec.name
        if not name:
            raise RequestError("ModelSpec has no name specified.")
        while True:
            served = models, labels = self._served
            number = _number(model_spec, labels)
            available = models[name].available() if name in models else []
            wanted = available[-1] if number is None and available else number
            chosen = models[name].by_number.get(wanted) if name in models and wanted is not None else None
            if chosen is not None:
                with chosen.use() as servable:
                    if servable is not None:
                        yield servable
                        return
            if served is not self._served or (number is None and available):
                continue  # what was chosen has just gone: another is there
            if number is None or name not in models:
                known = ", ".join(sorted(models))
                raise RequestError(f"Servable not found for request: Latest({name}). Models: {known}", NOT_FOUND)
            loaded = ", ".join(map(str, available)) or "none"
            raise RequestError(
                f"Servable not found for request: Specific({name}, {number}). Versions: {loaded}", NOT_FOUND
            )

    def counted(self, name: str, api: str, entrypoint: str) -> contextlib.AbstractContextManager[None]:
        """Counts what is done meanwhile as a request to the model of that name; see `Metrics.request`."""
        return self.metrics.request(name if name in self._models else OTHER, api, entrypoint)

    def status(self, model_spec: Any) -> Any:
        """The GetModelStatusResponse for a ModelSpec: one version, or all that were ever wanted, the latest first.

        Raises:
            RequestError: If there is none.
        """
        model = self._models.get(model_spec.name)
        versions = dict(model.by_number) if model else {}
        number = _number(model_spec, self._served[1])
        chosen = sorted(versions, reverse=True) if number is None else [number] if number in versions else []
        if not chosen:
            what = "any versions" if number is None else f"version {number}"
            raise RequestError(f"Could not find {what} of model {model_spec.name}", NOT_FOUND)
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
        return {name: model.available() for name, model in self._models.items()}

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _counted_load(self, load: Load, name: str, number: int, directory: Path) -> Servable:
        with self.metrics.load(directory):
            return load(name, number, directory)

    @property
    def _models(self) -> dict[str, Versions]:
        return self._served[0]

    def _poll(self) -> None:
        problems: dict[str, str] = {}
        while not self._closing.wait(self.poll_seconds):
            with self._updating:
                for name, model in self._models.items():
                    try:
                        model.update(pause=self._pause)
                        problems.pop(name, None)
                    except ValueError as error:  # storage that is away comes back
                        if problems.get(name) != str(error):
                            _log.warning("model %s keeps its versions: %s", name, error)
                        problems[name] = str(error)

    def _pause(self) -> None:
        """Lets the first requests to a new version pass before the old one's release takes a core from them."""
        self._closing.wait(min(self.poll_seconds or 0.0, _MAX_PAUSE))


def _number(model_spec: Any, labels: Mapping[str, Mapping[str, int]]) -> int | None:
    """The version that is asked for; None: the latest."""
    kind = model_spec.WhichOneof("version_choice")
    if kind != "version_label":
        return model_spec.version.value if kind == "version" else None
    of_model = labels.get(model_spec.name, {})
    if model_spec.version_label not in of_model:
        known = ", ".join(of_model) or "none"
        raise RequestError(f"Unrecognized servable version label: {model_spec.version_label}. Labels: {known}")
    return of_model[model_spec.version_label]


def _shared(config: ModelConfig, models: dict[str, Versions]) -> dict[int, Any]:
    """What is there of a model already: its versions, if they are under the same base path."""
    model = models.get(config.name)
    return model.by_number if model is not None and model.config.base_path == config.base_path else {}


def _checked_labels(model: Versions) -> dict[str, int]:
    available = model.available()
    for label, number in model.config.labels.items():
        if number not in available:
            raise RequestError(
                f"Request to assign label {label} to version {number} of model {model.config.name}, which is not "
                f"currently available for inference. Available: {available}",
                FAILED_PRECONDITION,
            )
    return dict(model.config.labels)


def _unload_all_but(kept: dict[str, Versions], models: dict[str, Versions]) -> None:
    """Unloads the versions of `models` that `kept` does not share."""
    shared = {id(version) for model in kept.values() for version in model.by_number.values()}
    for model in models.values():
        for number in model.available():
            if id(model.by_number[number]) not in shared:
                model.unload(number)
