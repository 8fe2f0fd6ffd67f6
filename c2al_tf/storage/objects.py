"""Objects of a store, by the path of their copy: listed, fetched, put, deleted. Every error names the URL."""

import contextlib
import os
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .places import check_parts, shown

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

PARTIAL = ".partial-"
"""What names begin with that are there for a moment: what a killed process has left of them counts as absent."""

_BLOCK = 8 << 20
"""Bytes of one request: 20 ms of latency are then a small part of its time."""


class StorageError(OSError):
    """A store could not be reached, or did not do what was asked."""


@dataclass(frozen=True)
class Stored:
    """An object: its size in bytes, and when it was put."""

    size: int
    mtime_ns: int


@lru_cache(maxsize=16)
def _file_system(scheme: str, authority: str) -> "tuple[FileSystem, str]":
    """A file system, and what the names of its objects begin with."""
    from pyarrow import fs

    if scheme == "s3":
        # Credentials and region it finds where every tool of AWS does; where the server is, it must be told.
        given: dict[str, Any] = {}
        if endpoint := os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL"):
            given["endpoint_override"] = endpoint
        given["retry_strategy"] = fs.AwsStandardS3RetryStrategy(max_attempts=5)
        return fs.S3FileSystem(request_timeout=60, connect_timeout=10, **given), authority
    files, root = fs.FileSystem.from_uri(f"{scheme}://{authority}/")
    return files, root.rstrip("/")


def _at(path: Path) -> "tuple[FileSystem, str]":
    """The file system of a copy's object, and the object's name there."""
    scheme, _, key = shown(path).partition("://")
    authority, _, rest = key.partition("/")
    with _errors(path, "reach"):
        files, root = _file_system(scheme, authority)
    return files, f"{root}/{rest}" if rest else root or "/"


@contextlib.contextmanager
def _errors(path: Path, what: str) -> Iterator[None]:
    from pyarrow import ArrowInvalid

    try:
        yield
    except StorageError:
        raise
    except FileNotFoundError as error:
        raise StorageError(f"{shown(path)}: there is no such object. The store says: {error}") from error
    except (OSError, ArrowInvalid) as error:
        said = str(error)
        hint = next((words for sign, words in _HINTS.items() if sign in said), "")
        raise StorageError(f"{shown(path)}: the store did not {what} it. {hint}It says: {said}") from error


_HINTS = {
    "ACCESS_DENIED": "The credentials in use may not do this. ",
    "HTTP response code: 403": "The credentials in use may not do this. ",
    "INVALID_ACCESS_KEY_ID": "The credentials in use are not known there. ",
    "NO_SUCH_BUCKET": "There is no such bucket. ",
    "NETWORK_CONNECTION": "It cannot be reached. ",
}


def find(path: Path) -> Stored | None:
    """The object of a copy's path; None if there is none."""
    from pyarrow.fs import FileType

    files, key = _at(path)
    with _errors(path, "find"):
        info = files.get_file_info(key)
    return _stored(info) if info.type is FileType.File else None


def _stored(info: Any) -> Stored:
    # Some stores tell fractions of a second in one answer and not in the other.
    return Stored(info.size, (info.mtime_ns or 0) // 10**9 * 10**9)


def objects_in(folder: Path) -> dict[Path, Stored]:
    """All objects below a copy's folder, by the paths of their copies; none if there is no such folder."""
    return {path: stored for path, stored in _listed(folder, recursive=True).items() if stored is not None}


def names_in(folder: Path) -> Mapping[Path, Stored | None]:
    """The objects directly in a copy's folder, and with None the folders there, by the paths of their copies."""
    return _listed(folder, recursive=False)


def _listed(folder: Path, recursive: bool) -> dict[Path, Stored | None]:
    from pyarrow.fs import FileSelector, FileType

    files, key = _at(folder)
    with _errors(folder, "list"):
        infos = files.get_file_info(FileSelector(key, recursive=recursive, allow_not_found=True))
        bucket = key.split("/")[0]
        if bucket and not infos and files.get_file_info(bucket).type is FileType.NotFound:
            raise StorageError(f"{shown(folder)}: there is no such bucket as {bucket}")
    found: dict[Path, Stored | None] = {}
    for info in infos:
        relative = info.path[len(key) :].strip("/")
        if relative:
            check_parts(f"{shown(folder)}/{relative}", relative.split("/"))
            found[folder / relative] = _stored(info) if info.type is FileType.File else None
    return found


def same(path: Path, stored: Stored) -> bool:
    """Whether a copy is there and is the object's."""
    try:
        stat = path.stat()
    except OSError:
        return False
    return (stat.st_size, stat.st_mtime_ns) == (stored.size, stored.mtime_ns)


def fetch(path: Path, stored: Stored) -> None:
    """Fetches an object into its copy, which is there as a whole or not at all.

    Raises:
        StorageError: If it cannot be fetched, or has changed since it was listed.
    """
    from pyarrow.fs import LocalFileSystem, copy_files

    files, key = _at(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{PARTIAL}{secrets.token_hex(4)}-{path.name}")
    try:
        with _errors(path, "give"):
            copy_files(key, str(temporary), files, LocalFileSystem(), chunk_size=_BLOCK)
        # Of an object that has become shorter meanwhile pyarrow gives bytes that were never in it.
        now = find(path)
        if now != stored or temporary.stat().st_size != stored.size:
            raise StorageError(
                f"{shown(path)}: the object must stay as it is while it is read. Was: {stored}, is: {now}"
            )
        os.utime(temporary, ns=(stored.mtime_ns, stored.mtime_ns))
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def put_object(path: Path) -> None:
    """Puts a copy into the store, whole or not at all; the copy then has the object's time.

    Raises:
        StorageError: If the store does not take it.
    """
    from pyarrow.fs import LocalFileSystem, copy_files

    files, key = _at(path)
    with _errors(path, "take"):
        copy_files(str(path), key, LocalFileSystem(), files, chunk_size=_BLOCK)
    size, stored = path.stat().st_size, find(path)
    if stored is None or stored.size != size:
        raise StorageError(f"{shown(path)}: the store must have all of its {size:,} bytes. Received: {stored}")
    os.utime(path, ns=(stored.mtime_ns, stored.mtime_ns))


def put_mark(path: Path) -> None:
    """Puts an object of no bytes, without a copy."""
    files, key = _at(path)
    with _errors(path, "take"), files.open_output_stream(key):
        pass


def delete_object(path: Path) -> None:
    """Deletes an object, if it is there."""
    files, key = _at(path)
    with _errors(path, "delete"), contextlib.suppress(FileNotFoundError):
        files.delete_file(key)


def delete_folder(path: Path) -> None:
    """Deletes all objects of a folder."""
    files, key = _at(path)
    with _errors(path, "delete"), contextlib.suppress(FileNotFoundError):
        files.delete_dir(key)


def open_object(path: Path) -> Any:
    """Opens an object to read some of it, without a copy."""
    files, key = _at(path)
    with _errors(path, "open"):
        return files.open_input_file(key)
