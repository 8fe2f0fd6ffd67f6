"""Files of rows in a store: found by patterns, fetched whole and ahead of their turn, dropped when others need room.

Every reader then reads a file of this machine, whatever its format. Of a Parquet file whose rows are only counted the
footer alone is read.
"""

import contextlib
import fnmatch
import glob
import itertools
import os
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from . import objects
from .objects import Stored
from .places import inputs_folder, is_input, shown

_AHEAD = 3
"""Files that are fetched while one is read."""

_IN_USE = 16
"""Files last asked for, which stay."""

_TRIES = 5
"""Times that a copy is fetched which other processes remove for want of room."""

_MOST_SECONDS = 3600
"""How long no byte may come before what is fetched counts as left by a killed process."""


class Listing:
    """The files of a store, as `formats.as_paths` asks for them, by the paths of their copies."""

    @staticmethod
    def is_file(path: Path) -> bool:
        """Whether there is such an object."""
        stored = objects.find(path)
        _INPUTS.learn({path: stored})
        return stored is not None

    @staticmethod
    def is_dir(path: Path) -> bool:
        """Whether there are objects in it."""
        return bool(objects.names_in(path))

    @staticmethod
    def walk(folder: Path) -> list[Path]:
        """The objects in a folder, at any depth."""
        found = objects.objects_in(folder)
        _INPUTS.learn(found)
        return list(found)

    @staticmethod
    def names(folder: Path) -> list[str]:
        """The names in a folder."""
        return [path.name for path in objects.names_in(folder)]

    @classmethod
    def glob(cls, pattern: Path) -> dict[Path, bool]:
        """What a pattern matches, each with whether it is a folder, where `**` stands for folders of any depth.

        Only the folders that its beginning matches are listed.
        """
        fixed = next(i for i, part in enumerate(pattern.parts) if glob.has_magic(part))
        return dict(cls._match(Path(*pattern.parts[:fixed]), pattern.parts[fixed:]))

    @classmethod
    def _match(cls, folder: Path, parts: Sequence[str]) -> Iterator[tuple[Path, bool]]:
        part, *rest = parts
        if part == "**":
            every = cls.walk(folder)
            folders = {each for path in every for each in path.parents if each.is_relative_to(folder)} | {folder}
            if not rest:
                yield from ((each, False) for each in every)
            for each in folders if rest else ():
                yield from cls._match(each, rest)
            return
        found = objects.names_in(folder)
        _INPUTS.learn(found)
        for path, stored in found.items():
            if not fnmatch.fnmatchcase(path.name, part):
                continue
            if not rest:
                yield path, stored is None
            elif stored is None:
                yield from cls._match(path, rest)


