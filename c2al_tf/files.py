"""Files and folders that appear whole or not at all: written beside their place, then renamed into it.

Not even a power cut leaves half of one: its bytes are on the disk before it has its name. What a killed process left
beside the place is removed when the next one writes there.
"""

import contextlib
import errno
import fcntl
import glob
import json
import math
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from . import storage

# It begins with a dot: a server that watches a folder for versions does not take a part of one for another.
_PREFIX = storage.PARTIAL


@contextlib.contextmanager
def replace_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields a temporary path beside `path`; on success it takes the place of `path`, on an error it is removed."""
    with temporary_file(path) as temporary:
        yield temporary
        publish(temporary, storage.local_path(path))


@contextlib.contextmanager
def replace_directory(path: str | os.PathLike[str], *, shared: bool = True) -> Iterator[Path]:
    """Yields a temporary folder beside `path`; on success it takes the place of `path`, on an error it is removed.

    Args:
        path: The folder.
        shared: Whether a store gets it, too, where `path` is a URL: not what can be made again from what is there.
    """
    target = storage.local_path(path)
    _clean(target)
    temporary = Path(tempfile.mkdtemp(prefix=_PREFIX, suffix=f"-{target.name}", dir=target.parent))
    with _removed_at_the_end(temporary):
        yield temporary
        temporary.chmod(0o755)
        publish(temporary, target, shared=shared)


@contextlib.contextmanager
def temporary_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields the path of an empty file beside `path`, to be written and published; else it is removed at the end."""
    target = storage.local_path(path)
    _clean(target)
    # The suffix is kept: writers such as Keras choose the format by it.
    temporary = target.with_name(f"{_PREFIX}{secrets.token_hex(4)}-{target.name}")
    temporary.touch()
    with _removed_at_the_end(temporary):
        yield temporary


def publish(temporary: Path, target: Path, *, shared: bool = True) -> None:
    """Gives a temporary file or folder its name, in place of what had it, once all of it is on the disk.

    Where `target` is the copy of a URL, the store gets it then.
    """
    for path in (*temporary.rglob("*"), temporary):
        _flush(path)
    with storage.exclusive(target):
        if temporary.is_dir() and target.exists():
            _swap(temporary, target)
        else:
            os.replace(temporary, target)
        _flush(target.parent)
        if shared:
            storage.put(target)


def remove(path: Path) -> None:
    """Removes a file or folder, if it is there, and where it is the copy of a URL the objects of the store."""
    _remove(path)
    storage.delete(path)


def _swap(new: Path, target: Path) -> None:
    """Puts the folder `new` in the place of `target`; if that fails, `target` is as it was."""
    old = Path(tempfile.mkdtemp(prefix=_PREFIX, suffix=f"-{target.name}", dir=target.parent)) / target.name
    os.replace(target, old)
    try:
        os.replace(new, target)
    except OSError:
        os.replace(old, target)
        raise
    finally:
        shutil.rmtree(old.parent)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL or not path.is_dir():  # some network file systems cannot flush a folder
            raise
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _removed_at_the_end(temporary: Path) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # a file system without locks
            stack.enter_context(lock(temporary))
        try:
            yield
        finally:
            _remove(temporary)


def _clean(target: Path) -> None:
    """Makes the parent of `target`, and removes from it what killed processes left of `target`."""
    target.parent.mkdir(parents=True, exist_ok=True)
    for path in target.parent.glob(f"{_PREFIX}*-{glob.escape(target.name)}"):
        with contextlib.suppress(OSError), lock(path):
            _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def lock(path: Path) -> Iterator[None]:
    """Holds a lock on a file or folder that ends with the process, however it ends: what nobody holds was left behind.

    Raises:
        BlockingIOError: If another holds it.
        OSError: If the file system has no locks.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Writes `value` as indented JSON, whole or not at all; what is not finite becomes null, `"inf"` or `"-inf"`."""
    text = json.dumps(_finite(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    with replace_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _finite(value: Any) -> Any:
    """JSON has no word for NaN and infinity."""
    if isinstance(value, Mapping):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value


def read_json(path: str | os.PathLike[str]) -> Any:
    """Reads JSON.

    Raises:
        ValueError: If the file is not JSON; the message names the file and the place.
    """
    try:
        return json.loads(storage.opened(path).read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: not valid JSON: {error}") from error
