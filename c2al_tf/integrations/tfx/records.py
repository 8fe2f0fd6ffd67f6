"""The files of tf.Examples that TFX's components write: TFRecords, compressed with GZIP."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from ...data.columns.raw import MISSING
from ...types import Array

Spec = Mapping[str, Any]
"""`tf.io` features by name, as `parsing_spec` gives them."""


def read_examples(
    file_patterns: str | Sequence[str],
    spec: Spec,
    batch_size: int,
    *,
    label_key: str | None = None,
    shuffle_rows: int = 0,
    compression: str = "GZIP",
) -> tf.data.Dataset:
    """Batches of {column: values}, or of ({column: values}, label (batch, 1)) with a `label_key`.

    Columns are what `tf.io.parse_example` gives: a FixedLenFeature (batch, *shape), a VarLenFeature a SparseTensor.

    Args:
        file_patterns: Patterns of files, such as `fn_args.train_files`. They are read in the order of their names.
        spec: The features.
        batch_size: Rows of a batch; the last one may have fewer.
        label_key: The feature that becomes the label, float32.
        shuffle_rows: Rows among which the next one is drawn, anew in each pass; 0 keeps the order.
        compression: `"GZIP"`, `"ZLIB"` or `""`.

    Raises:
        ValueError: If no file matches, or the label is not among the features or not one number a row.
    """
    patterns = [file_patterns] if isinstance(file_patterns, str) else list(file_patterns)
    files = sorted({file for pattern in patterns for file in tf.io.gfile.glob(pattern)})
    if not files:
        raise ValueError(f"`file_patterns` must match files. Received: {patterns}")
    if label_key is not None:
        _check_label(spec, label_key)

    def parse(serialized: tf.Tensor) -> Any:
        columns = tf.io.parse_example(serialized, dict(spec))
        if label_key is None:
            return columns
        return columns, tf.reshape(tf.cast(columns.pop(label_key), tf.float32), (-1, 1))

    rows = tf.data.TFRecordDataset(files, compression)
    if shuffle_rows:
        rows = rows.shuffle(shuffle_rows)
    rows = rows.batch(batch_size).map(parse, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return rows.prefetch(tf.data.AUTOTUNE)


def read_raw(file_patterns: str | Sequence[str], spec: Spec, count: int, compression: str = "GZIP") -> dict[str, Array]:
    """The first rows of files as NumPy columns, which `export_for_serving` takes as its `sample`.

    A column of a VarLenFeature is (rows, most values of a row), padded with missing values: `""`, NaN or the lowest
    int64.

    Raises:
        ValueError: If no file matches, or the files have no rows.
    """
    for columns in read_examples(file_patterns, spec, count, compression=compression).take(1):
        return {name: _dense(values) for name, values in columns.items()}
    raise ValueError(f"`file_patterns` must match files with rows. Received: {file_patterns}")


def _dense(values: Any) -> Array:
    if isinstance(values, tf.SparseTensor):
        values = tf.sparse.to_dense(values, MISSING[values.dtype.name])
    return np.asarray(values.numpy())


def _check_label(spec: Spec, label_key: str) -> None:
    feature: Any = spec.get(label_key)
    shape = list(feature.shape) if isinstance(feature, tf.io.FixedLenFeature) else None
    if shape not in ([], [1]) or feature.dtype == tf.string:
        raise ValueError(
            "`label_key` must name a feature of one number a row. "
            f"Received: label_key={label_key!r}, which is {feature}; there are {sorted(spec)}"
        )
