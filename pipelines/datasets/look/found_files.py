"""The files that `c2al init` finds: their format, and patterns for training, validation and test."""

import glob
import os
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from c2al_tf.data.columns.formats import FileFormat, as_paths, format_of, is_gzip, under
from c2al_tf.storage import fetched, is_url, of_shown, stat_of

_SUFFIXES = (".parquet", ".csv", ".csv.gz", ".tfrecord", ".tfrecord.gz")

_MOST_PIECES = 16

_WORDS = {
    "train": ("train", "training", "trainset"),
    "validation": ("validation", "valid", "val", "eval", "evaluation", "dev"),
    "test": ("test", "testing", "testset", "holdout"),
}


@dataclass(frozen=True)
class FoundFiles:
    """Files of one format, by split.

    Args:
        folder: What the patterns are relative to.
        format: Format of all files.
        splits: The files of `"train"`, `"test"` and, where there are such, `"validation"`.
        patterns: A pattern for each split that matches its files and no others.
        notes: Why these files are that split's.
        ignored: Files of the folder that are of no split.
    """

    folder: Path
    format: FileFormat
    splits: Mapping[str, tuple[Path, ...]]
    patterns: Mapping[str, str]
    notes: Mapping[str, str]
    ignored: tuple[str, ...]


def find_files(data: str) -> FoundFiles:
    """Finds the files of a folder, of a pattern, or one file; hidden files and those that begin with `_` are ignored.

    Raises:
        ValueError: If there is none, one is empty, their formats differ, or they cannot be split.
    """
    folder, paths = _listed(data)
    formats_of = {path: _format(path) for path in paths}
    known = [path for path in paths if formats_of[path]]
    ignored = [path.relative_to(folder).as_posix() for path in paths if not formats_of[path]]
    if not known:
        raise ValueError(
            f"{data}: there must be files with rows whose names end in one of {', '.join(_SUFFIXES)}, or that hold "
            f"Parquet or TFRecord. Received: {ignored[:10]}"
        )
    formats: dict[str, list[str]] = {}
    for path in known:
        formats.setdefault(str(formats_of[path]), []).append(path.relative_to(folder).as_posix())
    if len(formats) > 1:
        some = {name: files[:3] for name, files in formats.items()}
        raise ValueError(
            f"{data}: all files must have one format; give a pattern that matches those of one, such as "
            f"'{folder}/**/*.{next(iter(formats))}'. Received: {some}"
        )
    return _found(folder, known, ignored)


def _listed(data: str) -> tuple[Path, list[Path]]:
    """The folder that patterns are relative to, and the visible files in it that `data` means."""
    if is_url(data):
        return _listed_in_store(of_shown(data))
    path = Path(data)
    if path.is_dir():
        folder, names = path, glob.glob(os.path.join(glob.escape(data), "**"), recursive=True)
    elif path.is_file():
        folder, names = path.parent, [data]
    else:
        fixed = [part for part in path.parts[: _first_magic(path.parts)]]
        folder, names = Path(*fixed), glob.glob(data, recursive=True)
        if not names:
            raise ValueError(
                f"{data}: must be a folder, a file or a pattern that matches files. Received: no such path"
            )
    files = sorted(Path(name) for name in names if os.path.isfile(name))
    return folder, [f for f in files if not any(p.startswith((".", "_")) for p in f.relative_to(folder).parts)]


def _listed_in_store(path: Path) -> tuple[Path, list[Path]]:
    files = as_paths(path)
    if files == [path]:
        return path.parent, files
    fixed = next((i for i, part in enumerate(path.parts) if glob.has_magic(part)), len(path.parts))
    return Path(*path.parts[:fixed]), files


def _first_magic(parts: Sequence[str]) -> int:
    return next((i for i, part in enumerate(parts) if glob.has_magic(part)), len(parts) - 1)


def _format(path: Path) -> FileFormat | None:
    """The format of a file with bytes; None if it is none that can be read."""
    try:
        return format_of(path) if stat_of(path)[0] else None
    except ValueError:
        return None


def _suffix(path: Path) -> str:
    return next((suffix for suffix in _SUFFIXES if path.name.endswith(suffix)), "")


