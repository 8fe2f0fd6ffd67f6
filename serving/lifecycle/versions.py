"""The versions of one model: which of them are loaded, and how they come and go."""

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeAlias

from ..config.model_config import ModelConfig
from ..servable.servable import Servable

Load: TypeAlias = Callable[[str, int, Path], Servable]
"""Loads a version, given its model's name, its number and its folder; raises ValueError if it cannot."""

Files: TypeAlias = list[tuple[str, int, int]]

_log = logging.getLogger(__name__)


def find_versions(base_path: Path) -> dict[int, Path]:
    """The version folders of a base path: those whose name is an integer.

    Raises:
        ValueError: If there is none; the message says what was found instead.
    """
    if not base_path.is_dir():
        raise ValueError(f"{base_path}: no such folder; a base path with version folders (1, 2, ...) is wanted.")
    versions = {int(path.name): path for path in base_path.iterdir() if _is_version(path.name) and path.is_dir()}
    if not versions:
        hint = ""
        if (base_path / "saved_model.pb").is_file():
            hint = f" It is a SavedModel itself: give it an integer as its name and use {base_path.absolute().parent}."
        raise ValueError(f"{base_path}: no version folder in it; folders named 1, 2, ... are wanted.{hint}")
    return dict(sorted(versions.items()))


def _is_version(name: str) -> bool:
    return name.isdecimal() and int(name) < 2**63  # what an int64 holds


class Version:
    """A version that was wanted once, and what became of it.

    Attributes:
        state: `LOADING`, `AVAILABLE`, `UNLOADING` or `END`, as in TensorFlow Serving.
        error: Why it could not be loaded.
        files: What its folder held then: it is tried again once that changes. None: the files are not to blame.
    """

    def __init__(self, files: Files) -> None:
        self.state = "LOADING"
        self.error: ValueError | None = None
        self.files: Files | None = files
        self._servable: Servable | None = None
        self._num_users = 0
        self._changed = threading.Condition()

    def load(self, load: Callable[[], Servable]) -> None:
        """Makes it available, or says why it is not."""
        try:
            self._servable = load()
            self.state = "AVAILABLE"
        except ValueError as error:
            self.error, self.state = error, "END"
        except Exception as error:  # storage that is away, perhaps
            self.error, self.state = ValueError(f"{type(error).__name__}: {error}"), "END"
            self.files = None

    @contextlib.contextmanager
    def use(self) -> Iterator[Servable | None]:
        """The servable, which stays loaded meanwhile; None if it is not available."""
        with self._changed:
            servable = self._servable if self.state == "AVAILABLE" else None
            self._num_users += 1
        try:
            yield servable
        finally:
            with self._changed:
                self._num_users -= 1
                self._changed.notify_all()

    def unload(self) -> None:
        """Takes no more requests, and releases the servable when those under way are answered."""
        with self._changed:
            self.state = "UNLOADING"
            self._changed.wait_for(lambda: self._num_users == 0)
        assert self._servable is not None
        self._servable.close()
        self._servable, self.state = None, "END"


class Versions:
    """The versions of one model, as many as its policy chooses among the folders of its base path.

    `update` and `unload` are for one thread at a time; all else may come from many.

    Args:
        config: The model.
        load: Loads a version.
        known: Versions that are there already, by number.
    """

    def __init__(self, config: ModelConfig, load: Load, known: Mapping[int, Version] | None = None) -> None:
        self.config = config
        self._load_version = load
        self.by_number = dict(known or {})

    def available(self) -> list[int]:
        """The numbers of the versions that answer."""
        return sorted(number for number, version in list(self.by_number.items()) if version.state == "AVAILABLE")

    def update(self, unload: bool = True, pause: Callable[[], object] = lambda: None) -> None:
        """Loads what the policy wants, then unloads what it does not, if anything that it wants is there.

        Args:
            unload: Whether to unload at all.
            pause: Called before anything is unloaded.

        Raises:
            ValueError: If there is no base path, no version in it, or it cannot be read; nothing goes then.
        """
        try:
            found = find_versions(self.config.base_path)
            wanted = self.config.versions.choose(found)
            for number in sorted(wanted):
                self._load(number, found[number])
        except OSError as error:
            raise ValueError(f"{self.config.base_path}: {error}") from error
        available = set(self.available())
        unwanted = available - wanted
        if unload and unwanted and wanted & available:
            pause()
            for number in unwanted:
                self.unload(number)

    def check_available(self) -> None:
        """Raises ValueError if no version answers: what is wrong with each, or that the policy chooses none."""
        if self.available():
            return
        errors = [str(version.error) for _, version in sorted(self.by_number.items()) if version.error]
        if errors:
            raise ValueError("; ".join(errors))
        raise ValueError(
            f"Model {self.config.name} must have a version that its policy chooses. Received: {self.config.versions}; "
            f"{self.config.base_path} holds {list(find_versions(self.config.base_path))}"
        )

    def unload(self, number: int) -> None:
        """Takes no more requests for a version, and releases it when those under way are answered."""
        self.by_number[number].unload()
        _log.info("unloaded %s version %d", self.config.name, number)

    def _load(self, number: int, directory: Path) -> None:
        known = self.by_number.get(number)
        if known is not None and known.state != "END":
            return
        files = _files(directory)
        if known is not None and known.error is not None and known.files == files:
            return
        version = self.by_number[number] = Version(files)
        version.load(lambda: self._load_version(self.config.name, number, directory))
        if version.error is not None:
            _log.error("version %d of model %s cannot be loaded: %s", number, self.config.name, version.error)


def _files(directory: Path) -> Files:
    """Names, sizes and times of what a folder holds."""
    stats = [(str(path), path.lstat()) for path in sorted(directory.rglob("*"))]
    return [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]
