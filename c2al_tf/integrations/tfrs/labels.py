"""Labels of cohorts on batches of which a `tfrs.Model` gets back what it had."""

from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from ...cohorts import Cohort
from ...data.inputs import labelled_dataset
from ...types import PRIMARY


def add_cohort_labels(dataset: tf.data.Dataset, cohorts: Sequence[Cohort], **options: Any) -> tf.data.Dataset:
    """`c2al_tf.add_cohort_labels`, which says what the options are, for rows of `with_cohort_heads`.

    Raises:
        ValueError: As there, and if labels or weights are a dict whose only key is `primary`: with the cohorts it
            could not be told from one that was no dict, and `compute_loss` would not get it back.
    """
    spec = dataset.element_spec
    for part in spec[1:] if isinstance(spec, tuple) else ():
        if isinstance(part, Mapping) and {*part} == {PRIMARY}:
            raise ValueError(
                f"Labels and weights must be no dict whose only key is {PRIMARY!r}: give the task another name, or "
                f"the tensor alone. Received: {part}"
            )
    return labelled_dataset.add_cohort_labels(dataset, cohorts, **options)
