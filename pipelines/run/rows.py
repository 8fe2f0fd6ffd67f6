"""The prepared rows of a run, as raw columns."""

from c2al_tf.cohorts import CohortSizes, Cut, count_sizes
from c2al_tf.data.columns.raw import concatenate
from c2al_tf.data.columns.readers import read_columns
from c2al_tf.data.columns.shards import split_files
from c2al_tf.types import Columns

from .folder import RunFolder

EXPORT_SAMPLE = 4096
"""Validation rows with which an export is proved."""


def read_split(run: RunFolder, split: str, names: set[str]) -> Columns:
    """The named columns of all rows of a split."""
    columns = {name: run.schema.columns[name] for name in sorted(names)}
    return concatenate(list(read_columns(split_files(run.path, split), columns)))


def sample_rows(run: RunFolder, num_rows: int = EXPORT_SAMPLE) -> Columns:
    """The first validation rows, as raw columns of the features."""
    columns = {feature.name: feature.column for feature in run.schema.features}
    return next(iter(read_columns(split_files(run.path, "validation"), columns, num_rows)))


def training_sizes(run: RunFolder, cuts: tuple[Cut, ...]) -> CohortSizes:
    """How much each cohort has to learn from, in one pass over the training files."""
    schema = run.schema
    names = {name for cut in cuts for cohort in cut.cohorts for name in cohort.columns}
    names |= {schema.labels[0]} | ({schema.weight} if schema.weight else set())
    batches = read_columns(split_files(run.path, "train"), {name: schema.columns[name] for name in sorted(names)})
    first, *others = (
        count_sizes(
            rows,
            cuts,
            labels=rows[schema.labels[0]],
            weights=rows[schema.weight] if schema.weight else None,
        )
        for rows in batches
    )
    return sum(others, first)
