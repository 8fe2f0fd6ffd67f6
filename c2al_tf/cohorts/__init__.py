"""Cohorts: predicates on raw columns, divergences between their predictions, and the discovery of divergent pairs."""

from .axes import Axis as Axis, Cut as Cut, cut_axes as cut_axes
from .cohort import Cohort as Cohort
from .conditions import Interval as Interval, Values as Values
from .counts import CohortCounts as CohortCounts, count_cohorts as count_cohorts
from .discovery import discover_cohorts as discover_cohorts, rank_cohorts as rank_cohorts
from .divergence import (
    DIVERGENCES as DIVERGENCES,
    log_normalized as log_normalized,
    prediction_histogram as prediction_histogram,
)
from .guard import Guard as Guard
from .results import CohortSummary as CohortSummary, Discovery as Discovery, Pair as Pair
