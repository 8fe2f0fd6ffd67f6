"""Checkpoints of a training run: every variable and where in the data the run stands, in one file with checksums."""

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from .files import replace_file
from .types import Array

_POSITION = "position.json"
_BEST = "best:"


class Checkpoint:
    """The variables of a run: the model's, with the states of its random generators, and the optimizer's.

    Args:
        model: A compiled model.
        path: The file. None: nothing is written.
    """

    def __init__(self, model: keras.Model, path: str | Path | None) -> None:
        model.optimizer.build(model.trainable_variables)
        self.path = None if path is None else Path(path)
        self.weights = model.weights
        self.variables = {
            # Not `path`: Keras counts unnamed layers up over a process, so it need not be the same after a restart.
            f"{owner}:{index}:{variable.name}": variable
            for owner, variables in (("model", model.variables), ("optimizer", model.optimizer.variables))
            for index, variable in enumerate(variables)
        }
        self.best: dict[str, Array] = {}

    def remember_best(self) -> None:
        """Keeps the model's weights as they are, here and in every later checkpoint."""
        self.best = {f"{_BEST}{index}": np.array(weight.value) for index, weight in enumerate(self.weights)}

    def return_to_best(self) -> None:
        """Assigns the weights last remembered, if any."""
        for weight, value in zip(self.weights if self.best else (), self.best.values(), strict=True):
            weight.assign(value)

    def save(self, position: Mapping[str, Any]) -> None:
        """Writes the variables and `position` (JSON values), whole or not at all."""
        if self.path is None:
            return
        arrays = {name: np.asarray(variable.value) for name, variable in self.variables.items()} | self.best
        encoded = np.frombuffer(json.dumps(position).encode(), np.uint8)
        with replace_file(self.path) as temporary, temporary.open("wb") as file:
            np.savez(file, allow_pickle=False, **{_POSITION: encoded}, **arrays)

    def restore(self) -> dict[str, Any]:
        """Assigns what `save` wrote, and returns the position; empty where there is no file.

        Raises:
            ValueError: If the file is damaged (its checksums disagree) or of another model or optimizer.
        """
        if self.path is None or not self.path.exists():
            return {}
        arrays = self._read()
        position: dict[str, Any] = json.loads(arrays.pop(_POSITION).tobytes())
        best = {name: arrays.pop(name) for name in list(arrays) if name.startswith(_BEST)}
        stored = {(name, array.shape) for name, array in arrays.items()}
        wanted = {(name, tuple(variable.shape)) for name, variable in self.variables.items()}
        if stored != wanted:
            raise ValueError(
                f"{self.path}: the checkpoint is of another model or optimizer; they differ in "
                f"{sorted(stored ^ wanted)[:4]}. Remove it, or restore the configuration it was written under"
            )
        for name, variable in self.variables.items():
            variable.assign(arrays[name])
        self.best = best
        return position

    def _read(self) -> dict[str, Array]:
        try:
            with np.load(self.path) as file:  # type: ignore[arg-type]
                return {name: file[name] for name in (*file.files, _POSITION)}
        except (zipfile.BadZipFile, EOFError, KeyError, ValueError, OSError) as error:
            raise ValueError(
                f"{self.path}: the checkpoint is damaged ({error}). Remove it to train from the start"
            ) from error
