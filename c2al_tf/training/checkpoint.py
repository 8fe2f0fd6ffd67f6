"""Checkpoints of a training run: a folder of files, each with every variable and where in the data the run stands.

A checkpoint is a NumPy archive, say `000012-best-000009-8f3a2c11.npz`: its number, the number of the one with the best
weights so far (0: none), and the CRC-32 of the file. `numpy.load` reads the arrays `<owner>:<index>:<name>`, the owner
being model, optimizer, metrics (the compiled ones) or objective (its state), and as bytes `position.json`.

A reader compares the CRC-32 before it assigns anything. The CRC-32 detects every flipped byte and all but one in 2^32
cases of other damage. A run resumes from its last checkpoint and may end with the best weights: it needs both intact.
"""

import itertools
import json
import re
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import keras
import numpy as np
import tensorflow as tf

from ..files import publish, remove, temporary_file
from ..losses import Objective, state_of
from ..storage import opened
from ..types import Array
from .compiled_metrics import build_metrics

_NAME = re.compile(r"(\d{6,})-best-(\d{6,})-([0-9a-f]{8})\.npz")
_POSITION = "position.json"
_PIECE = 2**24
"""Bytes of a variable that are copied at a time."""


class Checkpoints:
    """The variables of a run on disk: the model's, with its random generators' states, and those of what trains it.

    A checkpoint appears whole or not at all, and older ones are removed only afterwards. The folder keeps the last
    `keep`, the one with the best weights, and the one that the run would resume from if that were damaged.

    Args:
        model: A compiled model.
        folder: The folder. None: nothing is written, and the best weights are kept in memory.
        keep: Number of the last checkpoints that are kept.
        objective: The loss, whose state is saved with the variables of the optimizer and of the metrics.
    """

    def __init__(
        self, model: keras.Model, folder: str | Path | None, keep: int = 3, objective: Objective | None = None
    ) -> None:
        if keep < 1:
            raise ValueError(f"`keep` must be at least 1. Received: keep={keep}")
        model.optimizer.build(model.trainable_variables)
        self.folder = None if folder is None else opened(folder)
        self.keep = keep
        self.variables = {
            # Only the last part of the name: Keras numbers unnamed layers over the whole process.
            f"{owner}:{index}:{variable.name.rpartition('_')[2]}": variable
            for owner, variables in (
                ("model", model.variables),
                ("optimizer", model.optimizer.variables),
                ("metrics", build_metrics(model)),
                ("objective", state_of(objective)),
            )
            for index, variable in enumerate(variables)
        }
        weights = {id(weight) for weight in model.weights}
        self.weights = {name: variable for name, variable in self.variables.items() if id(variable) in weights}
        self._in_memory: dict[str, Array] = {}
        self._next_is_best = False
        self._damaged: set[_File] = set()

    def remember_best(self) -> None:
        """Marks the model's current weights as the best ones; the next `save` writes them."""
        self._next_is_best = True
        if self.folder is None:
            self._in_memory = {name: _value(weight) for name, weight in self.weights.items()}

    def return_to_best(self) -> None:
        """Assigns the weights last remembered, if any.

        Raises:
            ValueError: If their checkpoint is damaged.
        """
        for name, value in self._in_memory.items():
            self.weights[name].assign(value)
        files = self._sound()
        if files and files[-1].best:
            damage = _damage(files[-1], files)
            if damage:
                raise ValueError(f"{damage}. The same command goes on from the one before it")
            _assign(_by_number(files)[files[-1].best], self.weights)

    def save(self, position: Mapping[str, Any]) -> None:
        """Writes the variables and `position` (JSON values), whole or not at all.

        Raises:
            OSError: If the disk is full; earlier checkpoints are unchanged.
        """
        if self.folder is None:
            return
        files = self._sound()
        number = max((file.number for file in _list(self.folder)), default=0) + 1
        best = number if self._next_is_best else files[-1].best if files else 0
        try:
            with temporary_file(self.folder / "checkpoint.npz") as temporary:
                _write(temporary, position, self.variables)
                file = _File(self.folder, number, best, _crc32(temporary))
                publish(temporary, file.path)
        except OSError as error:
            cause = error.strerror or error
            message = f"{cause}; checkpoint {number:06d} is not written, those before it are as they were"
            raise OSError(error.errno, f"{message}. The same command goes on from there", str(self.folder)) from error
        self._next_is_best = False
        kept = _kept([*files, file], self.keep)
        for other in _list(self.folder):
            if other not in kept:
                remove(other.path)

    def restore(self) -> dict[str, Any]:
        """Assigns the last checkpoint and returns its position; empty if there is no checkpoint.

        A damaged checkpoint is skipped with a warning, in favour of the one before it.

        Raises:
            ValueError: If all checkpoints are damaged, or are of another model, optimizer or objective.
        """
        files = self._sound()
        damages: list[str] = []
        for file in reversed(files):
            damage = _damage(file, files)
            if not damage:
                break
            damages.append(damage)
            self._damaged.add(file)
        else:
            if damages:
                raise ValueError(f"{'; '.join(damages)}. None is left: remove {self.folder} to train from the start")
            return {}
        if damages:
            warnings.warn(f"{'; '.join(damages)}. The run goes on from {file.path.name}", stacklevel=2)
        self._check(file)
        _assign(file, self.variables)
        return _position(file)

    def _sound(self) -> list["_File"]:
        """The checkpoints without known damage, the oldest first."""
        return [] if self.folder is None else [file for file in _list(self.folder) if file not in self._damaged]

    def _check(self, file: "_File") -> None:
        stored = set(_contents(file))
        wanted = {(name, tuple(v.shape), np.dtype(v.dtype).itemsize) for name, v in self.variables.items()}
        if stored != wanted:
            raise ValueError(
                f"{file.path}: the checkpoint is of another model, optimizer or objective; they differ in "
                f"{sorted(stored ^ wanted)[:4]}. Remove the folder, or restore the configuration it was written under"
            )


