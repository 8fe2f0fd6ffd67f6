"""The versions of a model: how they are found, and what becomes of each."""

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

from c2al_tf.storage import folders_in, shown

from ..config.model_config import ModelConfig
from ..servable.servable import Servable

_log = logging.getLogger(__name__)


def find_versions(base_path: Path) -> dict[int, Path]:
    """The version folders of a base path by number: those whose name is an integer.

    Raises:
        ValueError: If there is no such folder, or it cannot be read.
    """
    try:
        folders = [path for path in folders_in(base_path) if path.name.isdecimal()]
    except OSError as error:
        raise ValueError(f"Could not find base path {shown(base_path)}: {error}") from error
    found = {int(path.name): path for path in sorted(folders)}
    return {number: found[number] for number in sorted(found) if number < 2**63}  # what an int64 holds


def missing_versions(config: ModelConfig) -> str:
    """Says that a base path has no version that its policy chooses, and what it may be instead."""
    hint, path = "", config.base_path
    if (path / "saved_model.pb").is_file():
        hint = f" It is a SavedModel itself: give it an integer as its name and use {path.absolute().parent}."
    return f"No versions of servable {config.name} found under base path {path} for its {config.versions}.{hint}"


class Version:
    """A version that was wanted once, and what became of it.

    Loading it is tried again `retries` times, each time `retry_seconds` after the last attempt.

    Attributes:
        state: `LOADING`, `AVAILABLE`, `UNLOADING` or `END`, as in TensorFlow Serving.
        error: Why it could not be loaded, once it is not tried again.
        is_wanted: Whether the policy has chosen it ever since. A version that failed is tried anew only after it was
            not wanted meanwhile.
    """

    def __init__(self, directory: Path, retries: int, retry_seconds: float) -> None:
        self.directory, self.state, self.is_wanted = directory, "LOADING", True
        self.error: ValueError | None = None
        self._retries_left, self._retry_seconds, self._due = retries, retry_seconds, 0.0
        self._servable: Servable | None = None
        self._num_users = 0
        self._changed = threading.Condition()

    def try_load(self, load: Callable[[Path], Servable]) -> bool:
        """Makes it available if it is time to try, or says why it is not; returns whether it has just become so."""
        if self.state != "LOADING" or time.monotonic() < self._due:
            return False
        try:
            self._servable = load(self.directory)
            self.state = "AVAILABLE"
        except Exception as error:  # storage that is away raises anything
            if self._retries_left == 0:
                self.error = error if isinstance(error, ValueError) else ValueError(f"{type(error).__name__}: {error}")
                self.state = "END"
                _log.error("%s cannot be loaded: %s", self.directory, error)
            else:
                self._retries_left, self._due = self._retries_left - 1, time.monotonic() + self._retry_seconds
                _log.warning("%s cannot be loaded; again in %g s: %s", self.directory, self._retry_seconds, error)
        return self.state == "AVAILABLE"

    def acquire(self) -> Servable | None:
        """The servable, which stays loaded until `release`; None if it is not available, and then nothing is held."""
        with self._changed:
            if self.state != "AVAILABLE":
                return None
            self._num_users += 1
            return self._servable

    def release(self) -> None:
        """Says that a request is answered."""
        with self._changed:
            self._num_users -= 1
            if self._num_users == 0:
                self._changed.notify_all()

    def unload(self) -> None:
        """Takes no more requests, and releases the servable when those under way are answered."""
        self.is_wanted = False
        with self._changed:
            if self._servable is not None:
                self.state = "UNLOADING"
                self._changed.wait_for(lambda: self._num_users == 0)
        if self._servable is not None:
            self._servable.close()
            _log.info("unloaded %s", self.directory)
        self._servable, self.state = None, "END"
