"""The models of a server by name, version and label: which one answers a request."""

import contextlib
import functools
import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TypeAlias

from c2al_tf.protocol.messages import GetModelStatusResponse

from ..config.model_config import ModelConfig
from ..metrics import OTHER, Metrics
from ..protocol.errors import FAILED_PRECONDITION, INTERNAL, NOT_FOUND, UNAVAILABLE, UNKNOWN, RequestError
from ..servable.loading import load_servable
from ..servable.servable import Servable
from .versions import Version, find_versions, missing_versions

Load: TypeAlias = Callable[..., Servable]
"""Loads a version, given its model's name, its number, its folder and the `metrics`; raises ValueError if it cannot."""

_MAX_PAUSE = 1.0
_log = logging.getLogger(__name__)


class Models:
    """Serves the versions that the models' policies choose among the folders of their base paths. A context manager.

    A version that appears is loaded and warmed before the one that it takes the place of goes, and that one goes once
    its requests are answered. A version that cannot be loaded takes no place.

    Args:
        configs: The models.
        poll_seconds: Seconds between two looks at the base paths. None: only `start` and `reload` look.
        load: Loads a version.
        retries: How often a version that cannot be loaded is tried again.
        retry_seconds: Seconds between two attempts.
        allow_unavailable_labels: Whether a new label may mean a version that is not loaded yet.
        stopping: Ends `start` when it is set meanwhile.

    Attributes:
        metrics: What was asked of them, and loaded.
    """

    def __init__(
        self,
        configs: Sequence[ModelConfig],
        poll_seconds: float | None = 1.0,
        load: Load = load_servable,
        *,
        retries: int = 5,
        retry_seconds: float = 60.0,
        allow_unavailable_labels: bool = False,
        stopping: threading.Event | None = None,
    ) -> None:
        self.poll_seconds = poll_seconds
        self.metrics = Metrics()
        self._load, self._retries, self._retry_seconds = load, retries, retry_seconds
        self._allow_unavailable_labels = allow_unavailable_labels
        self._configs = {config.name: config for config in configs}
        # Replaced, never changed: a request sees the labels of one moment. Versions are never forgotten, as there.
        self._labels: Mapping[str, Mapping[str, int]] = {}
        self._versions: dict[str, dict[int, Version]] = {}
        self._loaded: dict[str, list[int]] = {}
        self._problems: dict[str, str] = {}
        # Held while base paths are looked at and versions come and go.
        self._updating = threading.Lock()
        self._closing, self._stopping = threading.Event(), stopping or threading.Event()
        self._poller = threading.Thread(target=self._poll, name="versions", daemon=True)

    def start(self) -> Self:
        """Loads all models, however long their base paths are empty, then looks for new versions until `close`.

        Raises:
            ValueError: If a version cannot be loaded, a label may not be set, or nobody looks at an empty base path.
            InterruptedError: If `stopping` is set.
        """
        try:
            with self._updating:
                self._labels = self._checked_labels(self._configs)
                while waiting := self._update_until_loaded():
                    if self._stopping.wait(waiting):
                        raise InterruptedError
        except BaseException:
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
            self._unload_all_but({})

    def reload(self, configs: Sequence[ModelConfig]) -> None:
        """Serves these models from now on, and no others. Nothing goes before all that is new has come.

        Raises:
            ValueError: If a new model has no version that can be loaded at once, or a label may not be set: what is
                served is then as before.
        """
        with self._updating:
            if self._closing.is_set():
                raise RequestError("The server is about to stop.", UNAVAILABLE)
            wanted = {config.name: config for config in configs}
            labels = self._checked_labels(wanted)
            try:
                for name, config in wanted.items():
                    is_new = name not in self._configs
                    self._load_wanted(config, 0 if is_new else self._retries)
                    if is_new:
                        self._check_available(config)
            except ValueError:
                self._unload_all_but(self._configs)
                raise
            self._configs, self._labels = wanted, labels
            self._unload_all_but(wanted)
            for config in wanted.values():
                self._update(config)

    @contextlib.contextmanager
    def use(self, model_spec: Any) -> Iterator[Servable]:
        """The servable of a ModelSpec: its version, that of its label, or the latest. It stays loaded meanwhile.

        Raises:
            RequestError: If the model or version is not loaded.
        """
        name = model_spec.name
        if not name:
            raise RequestError("ModelSpec has no name specified.")
        number = self._number(model_spec)
        while True:
            loaded = self._loaded.get(name, [])
            wanted = loaded[-1] if number is None and loaded else number
            if wanted not in loaded:
                what = f"Latest({name})" if number is None else f"Specific({name}, {number})"
                kind, known = ("Versions", loaded) if loaded else ("Models", sorted(self._configs))
                listed = ", ".join(map(str, known))
                raise RequestError(f"Servable not found for request: {what}. {kind}: {listed}", NOT_FOUND)
            version = self._versions[name][wanted]
            if (servable := version.acquire()) is not None:  # else it has just gone
                break
        try:
            yield servable
        finally:
            version.release()

    def counted(self, name: str, api: str, entrypoint: str) -> contextlib.AbstractContextManager[None]:
        """Counts what is done meanwhile as a request to the model of that name; see `Metrics.request`."""
        return self.metrics.request(name if name in self._versions or not name else OTHER, api, entrypoint)

    def status(self, model_spec: Any) -> Any:
        """The GetModelStatusResponse for a ModelSpec: one version, or all that were ever wanted, the latest first.

        A label is not looked at, as in the real server.

        Raises:
            RequestError: If there is none.
        """
        versions = dict(self._versions.get(model_spec.name, {}))
        chosen, what = sorted(versions, reverse=True), "any versions"
        if model_spec.HasField("version"):
            number = model_spec.version.value
            chosen, what = [number] if number in versions else [], f"version {number}"
        if not chosen:
            raise RequestError(f"Could not find {what} of model {model_spec.name}", NOT_FOUND)
        response = GetModelStatusResponse()
        for number in chosen:
            version = versions[number]
            status, error = {}, version.error
            if error is not None:
                status = {"error_code": getattr(error, "code", INTERNAL), "error_message": str(error)}
            response.model_version_status.add(version=number, state=version.state, status=status)
        return response

    def available(self) -> dict[str, list[int]]:
        """The numbers of the versions that answer, by model, in order."""
        return {name: self._loaded.get(name, []) for name in self._configs}

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *error: object) -> None:
        self.close()

    def _update_until_loaded(self) -> float:
        """Looks at all base paths; the seconds to wait before the next look, 0 if every model answers.

        Raises:
            ValueError: If the largest version that is wanted of a model cannot be loaded, or nobody would look again.
        """
        is_done = True
        for config in self._configs.values():
            self._update(config)
            latest = self._latest(config)
            if latest is None and self.poll_seconds is None:
                raise ValueError(self._problems[config.name])
            if latest is None or latest.state == "LOADING":
                is_done = False
            else:
                self._check_available(config)
        return 0.0 if is_done else min(self.poll_seconds or 1.0, self._retry_seconds or 0.01)

    def _latest(self, config: ModelConfig) -> Version | None:
        """The version with the largest number among those that are wanted."""
        versions = self._versions.get(config.name, {})
        return versions[max(wanted)] if (wanted := [n for n, v in versions.items() if v.is_wanted]) else None

    def _check_available(self, config: ModelConfig) -> None:
        latest = self._latest(config)
        if latest is None:
            raise ValueError(missing_versions(config))
        if latest.error is not None:
            what = f"{{name: {config.name} version: {latest.directory.name}}} due to error: {latest.error}"
            raise RequestError(f"1 servable(s) did not become available: {{{what}, }}", UNKNOWN) from latest.error

    def _update(self, config: ModelConfig, pause: bool = False) -> None:
        """Loads what a policy wants, then unloads what it does not, unless it wants something that is not there yet.

        What is wrong with a base path is logged once, and changes nothing: storage that is away comes back.
        """
        try:
            wanted = self._load_wanted(config, self._retries)
            problem = "" if wanted else missing_versions(config)
        except ValueError as error:
            wanted, problem = None, str(error)
        if problem and self._problems.get(config.name) != problem:
            _log.warning("model %s: %s", config.name, problem)
        self._problems[config.name] = problem
        if wanted is None or (wanted and not wanted & set(self._loaded.get(config.name, []))):
            return
        versions = self._versions.get(config.name, {})
        unwanted = [number for number, version in versions.items() if version.is_wanted and number not in wanted]
        if unwanted and pause:
            # The first requests to a new version pass before the old one's release takes a core from them.
            self._closing.wait(min(self.poll_seconds or 0.0, _MAX_PAUSE))
        for number in unwanted:
            self._unload(config.name, number)

    def _load_wanted(self, config: ModelConfig, retries: int) -> set[int]:
        """Loads the versions that a policy wants; returns their numbers.

        Raises:
            ValueError: If the base path cannot be read.
        """
        found = find_versions(config.base_path)
        wanted = config.versions.choose(found)
        name, versions = config.name, self._versions.setdefault(config.name, {})
        for number in sorted(wanted, reverse=True):
            if number not in versions or (versions[number].state == "END" and not versions[number].is_wanted):
                versions[number] = Version(found[number], retries, self._retry_seconds)
            if versions[number].try_load(functools.partial(self._counted_load, name, number)):
                self._loaded[name] = sorted({*self._loaded.get(name, []), number})
        return wanted

    def _counted_load(self, name: str, number: int, directory: Path) -> Servable:
        with self.metrics.load(directory):
            return self._load(name, number, directory, metrics=self.metrics)

    def _unload(self, name: str, number: int) -> None:
        # Replaced beforehand: no request chooses it while those under way are waited for.
        self._loaded[name] = [loaded for loaded in self._loaded.get(name, []) if loaded != number]
        self._versions[name][number].unload()

    def _unload_all_but(self, kept: Mapping[str, ModelConfig]) -> None:
        for name, versions in self._versions.items():
            for number in versions if name not in kept else ():
                if versions[number].is_wanted:
                    self._unload(name, number)

    def _checked_labels(self, configs: Mapping[str, ModelConfig]) -> dict[str, dict[str, int]]:
        """The labels of models, by model.

        Raises:
            RequestError: If a label means a version that is not loaded, and labels may not, or it means another now.
        """
        available = self.available()
        for name, config in configs.items():
            for label, number in config.labels.items():
                is_moved = self._labels.get(name, {}).get(label, number) != number
                loaded = available.get(name, [])
                if number not in loaded and (is_moved or not self._allow_unavailable_labels):
                    what = f"version {number} of model {name}, which is not currently available for inference"
                    hint = "A new label may with --allow-version-labels-for-unavailable-models"
                    received = f"Label: {label}; available: {loaded}"
                    raise RequestError(f"Request to assign label to {what}. {received}. {hint}", FAILED_PRECONDITION)
        return {name: dict(config.labels) for name, config in configs.items()}

    def _number(self, model_spec: Any) -> int | None:
        """The version that is asked for; None: the latest."""
        kind = model_spec.WhichOneof("version_choice")
        if kind != "version_label":
            return model_spec.version.value if kind == "version" else None
        of_model = self._labels.get(model_spec.name, {})
        if model_spec.version_label not in of_model:
            known = ", ".join(sorted(of_model)) or "none"
            raise RequestError(f"Unrecognized servable version label: {model_spec.version_label}. Labels: {known}")
        return of_model[model_spec.version_label]

    def _poll(self) -> None:
        while not self._closing.wait(self.poll_seconds):
            with self._updating:
                for config in self._configs.values():
                    self._update(config, pause=True)
