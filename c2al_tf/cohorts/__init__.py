"""Cohorts: predicates on raw columns, divergences between their predictions, and the discovery of divergent pairs.

With all rows at hand `discover_cohorts` does everything. Where predictions lie in shards, the axes are cut once, each
shard is counted where it lies, and the counts, which are small, are added up:

    sample = sum(sample_rows(columns, row_numbers=numbers) for columns, numbers in shards)
    cuts = cut_axes(axes, sample.columns)
    counts = sum(
        count_cohorts(predictions, columns, cuts, labels=labels, row_numbers=numbers)
        for predictions, columns, labels, numbers in shards
    )
    sizes = sum(count_sizes(columns, cuts, labels=labels) for columns, labels in training_shards)
    discovery = rank_cohorts(counts, training=sizes)

Axes may as well be cut on one shard, or by edges given. With equal cuts the result is that of all rows at once.
"""

from .axes import GIVEN as GIVEN, Axis as Axis, Cut as Cut, check_axes as check_axes, cut_axes as cut_axes
from .cohort import Cohort as Cohort, read_once as read_once
from .conditions import Condition as Condition, Interval as Interval, Values as Values
from .counts import (
    CohortCounts as CohortCounts,
    CohortSizes as CohortSizes,
    count_cohorts as count_cohorts,
    count_sizes as count_sizes,
)
from .discovery import discover_cohorts as discover_cohorts, rank_cohorts as rank_cohorts
from .divergence import (
    DIVERGENCES as DIVERGENCES,
    log_normalized as log_normalized,
    prediction_histogram as prediction_histogram,
)
from .drift import find_drift as find_drift, pair_in_use as pair_in_use
from .guard import FEW_POSITIVES as FEW_POSITIVES, RULES as RULES, Guard as Guard
from .results import (
    STABLE as STABLE,
    UNSTABLE as UNSTABLE,
    CohortSummary as CohortSummary,
    Discovery as Discovery,
    Pair as Pair,
)
from .sample import RowSample as RowSample, sample_rows as sample_rows
from .table import RawColumn as RawColumn, Table as Table, raw_column as raw_column, raw_columns as raw_columns
