"""Cohort heads for a `tfrs.Model`, on Keras 2: the process needs TF_USE_LEGACY_KERAS=1."""

from . import keras_2 as keras_2  # before all others: it raises under Keras 3
from .heads import CohortModel as CohortModel, with_cohort_heads as with_cohort_heads
from .labels import add_cohort_labels as add_cohort_labels
from .layers import FMAttention as FMAttention
from .optimizers import RowWiseAdagrad as RowWiseAdagrad
from .task import CohortTask as CohortTask
