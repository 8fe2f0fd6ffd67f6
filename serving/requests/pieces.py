"""A batch in pieces that each fit one request, and the pieces' outputs as the batch's."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_FIXED_BYTES, _INPUT_BYTES, _STRING_BYTES = 1024, 128, 6
"""Room for what surrounds the values: of a request, of an input beyond its name, of a string."""


def split(arrays: Mapping[str, NDArray[Any]], max_rows: int, max_bytes: int) -> Iterator[slice]:
    """Slices of rows, each small enough for one request, or a ValueError; the only one may be empty."""
    sizes = {name: array.shape[0] for name, array in arrays.items() if array.ndim}
    if len(sizes) < len(arrays):
        raise ValueError(f"columns must have rows. Received a scalar for: {', '.join(arrays.keys() - sizes.keys())}")
    if len(set(sizes.values())) > 1:
        raise ValueError(f"columns must have the same number of rows. Received: {sizes}")
    rows = next(iter(sizes.values()), 0)
    ends = np.cumsum(sum(map(_row_bytes, arrays.values()), np.zeros(rows, np.int64)))
    room = max_bytes - _FIXED_BYTES - sum(len(name) + _INPUT_BYTES for name in arrays)
    start, before = 0, 0
    while start < rows:
        stop = min(int(np.searchsorted(ends, before + room, side="right")), start + max_rows)
        if stop == start:
            raise ValueError(f"row {start} takes {ends[start] - before} bytes; a request has room for {room}.")
        yield slice(start, stop)
        start, before = stop, ends[stop - 1]
    if not rows:
        yield slice(0, 0)


def concatenate(parts: Sequence[Mapping[str, NDArray[Any]]], pieces: Sequence[slice]) -> dict[str, NDArray[Any]]:
    """The outputs of the pieces, one after another; each must have a row for each row sent."""
    if len(parts) == 1:
        return dict(parts[0])
    for part, piece in zip(parts, pieces, strict=True):
        for name, array in part.items():
            rows = piece.stop - piece.start
            if array.shape[:1] != (rows,):
                rule = f"a row for each of the {rows} rows sent, for the batch does not fit one request"
                raise ValueError(f"output {name!r} must have {rule}. Received: shape={array.shape}")
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _row_bytes(array: NDArray[Any]) -> NDArray[np.int64]:
    if array.dtype.kind != "O":
        return np.full(len(array), array.itemsize * math.prod(array.shape[1:]), np.int64)
    lengths = np.fromiter(map(len, array.flat), np.int64, array.size) + _STRING_BYTES
    return lengths.reshape(len(array), math.prod(array.shape[1:])).sum(axis=1)
