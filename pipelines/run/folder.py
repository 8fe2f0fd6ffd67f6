"""The folder of a run: where each thing that it decides, finds and makes is."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jsonargparse
import numpy as np

from c2al_tf.cohorts import Cohort, Discovery
from c2al_tf.files import read_json, replace_file, write_json
from c2al_tf.schema import Schema
from c2al_tf.types import Array

from .arms import BASELINE, C2AL, Arm, Choice
from .config import RunConfig, load_config

TRAINED = "trained.json"
"""Beside a model: the digest of what its training reads."""

_WRITTEN_BY = {
    "schema.json": "prepare",
    "cohorts.json": "discover",
    "metrics.json": "evaluate",
    "export.json": "export",
}


@dataclass(frozen=True)
class RunFolder:
    """A run's folder and its configuration.

    Args:
        path: The folder.
        config: What the run is.
    """

    path: Path
    config: RunConfig

    @classmethod
    def start(cls, path: Path, config: RunConfig) -> "RunFolder":
        """Opens a folder for a configuration, new or as it was left; what `_fixed` leaves out may change.

        Raises:
            ValueError: If the folder holds a run of another configuration, or of another version whose configuration
                this one cannot read, and its rows are prepared.
        """
        file = path / "config.json"
        value = config.to_json()
        old = read_config(file).to_json() if (path / "schema.json").exists() else value
        if _fixed(old) != _fixed(value):
            differences = _differences(_fixed(old), _fixed(value))
            raise ValueError(
                f"{path} holds a run of another configuration; they differ in {differences}. "
                "Choose another --run-dir, or remove the folder to start over"
            )
        write_json(file, value)
        return cls(path, config)

    @property
    def seeds(self) -> list[int]:
        """The seeds of the pairs."""
        return [self.config.first_seed + k for k in range(self.config.seeds)]

    @functools.cached_property
    def arms(self) -> dict[str, Arm]:
        """The arms by name; of a run that names none the baseline and C2AL on the cohorts that it targets."""
        arms = self.config.arms or (Arm(BASELINE), Arm(C2AL, cohorts=Choice()))
        return {arm.name: arm for arm in arms}

    def seeds_of(self, arm: str) -> list[int]:
        """The seeds of an arm: as many as it asks for, else the run's; they begin with the run's first."""
        number = self.arms[arm].seeds or self.config.seeds
        return [self.config.first_seed + k for k in range(number)]

    @property
    def export(self) -> Path:
        """The base path that a server is pointed at."""
        return self.path / "export"

    def file(self, name: str) -> Path:
        """A file of the run; an error says which step writes it if it is not there yet."""
        path = self.path / name
        step = _WRITTEN_BY.get(name)
        if step is not None and not path.exists():
            config = " CONFIG" if step == "prepare" else ""
            raise ValueError(f"{path} is not there yet. Run `c2al {step}{config} --run-dir {self.path}` first")
        return path

    @functools.cached_property
    def schema(self) -> Schema:
        """What the columns mean."""
        return Schema.load(self.file("schema.json"))

    @functools.cached_property
    def discovery(self) -> Discovery:
        """What discovery found.

        Raises:
            ValueError: If another version wrote the file.
        """
        return self.read_discovery(self.path / "cohorts.json")

    def read_discovery(self, file: Path) -> Discovery:
        """Reads what a discovery found.

        Raises:
            ValueError: If it is not there yet, or another version wrote it.
        """
        if not file.exists():
            self.file("cohorts.json")
            raise ValueError(f"{file} is not there yet. Run `c2al discover --run-dir {self.path}` first")
        return _read_discovery(file)

    @functools.cached_property
    def cohorts(self) -> Sequence[Cohort]:
        """The cohorts that have an auxiliary head in the arm `c2al`."""
        return self.discovery.given or self.discovery.cohorts(self.config.cohorts.num_cohorts)

    @property
    def jit_compile(self) -> bool | Literal["auto"]:
        """Whether models are compiled with XLA: what the configuration says, or the run's first training has found."""
        chosen = self.path / "compilation.json"
        if self.config.training.jit_compile == "auto" and chosen.exists():
            return bool(read_json(chosen)["jit_compile"])
        return self.config.training.jit_compile

    def model_folder(self, seed: int, arm: str) -> Path:
        """Where an arm's model of a seed is, with its history and predictions; arms that train alike share it."""
        known = self._known_arms()
        return self.path / "seeds" / str(seed) / known["folders"].get(known["arms"].get(arm, ""), arm)

    def claim_folder(self, arm: str, digest: str, write: bool = True) -> None:
        """Gives an arm the folder of the models that are trained as `digest` says: its own name if that is free.

        Models that are there without being known are taken over if they were trained so.
        """
        known = self._known_arms()
        strange = {read_json(file)["digest"] for file in self.path.glob(f"seeds/*/{arm}/{TRAINED}")} - {digest}
        unknown = any(not (model.parent / TRAINED).exists() for model in self.path.glob(f"seeds/*/{arm}/model.keras"))
        free = arm not in known["folders"].values() and not strange and not unknown
        known["folders"].setdefault(digest, arm if free else f"{arm}-{digest[:8]}")
        known["arms"][arm] = digest
        if write and known != self._known_arms():
            write_json(self.path / "arms.json", known)

    def _known_arms(self) -> dict[str, dict[str, str]]:
        """Digests by arm, and folders by digest."""
        file = self.path / "arms.json"
        return read_json(file) if file.exists() else {"arms": {}, "folders": {}}

    def model_file(self, seed: int, arm: str) -> Path:
        """The trained model.

        Raises:
            ValueError: If it is not trained yet.
        """
        path = self.model_folder(seed, arm) / "model.keras"
        if not path.exists():
            raise ValueError(f"{path} is not there yet. Run `c2al train --run-dir {self.path} --arm {arm}` first")
        return path


