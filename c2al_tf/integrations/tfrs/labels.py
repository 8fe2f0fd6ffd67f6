"""Labels of cohorts for batches as a `tfrs.Model` reads them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf

from ...cohorts import Cohort
from ...data.inputs import labels
from ...types import PRIMARY, Tensor


def add_cohort_labels(
    dataset: tf.data.Dataset,
    cohorts: Sequence[Cohort],
    *,
    label_key: str | None = None,
    columns: Callable[[Any], Mapping[str, Tensor]] | None = None,
    primary: str | None = None,
) -> tf.data.Dataset:
    """`c2al_tf.add_cohort_labels` beside what the model reads, which keeps its shape and type.

    Batches that are one dict, the label in it at `label_key`, get the cohorts' labels as further items. Those of
    (features, labels[, weights]) get them in a dict of labels, with `"primary"` for a single label. Each is (batch, 1),
    float32, under the cohort's name.

    Args:
        dataset: Batches.
        cohorts: Their labels are added.
        label_key: Key of the label, 0 or 1, that the cohorts' are made from; None: batches are (features, labels[,
            weights]). The model may read another label: the rating, say, where this is whether it is high.
        columns: Maps the features, or the dict, to the raw columns, each (batch,), that the cohorts are on.
        primary: Which label of a dict of labels the cohorts' are made from.

    Raises:
        ValueError: As of `c2al_tf.add_cohort_labels`, or if batches are not of the form that `label_key` says.
    """
    check_form(dataset.element_spec, label_key)

    def with_label(*batch: Any) -> tuple[Any, Any]:
        return batch, batch[1] if label_key is None else batch[0][label_key]

    def joined(batch: tuple[Any, ...], y: Mapping[str, Tensor]) -> Any:
        added = {cohort.name: y[cohort.name] for cohort in cohorts}
        if label_key is not None:
            return batch[0] | added
        label = dict(batch[1]) if isinstance(batch[1], Mapping) else {PRIMARY: batch[1]}
        return (batch[0], label | added, *batch[2:])

    if label_key is not None:
        labels.check_names(cohorts, dataset.element_spec)
    labelled = labels.add_cohort_labels(
        dataset.map(with_label),
        cohorts,
        columns=lambda batch: batch[0] if columns is None else columns(batch[0]),
        primary=primary,
    )
    return labelled.map(joined)


def check_form(batch: Any, label_key: str | None) -> None:
    """Raises ValueError unless a batch, or its spec, is a dict with the label, or (features, labels[, weights])."""
    if label_key is None and not (isinstance(batch, tuple | list) and len(batch) in (2, 3)):
        raise ValueError(
            "Without `label_key` batches must be (features, labels) or (features, labels, weights); give the key of "
            f"the label where they are one dict. Received: {_form(batch)}"
        )
    if label_key is not None and not (isinstance(batch, Mapping) and label_key in batch):
        raise ValueError(f"Batches must be one dict with the label {label_key!r}. Received: {_form(batch)}")


def _form(batch: Any) -> str:
    return f"a dict of {sorted(batch)}" if isinstance(batch, Mapping) else f"{type(batch).__name__}: {batch}"
