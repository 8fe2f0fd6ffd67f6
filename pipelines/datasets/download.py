"""Archives from a data set's own site, kept where the next run finds them."""

import shutil
import tarfile
import urllib.request
import zipfile
from collections.abc import Iterator, Sequence
from http.client import HTTPException
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from tqdm import tqdm

from c2al_tf.files import replace_file


def download_members(url: str, names: Sequence[str], folder: Path) -> None:
    """Brings the named members of the archive at an address into `folder`, unless they are there.

    Raises:
        ConnectionError: If the archive cannot be fetched whole. The message says how to fetch it by hand.
        ValueError: If the archive is damaged, or lacks a member.
    """
    if not all((folder / name).is_file() for name in names):
        unpack(download(url, folder), names, folder)


def download(url: str, folder: Path, *, timeout: float = 30.0) -> Path:
    """Returns the path in `folder` of the file at an address, fetched unless it is there.

    Args:
        url: Address of a file.
        folder: Where it is kept.
        timeout: Seconds without an answer after which to give up.

    Raises:
        ConnectionError: If the file cannot be fetched whole. The message says how to fetch it by hand.
    """
    path = folder / urlsplit(url).path.rpartition("/")[2]
    if path.exists():
        return path
    try:
        with urllib.request.urlopen(url, timeout=timeout) as response, replace_file(path) as temporary:
            _save(response, temporary, path.name)
    except (OSError, HTTPException) as error:
        raise ConnectionError(
            f"Could not download {url}: {error}. Where there is no network, fetch that address on another machine, "
            f"put the file at {path}, and run the same command again."
        ) from error
    return path


def _save(response: IO[bytes], path: Path, name: str) -> None:
    length = int(response.headers.get("Content-Length", 0))  # type: ignore[attr-defined]
    with path.open("wb") as file, tqdm(total=length or None, desc=name, unit="B", unit_scale=True) as bar:
        while block := response.read(1 << 16):
            file.write(block)
            bar.update(len(block))
    size = path.stat().st_size
    if length and size != length:
        raise OSError(f"the connection ended after {size:,} of {length:,} bytes")


def unpack(archive: Path, names: Sequence[str], folder: Path) -> None:
    """Writes the named members of a ZIP archive, and of the `.tar.gz` archives in it, to `folder`.

    Args:
        archive: A ZIP archive.
        names: Names of files, without the folders that they are in there.
        folder: Where they are put.

    Raises:
        ValueError: If the archive is damaged, or lacks a name.
    """
    found: list[str] = []
    try:
        for name, file in _members(archive):
            found.append(name)
            if name in names:
                with replace_file(folder / name) as temporary, temporary.open("wb") as target:
                    shutil.copyfileobj(file, target)
    except (zipfile.BadZipFile, tarfile.TarError, EOFError) as error:
        raise ValueError(f"{archive}: not a whole archive: {error}. Remove it to have it downloaded again.") from error
    if not set(names) <= set(found):
        raise ValueError(f"{archive}: must contain {sorted(names)}. Received: an archive of {sorted(found)}")


def _members(archive: Path) -> Iterator[tuple[str, IO[bytes]]]:
    with zipfile.ZipFile(archive) as members:
        for member in members.namelist():
            with members.open(member) as file:
                if not member.endswith(".tar.gz"):
                    yield Path(member).name, file
                    continue
                with tarfile.open(fileobj=file, mode="r:gz") as inner:
                    for info in inner:
                        if inner_file := inner.extractfile(info):
                            yield Path(info.name).name, inner_file