def _fixed(config: dict[str, Any]) -> dict[str, Any]:
    """What may not change in a folder: all but arms, lambdas, seeds, what is measured beside, and whether XLA compiles.

    The baseline is fixed: cohorts are found in its predictions.
    """
    training = {name: value for name, value in config["training"].items() if name != "jit_compile"}
    cohorts = {name: value for name, value in config["cohorts"].items() if name != "lambdas"}
    free = dict.fromkeys(("title", "seeds", "arms", "yardstick", "probe", "tune"))
    baseline: dict[str, Any] = next((arm for arm in config["arms"] if arm["name"] == BASELINE), {})
    fixed = {key: baseline[key] for key in ("model", "training", "frozen") if baseline.get(key)}
    return config | free | {"training": training, "cohorts": cohorts, "baseline": fixed}


def _read_discovery(file: Path) -> Discovery:
    """Reads `cohorts.json`.

    Raises:
        ValueError: If the file has another form than this version writes; the message has the remedy.
    """
    json = read_json(file)
    try:
        return Discovery.from_json(json)
    except (ValueError, LookupError, TypeError) as error:
        # The message may hold the whole file.
        cause = str(error).split(" Received: ")[0]
        raise ValueError(
            f"{file} was written by another version ({cause}). Remove it, then run the same command again"
        ) from error


def read_config(file: Path) -> RunConfig:
    """Reads a folder's `config.json`, with the defaults of the keys that it lacks.

    Raises:
        ValueError: If another version wrote the file, whose keys or values this one does not know.
    """
    read_json(file)  # Names a damaged file.
    try:
        return load_config(file)
    except (ValueError, jsonargparse.ArgumentError) as error:
        raise ValueError(
            f"{file} was written by another version, which this one cannot read: {error}. "
            "Choose another --run-dir, or remove the folder to start over"
        ) from error


def save_array(path: Path, values: Array) -> None:
    """Writes an array, whole or not at all."""
    with replace_file(path) as temporary, temporary.open("wb") as file:
        np.save(file, values, allow_pickle=False)


def save_arrays(path: Path, values: Mapping[str, Any]) -> None:
    """Writes several arrays as one `.npz` file, whole or not at all."""
    with replace_file(path) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **values)


def _differences(old: Any, new: Any, name: str = "") -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        names = sorted({*old, *new})
        return [d for key in names for d in _differences(old.get(key), new.get(key), f"{name}.{key}".strip("."))]
    return [] if old == new else [f"{name} ({old!r:.60} there, {new!r:.60} now)"]