def _found(folder: Path, files: Sequence[Path], ignored: list[str]) -> FoundFiles:
    by_split: dict[str, list[Path]] = {"train": [], "validation": [], "test": [], "": []}
    for file in files:
        by_split[_split_of(file.relative_to(folder))[0]].append(file)
    if not by_split["train"]:
        by_split["train"] = by_split.pop("")
    ignored = ignored + [file.relative_to(folder).as_posix() for file in by_split.pop("", [])]
    splits = {split: tuple(files) for split, files in by_split.items() if files}
    notes = {split: f"{_counted(files)} by their names" for split, files in splits.items()}
    if "train" in splits and "test" not in splits and "validation" in splits:
        splits["test"] = splits.pop("validation")
        notes["test"] = (
            f"{_counted(splits['test'])}. There are no test files: the validation files are the test rows, and a tenth "
            "of the training rows validates"
        )
    if "train" in splits and "test" in splits:
        patterns = {split: _pattern(folder, files, split) for split, files in splits.items()}
        return FoundFiles(folder, format_of(files[0]), splits, patterns, notes, tuple(ignored))
    return _held_out(folder, sorted(files), ignored)


def _split_of(path: Path) -> tuple[str, str]:
    """The split that a path names, the file before its folders, and the word that names it."""
    for part in reversed(path.parts):
        for word in re.findall(r"[A-Za-z]+", part):
            for split, words in _WORDS.items():
                if word.lower() in words:
                    return split, word
    return "", ""


def _counted(files: Sequence[Path]) -> str:
    size = sum(stat_of(file)[0] for file in files) / 1e6
    return f"{len(files)} file{'s' if len(files) > 1 else ''}, {size:,.1f} MB"


def _matches(folder: Path, pattern: str) -> set[Path]:
    """The files with bytes that a pattern matches."""
    try:
        return {path for path in as_paths(under(folder, pattern)) if stat_of(path)[0]}
    except ValueError:
        return set()


def _any_of(files: Sequence[Path]) -> str:
    suffixes = {_suffix(file) for file in files}
    return f"*{suffixes.pop()}" if len(suffixes) == 1 else f"*.{format_of(files[0])}*"


def _pattern(folder: Path, files: Sequence[Path], split: str) -> str:
    names = [file.relative_to(folder).as_posix() for file in files]
    if len(names) == 1 and "/" not in names[0]:
        return glob.escape(names[0])
    common = os.path.commonpath([os.path.dirname(name) for name in names])
    top = f"{glob.escape(common)}/" if common else ""
    word, any_file = _split_of(files[0].relative_to(folder))[1], _any_of(files)
    candidates = [f"{top}{start}{any_file}" for start in ("", "**/", "[!_]", "**/[!_]")]
    if word:
        candidates += [f"{top}{word}{any_file}", f"{top}*{word}{any_file}", f"{top}**/*{word}{any_file}"]
        candidates += [f"{top}*{word}*/**/{any_file}", f"{top}**/*{word}*/**/{any_file}"]
    prefix = glob.escape(_common_start(names))
    candidates.append(prefix if len(names) == 1 else f"{prefix}{any_file}")
    for candidate in candidates:
        if _matches(folder, candidate) == set(files):
            return candidate
    raise ValueError(
        f"{folder}: one pattern must match the {split} files and no others; move them into a folder `{split}`. "
        f"Received: {names[:5]}"
    )


def _common_start(names: Sequence[str]) -> str:
    """The letters with which all names begin."""
    return os.path.commonprefix(names)  # noqa: RUF071 letters are meant, not folders


def _held_out(folder: Path, files: Sequence[Path], ignored: list[str]) -> FoundFiles:
    """Without test files: the last ones by name, as far as a pattern can tell them from the others."""
    if len(files) == 1:
        raise ValueError(_how_to_split(files[0]))
    names = [file.relative_to(folder).as_posix() for file in files]
    prefix = _common_start(names)
    last = names[-1][len(prefix) :][:1]
    rest = f"*/**/{_any_of(files)}" if any("/" in name[len(prefix) :] for name in names) else _any_of(files)
    start = glob.escape(prefix)
    patterns = {"train": f"{start}[!{last}]{rest}", "test": f"{start}{glob.escape(last)}{rest}"}
    splits = {split: tuple(sorted(_matches(folder, pattern))) for split, pattern in patterns.items()}
    if sorted([*splits["train"], *splits["test"]]) != list(files) or not 0 < len(splits["test"]) <= len(files) / 2:
        raise ValueError(
            f"{folder}: the names must tell which files are to train and which to test on; move the files into folders "
            f"`train` and `test`, the latest fifth into `test`. Received: {names[:5]}"
        )
    notes = {
        "train": _counted(splits["train"]),
        "test": f"{_counted(splits['test'])}. No name holds the word test: the last files by name are held out",
    }
    return FoundFiles(folder, format_of(files[0]), splits, patterns, notes, tuple(ignored))