class _Ahead:
    """What is fetched, and what comes next."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None
        self._known: dict[Path, Stored] = {}
        self._next: dict[Path, Path] = {}
        self._fetching: dict[Path, Future[None]] = {}
        self._used: dict[Path, None] = {}  # in the order in which they were last asked for

    def learn(self, found: Mapping[Path, Stored | None]) -> None:
        """Takes what a store has just said of its objects."""
        with self._lock:
            self._known |= {path: stored for path, stored in found.items() if stored is not None}

    def follow(self, files: Sequence[Path]) -> None:
        """Says in which order files will be read."""
        with self._lock:
            self._next |= itertools.pairwise(files)

    def fit(self, files: Sequence[Path]) -> bool:
        """Whether there is room for all of some files at a time."""
        return sum(self.stored(file).size for file in files) <= most_bytes()

    def stored(self, path: Path) -> Stored:
        """The object of an input.

        Raises:
            StorageError: If there is none.
        """
        with self._lock:
            known = self._known.get(path)
        if known is None:
            known = objects.find(path)
            if known is None:
                raise objects.StorageError(f"{shown(path)}: there is no such object any more")
            with self._lock:
                self._known[path] = known
        return known

    def fetch(self, path: Path) -> None:
        """Fetches an input unless its copy is there, and begins with the next ones."""
        with self._lock:
            self._used.pop(path, None)
            self._used[path] = None
            for oldest in [*self._used][:-_IN_USE]:
                del self._used[oldest]
            waited = self._begin(path)
            following = path
            for _ in range(_AHEAD):
                if (following := self._next.get(following, path)) == path:
                    break
                self._begin(following)
        for _ in range(_TRIES):
            if waited is not None:
                waited.result()
            with self._lock, contextlib.suppress(FileNotFoundError):  # another process has removed it just now
                waited = self._begin(path)
                if waited is None:
                    os.utime(path, ns=(time.time_ns(), path.stat().st_mtime_ns))
                    return
        raise objects.StorageError(f"{shown(path)}: its copy was removed as soon as it was there, {_TRIES} times")

    def _begin(self, path: Path) -> "Future[None] | None":
        """What is to be waited for; None if the copy is there."""
        known, fetching = self._known.get(path), self._fetching.get(path)
        if known is not None and objects.same(path, known):
            self._fetching.pop(path, None)
            return None
        if fetching is None or fetching.done():  # what was fetched has been removed since, or it failed
            self._pool = self._pool or ThreadPoolExecutor(1 + _AHEAD, thread_name_prefix="fetch")
            fetching = self._fetching[path] = self._pool.submit(self._fetch, path)
        return fetching

    def _fetch(self, path: Path) -> None:
        stored = self.stored(path)
        if not objects.same(path, stored):
            self._make_room(stored.size)
            objects.fetch(path, stored)

    def _make_room(self, size: int) -> None:
        """Removes the copies that were not used for longest, as far as the room for copies is used up."""
        copies = [path for path in inputs_folder().rglob("*") if not path.is_dir()]
        stats = {path: stat for path in copies if (stat := _stat(path))}
        begun = {path for path in stats if path.name.startswith(objects.PARTIAL)}
        begun = {path for path in begun if time.time() - stats[path].st_mtime < _MOST_SECONDS}
        room = most_bytes() - size - sum(stat.st_size for stat in stats.values())
        for path in sorted(stats, key=lambda path: stats[path].st_atime_ns):
            if room >= 0:
                return
            with self._lock:  # under which a copy is found to be there, and is in use from then on
                fetching = self._fetching.get(path)
                if path in begun or path in self._used or (fetching is not None and not fetching.done()):
                    continue
                path.unlink(missing_ok=True)
            room += stats[path].st_size


def most_bytes() -> int:
    """Bytes of copies of rows that are kept for the next time: `C2AL_CACHE_GB`, else 20 GB."""
    return int(float(os.environ.get("C2AL_CACHE_GB", "20")) * 1e9)


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None


_INPUTS = _Ahead()


def will_read(files: Iterable[Path]) -> None:
    """Says that files of rows will be read in this order: those of a store are fetched ahead in it."""
    _INPUTS.follow([*dict.fromkeys(path for path in files if is_input(path))])


def have_room(files: Sequence[Path]) -> bool:
    """Whether copies of all of some files of rows can be there at a time."""
    return _INPUTS.fit([path for path in files if is_input(path)])


def fetched(path: Path) -> Path:
    """The path of a file of rows, whose copy is there now; a file of this machine as it is.

    Raises:
        StorageError: If the object is gone, cannot be read, or is cut off.
    """
    if is_input(path):
        _INPUTS.fetch(path)
    return path


def stat_of(path: Path) -> tuple[int, int]:
    """Size in bytes and time of change of a file of rows, without fetching it."""
    if is_input(path):
        stored = _INPUTS.stored(path)
        return stored.size, stored.mtime_ns
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns


def footer(path: Path) -> Any:
    """What `pyarrow.parquet` reads a file's metadata from: of a file that is not fetched its object."""
    return objects.open_object(path) if is_input(path) and not objects.same(path, _INPUTS.stored(path)) else path