@dataclass(frozen=True, order=True)
class _File:
    """A checkpoint, as described by the name of its file."""

    folder: Path
    number: int
    best: int
    crc: int

    @property
    def path(self) -> Path:
        return self.folder / f"{self.number:06d}-best-{self.best:06d}-{self.crc:08x}.npz"


def _list(folder: Path) -> list[_File]:
    names = [_NAME.fullmatch(path.name) for path in folder.glob("*.npz")]
    return sorted(_File(folder, int(name[1]), int(name[2]), int(name[3], 16)) for name in names if name)


def _by_number(files: Sequence[_File]) -> dict[int, _File]:
    return {file.number: file for file in files}


def _kept(files: Sequence[_File], keep: int) -> set[_File]:
    """The last `keep`, the best ones that they name, those before the best ones, and the best ones that these name."""
    last = files[-keep:]
    best = {file.best for file in last}
    before = [file for file, following in itertools.pairwise(files) if following.number in best]
    best |= {file.best for file in before}
    return {*last, *before, *(file for file in files if file.number in best)}


def _damage(file: _File, files: Sequence[_File]) -> str:
    """The damage of a checkpoint or of the best one that it names; empty if both are intact."""
    damage = _own_damage(file)
    if damage or file.best in (0, file.number):
        return damage
    best = _by_number(files).get(file.best)
    lost = _own_damage(best) if best else f"{file.folder}: checkpoint {file.best:06d} is missing"
    return f"{lost}, and with it the best weights of {file.path.name}" if lost else ""


def _own_damage(file: _File) -> str:
    try:
        crc = _crc32(file.path)
    except OSError as error:
        return f"{file.path}: the checkpoint cannot be read ({error.strerror})"
    return "" if crc == file.crc else f"{file.path}: the checkpoint is damaged (its CRC-32 is {crc:08x})"


def _crc32(path: Path) -> int:
    crc = 0
    with path.open("rb", buffering=0) as file:
        while piece := file.read(2**20):
            crc = zlib.crc32(piece, crc)
    return crc


def _write(path: Path, position: Mapping[str, Any], variables: Mapping[str, keras.Variable]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(_POSITION, json.dumps(position))
        for name, variable in variables.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                _write_array(member, variable)


def _write_array(file: IO[bytes], variable: keras.Variable) -> None:
    dtype = np.lib.format.dtype_to_descr(np.dtype(variable.dtype))
    header = {"descr": dtype, "fortran_order": False, "shape": tuple(variable.shape)}
    np.lib.format.write_array_header_1_0(file, header)
    for piece in _pieces(variable):
        file.write(piece.tobytes())


def _value(variable: keras.Variable) -> Array:
    return tf.convert_to_tensor(variable.value).numpy()


def _pieces(variable: keras.Variable) -> Iterator[Array]:
    """The value in pieces of some rows: reading a large table at once would copy it."""
    size = np.dtype(variable.dtype).itemsize * int(np.prod(variable.shape))
    if size <= _PIECE:
        yield _value(variable)
        return
    length = variable.shape[0]
    rows = max(1, _PIECE * length // size)
    for start in range(0, length, rows):
        yield tf.gather(variable.value, tf.range(start, min(start + rows, length))).numpy()


def _position(file: _File) -> dict[str, Any]:
    with np.load(file.path) as arrays:
        return json.loads(arrays[_POSITION])


def _contents(file: _File) -> Iterator[tuple[str, tuple[int, ...], int]]:
    """Name, shape and bytes per number of each variable."""
    with zipfile.ZipFile(file.path) as archive:
        for name in set(archive.namelist()) - {_POSITION}:
            with archive.open(name) as member:
                np.lib.format.read_magic(member)
                shape, _, dtype = np.lib.format.read_array_header_1_0(member)
                yield name.removesuffix(".npy"), shape, dtype.itemsize


def _assign(file: _File, variables: Mapping[str, keras.Variable]) -> None:
    with np.load(file.path) as arrays:
        for name, variable in variables.items():
            variable.assign(arrays[name].view(variable.dtype))  # NumPy reads bfloat16 as two bytes of no type
