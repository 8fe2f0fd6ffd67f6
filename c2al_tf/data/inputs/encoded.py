"""Rows that are encoded once and trained on often: many models, many epochs."""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...cohorts.cohort import Cohort, read_once
from ...files import read_json, replace_directory, write_json
from ...schema import Column, Schema
from ...storage import stat_of
from ...types import Array
from ..columns.formats import Paths, as_paths
from ..columns.raw import Mask
from ..columns.readers import Chunk, count_rows, read_columns
from .features import FeatureEncoder
from .packing import Layout, pack_files
from .stream import Order, Pack, PackedRows, read_blocks

_ROWS, _SOURCE = "rows.npy", "source.json"
_BATCH = 16_384
_FORMAT = 1
"""Number of the packing: another one is encoded anew."""


@dataclass(frozen=True, eq=False)
class EncodedRows:
    """The rows of Parquet files as `encode_rows` packed them, on disk: a pass reads them without encoding.

    Args:
        paths: The files.
        schema: What their columns mean.
        folder: Where the packed rows are.
    """

    paths: list[Path]
    schema: Schema
    folder: Path
    _members: dict[Cohort, Mask] = dataclasses.field(default_factory=dict, repr=False)

    @functools.cached_property
    def values(self) -> PackedRows:
        """The packed rows (rows, width), without memberships, mapped into memory."""
        return np.load(self.folder / _ROWS, mmap_mode="r")

    @functools.cached_property
    def starts(self) -> Mapping[Path, int]:
        """Number of the first row of each file among all rows."""
        counts = [count_rows(path) for path in self.paths]
        return dict(zip(self.paths, np.cumsum([0, *counts]).tolist(), strict=False))

    def members(self, cohorts: Sequence[Cohort]) -> Array:
        """Memberships, bool (rows, cohorts); of a cohort that is new its columns are read, once."""
        new = [cohort for cohort in dict.fromkeys(cohorts) if cohort not in self._members]
        if new:
            columns = {name: self.schema.columns[name] for cohort in new for name in cohort.columns}
            batches = (read_once(batch, new) for batch in read_columns(self.paths, columns))
            parts = [[cohort.contains(batch) for cohort in new] for batch in batches]
            for cohort, masks in zip(new, zip(*parts, strict=True), strict=True):
                self._members[cohort] = np.concatenate(masks)
        columns_of = [self._members[cohort] for cohort in cohorts]
        return np.stack(columns_of, axis=1) if cohorts else np.empty((len(self.values), 0), bool)

    def pack(self, cohorts: Sequence[Cohort]) -> Pack:
        """What gives rows of a chunk as if they were encoded now, with memberships of cohorts."""
        members, width = self.members(cohorts), self.values.shape[1]
        weight = Layout.of(self.schema).weight

        def pack(chunk: Chunk) -> Callable[[Array, Mask], PackedRows]:
            first = self.starts[chunk.path] + chunk.first_row

            def pack_rows(rows: Array, is_real: Mask) -> PackedRows:
                packed_rows = np.empty((len(rows), width + members.shape[1]), np.int32)
                packed_rows[:, :width] = self.values[first + rows]
                packed_rows[~is_real, weight] = 0  # as an integer and as a float
                packed_rows[:, width:] = members[first + rows]
                return packed_rows

            return pack_rows

        return pack


def encode_rows(paths: Paths, schema: Schema, folder: str | Path) -> EncodedRows:
    """Encodes all rows of Parquet files into a folder; keeps what is there if it is of the same files and schema.

    A packed row takes 4 bytes for each input and label: its size on disk is `count_rows(paths) * Layout.width * 4`.

    Raises:
        ValueError: If a file is not Parquet, or a row breaks a rule of the schema.
    """
    files = as_paths(paths)
    if other := [str(path) for path in files if not path.name.endswith(".parquet")]:
        raise ValueError(f"`paths` must be Parquet files, whose rows can be found again. Received: {other[:3]}")
    rows, source = EncodedRows(files, schema, Path(folder)), _source(files, schema)
    if find_rows(paths, schema, folder) is None:
        rows.folder.parent.mkdir(parents=True, exist_ok=True)
        with replace_directory(rows.folder, shared=False) as temporary:
            _write(temporary / _ROWS, files, schema)
            write_json(temporary / _SOURCE, source)
    return rows


def find_rows(paths: Paths, schema: Schema, folder: str | Path) -> EncodedRows | None:
    """What `encode_rows` made of the same files and schema; None if there is nothing such."""
    files = as_paths(paths)
    there = _read_source(Path(folder)) == _source(files, schema)
    return EncodedRows(files, schema, Path(folder)) if there else None


def _write(path: Path, files: Sequence[Path], schema: Schema) -> None:
    columns, pack = _packing(schema)
    width, num_rows = Layout.of(schema).width, count_rows(files)
    header = {"descr": "<i4", "fortran_order": False, "shape": (num_rows, width)}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for block in read_blocks(files, columns, pack, width, Order(_BATCH), batches_per_block=4):
            part = block.reshape(-1, width)[:num_rows]
            num_rows -= len(part)
            file.write(part.astype("<i4", copy=False).tobytes())


@functools.lru_cache(maxsize=1)
def _packing(schema: Schema) -> tuple[dict[str, Column], Pack]:
    """Traced once for all splits of a data set."""
    return pack_files(schema, FeatureEncoder(schema), ())


def _source(files: Sequence[Path], schema: Schema) -> dict[str, Any]:
    """What the packed rows depend on."""
    listed = [[path.name, *stat_of(path)] for path in files]
    digest = hashlib.sha256(json.dumps(schema.to_json()).encode()).hexdigest()
    return {"format": _FORMAT, "schema": digest, "files": listed}


def _read_source(folder: Path) -> Any:
    return read_json(folder / _SOURCE) if (folder / _SOURCE).exists() else None
