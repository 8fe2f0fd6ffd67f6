"""Folders and files that are written, and their copies on this machine, which are kept alike.

A file appears in a store whole: a put is one step there. A folder does not. So an object `.uploading` is put into it
first and deleted last: meanwhile, and after a kill, the folder counts as absent. `saved_model.pb` is put last of the
others, for a server that knows no such sign. What a store has counts: a copy is made like it before it is used.
"""

import contextlib
import fcntl
import os
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from . import objects
from .objects import PARTIAL, Stored
from .places import is_input, is_kept, is_url, local_path, lock_file, shown

UPLOADING = ".uploading"
OWN = frozenset(("encoded", "tensorboard"))
"""Folders of a run that a copy keeps though the store lacks them: rows as this machine has encoded them, and events of
trainings that go on."""

_LAST = "saved_model.pb"
_AT_A_TIME = 8


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Holds off the other processes and threads of this machine that change copies in a bucket; waits for them."""
    if not is_kept(path):
        yield
        return
    file = lock_file(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


def opened(place: str | os.PathLike[str]) -> Path:
    """The path of a place to be read, and written perhaps: of a URL its copy's, made like it; see `pull`."""
    return pull(local_path(place)) if is_url(place) else Path(place)


def pull(path: Path) -> Path:
    """Makes a copy like the file or folder in the store, and returns its path; any other path stays as it is.

    What is in folders named as in `OWN` is this machine's, and stays.

    Raises:
        StorageError: If the store cannot be reached, or does not give an object.
    """
    if is_kept(path):
        with exclusive(path):
            _make_like_the_store(path)
    return path


def _make_like_the_store(path: Path) -> None:
    stored = objects.find(path)
    if stored is not None:
        wanted = {path: stored}
        if path.is_dir():
            shutil.rmtree(path)
    else:
        wanted = _whole(objects.objects_in(path))
        _remove_others(path, wanted)
    missing = {each: stored for each, stored in wanted.items() if not objects.same(each, stored)}
    _fetch_all(path, missing)


def _whole(found: Mapping[Path, Stored]) -> dict[Path, Stored]:
    """Without the folders that are not there as a whole, and without what is for a moment only."""
    partial = {path.parent for path in found if path.name == UPLOADING}
    return {
        path: stored
        for path, stored in found.items()
        if not any(each in partial for each in path.parents) and not _is_temporary(path)
    }


def _is_temporary(path: Path) -> bool:
    """Whether a path is in what has no name yet."""
    return any(part.startswith(PARTIAL) for part in path.parts)


def _remove_others(folder: Path, wanted: Collection[Path]) -> None:
    """Removes from a copy what the store does not have, and the folders that this leaves empty."""
    if folder.is_file():
        folder.unlink()
    for top, names, files in os.walk(folder, topdown=False):
        parts = Path(top).relative_to(folder).parts
        if {*parts} & OWN or any(part.startswith(PARTIAL) for part in parts):
            continue
        for name in files:
            path = Path(top, name)
            if path not in wanted and not name.startswith(PARTIAL):  # what is being written has no name yet
                path.unlink(missing_ok=True)
        for name in names:
            with contextlib.suppress(OSError):  # it is not empty
                Path(top, name).rmdir()


def _fetch_all(place: Path, missing: Mapping[Path, Stored]) -> None:
    from tqdm import tqdm

    size = sum(stored.size for stored in missing.values())
    with tqdm(total=size, desc=f"fetching {shown(place)}", unit="B", unit_scale=True, delay=1) as bar:

        def fetch(path: Path) -> None:
            objects.fetch(path, missing[path])
            bar.update(missing[path].size)

        _for_each(fetch, missing)


def put(path: Path) -> None:
    """Puts a file or folder that has just got its name in a copy into the store; any other path stays where it is.

    Raises:
        StorageError: If the store does not take all of it. A file is there then as it was, a folder counts as absent.
    """
    if not is_kept(path) or _is_temporary(path):
        return
    if path.is_file():
        objects.put_object(path)
        return
    ours = sorted(each for each in path.rglob("*") if each.is_file())
    objects.put_mark(path / UPLOADING)
    _for_each(objects.delete_object, objects.objects_in(path).keys() - {*ours, path / UPLOADING})
    _for_each(objects.put_object, [each for each in ours if each.name != _LAST])
    _for_each(objects.put_object, [each for each in ours if each.name == _LAST])
    objects.delete_object(path / UPLOADING)


def delete(path: Path) -> None:
    """Deletes from the store what has been removed from a copy; any other path is left alone."""
    if not is_kept(path):
        return
    if objects.find(path) is not None:
        objects.delete_object(path)
    else:
        objects.delete_folder(path)


def drop_copy(path: Path) -> None:
    """Removes the copy of a file that the store has; any other file stays."""
    if is_kept(path):
        with exclusive(path):
            path.unlink(missing_ok=True)


def drop_copies(base: Path, before: int) -> None:
    """Removes the copies of versions that were numbered lower and that the store has no longer."""
    if not is_kept(base):
        return
    for path in base.iterdir():
        if path.name.isdecimal() and int(path.name) < before and not objects.objects_in(path):
            shutil.rmtree(path, ignore_errors=True)


def is_there(path: Path) -> bool:
    """Whether there is a file or folder, of a copy in the store."""
    if not is_kept(path) and not is_input(path):
        return path.exists()
    return objects.find(path) is not None or bool(objects.names_in(path))


def folders_in(path: Path) -> list[Path]:
    """The folders in a folder, of a copy those that are in the store as a whole.

    Raises:
        OSError: If there is no such folder, or the store cannot be reached.
    """
    if not is_kept(path):
        return [each for each in path.iterdir() if each.is_dir()]
    found = _whole(objects.objects_in(path))
    return sorted({path / each.relative_to(path).parts[0] for each in found if each.parent != path})


def _for_each(function: Any, items: Iterable[Any]) -> None:
    """Calls a function for each item, several at a time; raises the first error once no call is under way."""
    with ThreadPoolExecutor(_AT_A_TIME) as pool:
        for done in [pool.submit(function, item) for item in items]:
            done.result()
