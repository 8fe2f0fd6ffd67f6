"""URLs of object stores, and the path that each has on this machine.

s3://runs/census                 CACHE/kept/s3/runs/census                  what is written, kept alike
s3://logs/2026/part-0.parquet    CACHE/read/s3/logs/2026/part-0.parquet     rows that are read, for a while
"""

import os
import re
from pathlib import Path

SCHEMES = ("s3", "gs", "abfs", "abfss", "hdfs")
"""What `pyarrow.fs` reaches: Amazon S3 and what speaks its protocol, Google Cloud Storage, Azure, HDFS."""

_KEPT, _READ = "kept", "read"
# `Path` makes one slash of two.
_URL = re.compile(rf"({'|'.join(SCHEMES)}):/{{1,2}}(?=[^/])(.*)", re.DOTALL)
_IN_TEXT = re.compile(rf"(?<![\w/.])({'|'.join(SCHEMES)}):/(?=[^/\s])")


def cache_folder() -> Path:
    """Where copies are: `C2AL_CACHE`, else `~/.cache/c2al`."""
    given = os.environ.get("C2AL_CACHE")
    return Path(given).absolute() if given else Path.home() / ".cache" / "c2al"


def is_url(place: str | os.PathLike[str]) -> bool:
    """Whether a place is in an object store, as a URL says it."""
    return _URL.match(os.fspath(place)) is not None


def local_path(place: str | os.PathLike[str]) -> Path:
    """The path of a place on this machine: of a URL its copy's, which may not be there; any other as it is.

    Raises:
        ValueError: If the URL has no bucket, or a part that a path has not.
    """
    found = _URL.match(os.fspath(place))
    if found is None:
        return Path(place)
    parts = found[2].rstrip("/").split("/")
    if any(part in ("", ".", "..") for part in parts):
        raise ValueError(
            f"A URL must be SCHEME://BUCKET/KEY, whose parts are not empty, `.` or `..`. Received: {os.fspath(place)}"
        )
    return cache_folder().joinpath(_KEPT, found[1], *parts)


def is_kept(path: Path) -> bool:
    """Whether a path is in a copy of what is written."""
    return path.is_relative_to(cache_folder() / _KEPT)


def is_input(path: Path) -> bool:
    """Whether a path is a copy of rows that are read."""
    return path.is_relative_to(cache_folder() / _READ)


def as_input(path: Path) -> Path:
    """The path under which what is kept at another is read as rows."""
    return cache_folder() / _READ / path.relative_to(cache_folder() / _KEPT)


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
