"""URLs of object stores, and the path that each has on this machine.

    s3://runs/census                 CACHE/kept/s3/runs/census                  what is written, kept alike
    s3://logs/2026/part-0.parquet    CACHE/read/s3/logs/2026/part-0.parquet     rows that are read, for a while

`CACHE` is `cache_folder()`.
"""

import functools
import glob
import os
import re
from collections.abc import Iterable
from pathlib import Path

SCHEMES = ("s3", "gs", "abfs", "abfss", "hdfs")
"""What `pyarrow.fs` reaches: Amazon S3 and what speaks its protocol, Google Cloud Storage, Azure, HDFS."""

_KEPT, _READ = "kept", "read"
# `Path` makes one slash of two.
_URL = re.compile(rf"({'|'.join(SCHEMES)}):/{{1,2}}(?=[^/])(.*)", re.DOTALL)
_NO_BUCKET = re.compile(rf"({'|'.join(SCHEMES)}):///")
_IN_TEXT = re.compile(rf"(?<![\w/.])({'|'.join(SCHEMES)}):/(?=[^/\s])")


def cache_folder() -> Path:
    """Where copies are: `C2AL_CACHE`, else `~/.cache/c2al`."""
    return _resolved(os.environ.get("C2AL_CACHE") or "~/.cache/c2al")


@functools.lru_cache(maxsize=8)
def _resolved(folder: str) -> Path:
    # Links are followed: `path.resolve()` of a copy is then in there, too. Who has no home may still read files.
    return Path(os.path.expanduser(folder)).resolve()


def is_url(place: str | os.PathLike[str]) -> bool:
    """Whether a place is in an object store, as a URL says it."""
    return _URL.match(os.fspath(place)) is not None


def local_path(place: str | os.PathLike[str]) -> Path:
    """The path of a place on this machine: of a URL its copy's, which may not be there; any other as it is.

    Raises:
        ValueError: If the URL has no bucket, or a part that a path has not, or copies cannot be where they would be.
    """
    found = _URL.match(os.fspath(place))
    if found is None:
        if _NO_BUCKET.match(os.fspath(place)):
            raise ValueError(f"A URL must name a bucket or host: SCHEME://BUCKET/KEY. Received: {os.fspath(place)}")
        return Path(place)
    parts = found[2].rstrip("/").split("/")
    check_parts(os.fspath(place), parts)
    if glob.has_magic(str(cache_folder())):
        raise ValueError(
            f"Copies must be in a folder without `*`, `?` and `[`: set C2AL_CACHE. It is: {cache_folder()}"
        )
    return cache_folder().joinpath(_KEPT, found[1], *parts)


def check_parts(url: str, parts: Iterable[str]) -> None:
    """Raises ValueError if a part of a URL is none that a path has."""
    if any(part in ("", ".", "..") for part in parts):
        raise ValueError(f"A URL must be SCHEME://BUCKET/KEY, whose parts are not empty, `.` or `..`. Received: {url}")


def is_kept(path: Path) -> bool:
    """Whether a path is in a copy of what is written."""
    return path.is_relative_to(cache_folder() / _KEPT)


def is_input(path: Path) -> bool:
    """Whether a path is a copy of rows that are read."""
    return path.is_relative_to(cache_folder() / _READ)


def as_input(path: Path) -> Path:
    """The path under which what is kept at another is read as rows."""
    return cache_folder() / _READ / path.relative_to(cache_folder() / _KEPT)


def lock_file(path: Path) -> Path:
    """The file whose lock is held while a copy in a bucket is changed."""
    scheme, authority, *_ = path.relative_to(cache_folder() / _KEPT).parts
    return cache_folder() / "locks" / f"{scheme}-{authority}"


def inputs_folder() -> Path:
    """Where the copies of rows are."""
    return cache_folder() / _READ


def url_of(path: Path) -> str | None:
    """The URL of a copy's path; None for any other path."""
    for root in (_KEPT, _READ):
        folder = cache_folder() / root
        if path.is_relative_to(folder):
            scheme, *parts = path.relative_to(folder).parts
            return f"{scheme}://{'/'.join(parts)}"
    return None


def shown(path: Path) -> str:
    """A path as its user knows it: a copy's by its URL."""
    return url_of(path) or str(path)


def of_shown(text: str) -> Path:
    """The path under which rows are read that `shown` calls so, here or on another machine."""
    return as_input(local_path(text)) if is_url(text) else Path(text)


def with_urls(text: str) -> str:
    """A text in which copies are called by their URLs."""
    copies = re.compile(rf"{re.escape(str(cache_folder()))}/(?:{_KEPT}|{_READ})/({'|'.join(SCHEMES)})/")
    return _IN_TEXT.sub(r"\1://", copies.sub(r"\1://", text))
