"""Census-Income (KDD): who of 299,285 people in the US earned over 50,000 dollars a year, in 1994 and 1995.

The data are the US Census Bureau's, published by the UCI Machine Learning Repository under CC BY 4.0:
https://archive.ics.uci.edu/dataset/117/census+income+kdd
"""

import functools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from c2al_tf.data.columns.arrow import from_arrow
from c2al_tf.data.columns.raw import concatenate
from c2al_tf.data.columns.readers import read_columns
from c2al_tf.data.preparation.source import FeatureSpec, Source
from c2al_tf.schema import Column
from c2al_tf.types import Array, Columns

from .download import download_members
from .text import check_lines, read_lines, whole_numbers

URL = "https://archive.ics.uci.edu/static/public/117/census+income+kdd.zip"
LABEL = "label"
AXES = ("age", "weeks_worked", "num_emp", "class_worker", "sex", "race")

COUNTS: Mapping[str, tuple[int, int]] = MappingProxyType({"train": (199_523, 12_382), "test": (99_762, 6_186)})
"""Rows and positives of the official split."""

FILES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "train": ("train.parquet", "census-income.data", "census-income.data.gz"),
        "test": ("test.parquet", "census-income.test", "census-income.test.gz"),
    }
)
"""Where a split may be; the first that is there is read."""

TEXT_COLUMNS = (
    *("age", "class_worker", "det_ind_code", "det_occ_code", "education", "wage_per_hour", "hs_college"),
    *("marital_stat", "major_ind_code", "major_occ_code", "race", "hisp_origin", "sex", "union_member"),
    *("unemp_reason", "full_or_part_emp", "capital_gains", "capital_losses", "stock_dividends", "tax_filer_stat"),
    *("region_prev_res", "state_prev_res", "det_hh_fam_stat", "det_hh_summ", "instance_weight", "mig_chg_msa"),
    *("mig_chg_reg", "mig_move_reg", "mig_same", "mig_prev_sunbelt", "num_emp", "fam_under_18", "country_father"),
    *("country_mother", "country_self", "citizenship", "own_or_self", "vet_question", "vet_benefits"),
    *("weeks_worked", "year", LABEL),
)
"""The columns of a line of text. `instance_weight` is a weight of the survey, not a feature."""

_CODES = ("det_ind_code", "det_occ_code", "own_or_self", "vet_benefits", "year")
_COUNTED = ("age", "num_emp", "weeks_worked")
_AMOUNTS = ("wage_per_hour", "capital_gains", "capital_losses", "stock_dividends")


def _feature(name: str) -> FeatureSpec:
    if name in _CODES:
        return FeatureSpec(name, "categorical", "int64")
    if name in _COUNTED:
        return FeatureSpec(name, "numeric", "float32", num_buckets=100)
    if name in _AMOUNTS:
        # Nearly all of them are 0: with so fine quantiles nearly every other amount is a bucket of its own, which takes
        # NE from 0.481 to 0.472 (with 1,000 buckets as many amounts share one).
        return FeatureSpec(name, "numeric", "float32", num_buckets=10_000, scaling="log")
    # "Unknown" is common, and tells something.
    return FeatureSpec(name, "categorical", "string", missing="slot")


FEATURES = tuple(_feature(name) for name in TEXT_COLUMNS if name not in ("instance_weight", LABEL))

_LABELS = ("- 50000.", "50000+.")
_BATCH_ROWS = 65_536


def open_source(data: Path | None = None, *, cache: Path | None = None, validation_share: float = 0.1) -> Source:
    """Opens the data set; without `data` it is downloaded.

    Args:
        data: Folder with the files of the UCI archive, or with `train.parquet` and `test.parquet`.
        cache: Folder for what is downloaded; `~/.cache/c2al/census` if not given.
        validation_share: Share of the training rows, chosen at random but always the same, to validate on.

    Raises:
        ValueError: If a file is absent or malformed, or has not the official number of rows or positives.
        ConnectionError: If the download fails.
    """
    if not 0 < validation_share < 1:
        raise ValueError(f"`validation_share` must be between 0 and 1. Received: validation_share={validation_share}")
    if data is None:
        data = cache or Path.home() / ".cache" / "c2al" / "census"
        download_members(URL, [names[1] for names in FILES.values()], data)
    read = functools.cache(functools.partial(_read_split, data))
    num_training_rows = COUNTS["train"][0]
    for_validation = np.random.default_rng(0).permutation(num_training_rows) < validation_share * num_training_rows

    def stream(split: str, rows: Array) -> Callable[[], Iterator[Columns]]:
        return lambda: _batches(read(split), rows)

    rows = {
        "train": ("train", np.flatnonzero(~for_validation)),
        "validation": ("train", np.flatnonzero(for_validation)),
        "test": ("test", np.arange(COUNTS["test"][0])),
    }
    return Source(
        features=FEATURES,
        label=LABEL,
        axes=tuple((axis,) for axis in AXES),
        splits={name: stream(*split) for name, split in rows.items()},
        num_rows={name: len(indices) for name, (_, indices) in rows.items()},
    )


def _batches(columns: Columns, rows: Array) -> Iterator[Columns]:
    for start in range(0, len(rows), _BATCH_ROWS):
        yield {name: column[rows[start : start + _BATCH_ROWS]] for name, column in columns.items()}


def _read_split(folder: Path, split: str) -> Columns:
    path = next((folder / name for name in FILES[split] if (folder / name).is_file()), None)
    if path is None:
        raise ValueError(f"{folder}: must hold one of {', '.join(FILES[split])}. Fetch and unpack {URL}")
    columns = {feature.name: Column(feature.name, feature.dtype) for feature in FEATURES if feature.dtype}
    columns[LABEL] = Column(LABEL, "float32")
    rows = concatenate(list(read_columns(path, columns))) if path.suffix == ".parquet" else read_text(path, columns)
    found, expected = (len(rows[LABEL]), int(np.count_nonzero(rows[LABEL] == 1))), COUNTS[split]
    if found != expected:
        raise ValueError(
            f"{path}: the {split} split must have {expected[0]:,} rows, {expected[1]:,} of them positive. "
            f"Received: {found[0]:,} rows, {found[1]:,} positive"
        )
    return rows


def read_text(path: Path, columns: Mapping[str, Column]) -> Columns:
    """Reads columns of a file as it is in the UCI archive: no header, leading blanks, `?` and `NA` where unknown.

    Raises:
        ValueError: If a line is malformed; the message names the file and the line.
    """
    table = read_lines(path, TEXT_COLUMNS, ",")
    return {name: from_arrow(_typed(table, column, path), column) for name, column in columns.items()}


def _typed(table: pa.Table, column: Column, path: Path) -> pa.ChunkedArray:
    texts = table[column.name]
    if column.name == LABEL:
        labels = pc.index_in(texts, pa.array(_LABELS))
        check_lines(pc.is_valid(labels), texts, path, f"the label must be one of {list(_LABELS)}")
        return labels
    if column.dtype == "string":
        return pc.if_else(pc.is_in(texts, pa.array(["?", "NA"])), None, texts)
    return whole_numbers(table, column.name, path)
