"""Some rows of TFRecord files for `c2al init`: kinds and numbers of values are found from the tf.Examples."""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from c2al_tf.data.columns.csv_fields import CsvFormat

from .found_files import spread, unpacked_size

_MOST_RECORDS = 20_000  # decoding takes a second for some thousand


class RecordRows:
    """Reads rows of TFRecord files; each may lack any column."""

    csv: CsvFormat | None = None
    with_nulls: frozenset[str] = frozenset()

    def rows(self, paths: Sequence[Path], quota: int) -> tuple[dict[str, Any], int, bool]:
        """The values of at most so many rows, the number of rows in the files, and whether it is counted."""
        from c2al_tf.data.columns.examples import read_serialized  # TensorFlow, which the other formats do without

        chosen, quota = spread(paths), min(quota, _MOST_RECORDS)
        records: list[bytes] = []
        all_read = len(chosen) == len(paths)
        for path in chosen:
            wanted, before = max(quota // len(chosen), 1), len(records)
            for batch in read_serialized(path, 1024):
                records += batch.numpy().tolist()
                if len(records) - before > wanted:
                    del records[before + wanted :]
                    all_read = False
                    break
            if len(records) == before:
                raise ValueError(f"{path}: the file has no rows; at least one is needed")
        columns = _from_records(records, paths[0])
        if all_read:
            return columns, len(records), True
        per_record = sum(map(len, records)) / len(records) + 16  # two lengths' and the data's check sums
        return columns, round(unpacked_size(paths) / per_record), False

    def joined(self, name: str, parts: Sequence[Any]) -> pa.Array:
        """Values of the training files and of the others as one column: lists where a row holds several."""
        values = [row for part in parts for row in (part.to_pylist() if isinstance(part, pa.Array) else part)]
        kinds = {type(value) for row in values for value in row or ()}
        if kinds == {int, float}:
            values = [row and [float(value) for value in row] for row in values]
        elif len(kinds) > 1:
            return pa.array([None] * len(values), pa.binary())  # bytes and numbers: no type reads both
        if all(row is None or len(row) <= 1 for row in values):
            array = pa.array([row[0] if row else None for row in values])
        else:
            array = pa.array([row or None for row in values])
        is_list = pa.types.is_list(array.type)
        if kinds == {bytes}:
            with contextlib.suppress(pa.ArrowInvalid):  # no UTF-8
                return array.cast(pa.list_(pa.string()) if is_list else pa.string())
        return array


def _from_records(records: Sequence[bytes], path: Path) -> dict[str, list[list[Any] | None]]:
    import tensorflow as tf

    columns: dict[str, list[list[Any] | None]] = {}
    for row, record in enumerate(records):
        try:
            features = tf.train.Example.FromString(record).features.feature
        # The implementation of protobuf in use decides the class of a decoding error.
        except Exception as error:
            raise ValueError(f"{path}: records must be tf.Examples. Received: {record[:40]!r}") from error
        for name, feature in features.items():
            kind = feature.WhichOneof("kind")
            column = columns.setdefault(name, [])
            column.extend([None] * (row - len(column)))
            column.append(list(getattr(feature, kind).value) if kind else None)
    for column in columns.values():
        column.extend([None] * (len(records) - len(column)))
    return dict(sorted(columns.items()))
