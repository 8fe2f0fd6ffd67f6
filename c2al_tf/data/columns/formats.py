"""Which files there are and what format each has: by its name, else by its first bytes."""

import glob
import gzip
import os
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

from ...storage import Listing, fetched, is_input, of_shown, will_read

FileFormat: TypeAlias = Literal["parquet", "csv", "tfrecord"]

Paths: TypeAlias = str | Path | Sequence[str | Path]

# `clicks.tfrecord-00000-of-00010`, `clicks_tfrecord-00000-of-00001.gz`, `part-0.snappy.parquet`, `rows.csv.gz`.
_SHARD = r"(?:-\d+-of-\d+)?(?:\.gz|\.gzip)?$"
_NAMES: dict[FileFormat, re.Pattern[str]] = {
    "parquet": re.compile(r"(?:^|[._-])parquet" + _SHARD, re.IGNORECASE),
    "csv": re.compile(r"(?:^|[._-])csv" + _SHARD, re.IGNORECASE),
    "tfrecord": re.compile(r"(?:^|[._-])tfrecords?" + _SHARD, re.IGNORECASE),
}


def format_of(path: Path) -> FileFormat:
    """Returns the format of a file.

    Raises:
        ValueError: If neither its name nor its first bytes tell it.
    """
    for file_format, pattern in _NAMES.items():
        if pattern.search(path.name):
            return file_format
    start = _first_bytes(path)
    if start.startswith(b"PAR1"):
        return "parquet"
    # A record is its length in 8 bytes, their checksum in 4, and a tf.Example, whose first tag is 0A.
    if len(start) > 12 and 0 < int.from_bytes(start[:8], "little") < 1 << 31 and start[12] == 0x0A:
        return "tfrecord"
    raise ValueError(
        f"{path}: the name must say the format, as .parquet, .csv, .csv.gz, .tfrecord, .tfrecord.gz and "
        f"NAME.tfrecord-00000-of-00010 do; or give `format`. Received: {path.name!r}, which begins with {start[:16]!r}"
    )


def is_gzip(path: Path) -> bool:
    """Whether a file is compressed by gzip, whatever its name."""
    with fetched(path).open("rb") as file:
        return file.read(3) == b"\x1f\x8b\x08"


def _first_bytes(path: Path) -> bytes:
    try:
        with gzip.open(path) if is_gzip(path) else path.open("rb") as file:
            return file.read(16)
    except (EOFError, gzip.BadGzipFile):
        return b""


def as_paths(paths: Paths) -> list[Path]:
    """Returns the files that one path or several name, in their order, those of a folder or a pattern by name.

    The files of a folder, at any depth, count, and so do those of a folder that matches a pattern such as
    `logs/day=*`, where `**` stands for folders of any depth. Names that begin with `_` or `.`, as `_SUCCESS` does, do
    not count, nor what lies in such a folder, unless the pattern says so. Of URLs the paths are those of copies on this
    machine, which are fetched when they are read (see `storage`).

    Raises:
        ValueError: If there is none, or a link leads nowhere.
        StorageError: If a store cannot be reached.
    """
    given = [paths] if isinstance(paths, str | Path) else list(paths)
    if not given:
        raise ValueError("`paths` must name at least one file. Received: paths=[]")
    return [file for path in given for file in _files_of(path)]


def under(folder: Path, pattern: str) -> Path:
    """A pattern within a folder, whose own name is none, whatever it holds."""
    return Path(glob.escape(str(folder))) / pattern if glob.has_magic(str(folder)) else folder / pattern


class _Folders:
    """Files of this machine, as `storage.Listing` has those of a store."""

    is_file, is_dir = staticmethod(Path.is_file), staticmethod(Path.is_dir)

    @staticmethod
    def walk(folder: Path) -> list[Path]:
        return [Path(top) / name for top, _, names in os.walk(folder, followlinks=True) for name in names]

    @staticmethod
    def names(folder: Path) -> list[str]:
        return [path.name for path in folder.iterdir()]

    @staticmethod
    def glob(pattern: Path) -> dict[Path, bool]:
        return {path: path.is_dir() for path in map(Path, glob.glob(str(pattern), recursive=True))}


def _files_of(place: str | Path) -> list[Path]:
    path = of_shown(os.fspath(place))
    if not is_input(path):
        return _files_in(path, _Folders)
    files = _files_in(path, Listing)
    will_read(files)
    return files


def _files_in(path: Path, place: Any) -> list[Path]:
    if not glob.has_magic(str(path)) or place.is_file(path) or place.is_dir(path):
        return _files_named(path, place)
    root = Path(*path.parts[: next(i for i, part in enumerate(path.parts) if glob.has_magic(part))])
    pattern = path.relative_to(root)
    allowed = {part[0] for part in pattern.parts if part.startswith(_HIDDEN)}
    found: set[Path] = set()
    for match, is_folder in place.glob(path).items():
        if _is_hidden(match.relative_to(root), allowed):
            continue
        if place is _Folders and not match.exists():
            raise ValueError(f"{match}: no such file: the link leads nowhere")
        found.update(_visible(match, place) if is_folder else [match])
    if not found:
        raise ValueError(f"{root}: no file matches {str(pattern)!r}. Received: {_names(root, place)}")
    return sorted(found)


def _files_named(path: Path, place: Any) -> list[Path]:
    if place.is_file(path):
        return [path]
    if not place.is_dir(path):
        raise ValueError(f"{path}: no such file. Its folder holds {_names(path.parent, place)}")
    if files := _visible(path, place):
        return files
    raise ValueError(f"{path}: the folder holds no file (names that begin with `_` or `.` do not count)")


_HIDDEN = ("_", ".")


def _is_hidden(path: Path, allowed: Collection[str] = ()) -> bool:
    return any(part.startswith(_HIDDEN) and part[0] not in allowed for part in path.parts)


def _visible(folder: Path, place: Any) -> list[Path]:
    return sorted(file for file in place.walk(folder) if not _is_hidden(file.relative_to(folder)))


def _names(folder: Path, place: Any) -> list[str] | str:
    return sorted(place.names(folder))[:10] if place.is_dir(folder) else "no such folder"