def _how_to_split(file: Path) -> str:
    file_format = format_of(file)
    suffix = _suffix(file) or f".{file_format}{'.gz' if file_format != 'parquet' and is_gzip(file) else ''}"
    folder = file.name.removesuffix(suffix) + "_split"
    path, targets = str(file), [f"{folder}/{split}{suffix}" for split in ("train", "test")]
    make = f"mkdir -p {shlex.quote(folder)}"
    if suffix.startswith(".csv"):
        command = _split_csv(shlex.quote(path), [shlex.quote(target) for target in targets], suffix)
    else:
        command = f"python -c {shlex.quote(_split_code(path, targets, suffix))}"
    return (
        f"{file}: rows to train on and rows to test on must be in files of their own. Received: one file. Split it, or "
        "give a folder with more files. This takes the last fifth of the rows to test on, which is right where rows "
        f"are in the order of time:\n  {make} && {command}\n  c2al init {shlex.quote(folder)}"
    )


def _split_csv(path: str, targets: Iterable[str], suffix: str) -> str:
    read, write = ("zcat", " | gzip") if suffix.endswith(".gz") else ("cat", "")
    train, test = targets
    return (
        f"n=$(($({read} {path} | wc -l) * 8 / 10)) && {read} {path} | head -n $n{write} > {train} && "
        f"({read} {path} | head -n 1; {read} {path} | tail -n +$((n + 1))){write} > {test}"
    )


def _split_code(path: str, targets: Sequence[str], suffix: str) -> str:
    train, test = targets
    if suffix == ".parquet":
        return (
            f"import pyarrow.parquet as pq; t = pq.read_table({path!r}); n = len(t) * 8 // 10; "
            f"pq.write_table(t[:n], {train!r}); pq.write_table(t[n:], {test!r})"
        )
    compression = "GZIP" if suffix.endswith(".gz") else ""
    return (
        f"import tensorflow as tf; rows = tf.data.TFRecordDataset({path!r}, {compression!r}); "
        f"n = sum(1 for _ in rows) * 8 // 10; "
        f"files = [tf.io.TFRecordWriter(f, {compression!r}) for f in ({train!r}, {test!r})]; "
        "[files[i >= n].write(row.numpy()) for i, row in enumerate(rows)]; [file.close() for file in files]"
    )


def spread(items: Sequence[Any]) -> list[Any]:
    """At most so many items as are read, evenly spread over all."""
    number = min(len(items), _MOST_PIECES)
    return [items[i] for i in np.linspace(0, len(items) - 1, number).round().astype(int)]


def check_same(names: Mapping[Path, Sequence[str]]) -> None:
    """Raises ValueError unless all files have the columns of the first, each once."""
    first = next(iter(names))
    for path, found in names.items():
        repeated = sorted({name for name in found if list(found).count(name) > 1})
        if repeated:
            raise ValueError(
                f"{path}: a column's name must be its own; rename or drop the others. Received: {repeated}"
            )
        lacks, has = sorted({*names[first]} - {*found}), sorted({*found} - {*names[first]})
        if lacks or has:
            raise ValueError(
                f"{path}: must have the columns of {first}. Received: a file that lacks {lacks} and has {has} besides. "
                "Write both files with the same columns, or give a pattern that leaves this file out; rows without "
                "labels can be neither trained nor tested on"
            )


def unpacked_size(paths: Sequence[Path]) -> int:
    """Bytes of the files, unpacked: a .gz file ends in its length, modulo 2**32."""
    size = 0
    for path in paths:
        packed = stat_of(path)[0]
        with fetched(path).open("rb") as file:
            file.seek(max(packed - 4, 0))
            size += max(int.from_bytes(file.read(), "little"), packed) if path.suffix == ".gz" else packed
    return size
