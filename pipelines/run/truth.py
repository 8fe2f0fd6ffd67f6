"""The truth of generated rows beside what a run found: the planted pair, and the NE that no model can beat."""

from typing import Any

import numpy as np
from scipy.special import logit

from c2al_tf.data.columns.raw import concatenate
from c2al_tf.data.columns.readers import read_columns
from c2al_tf.data.columns.shards import split_files
from c2al_tf.evaluation import ALL, REST
from c2al_tf.evaluation.scoring import slice_metrics
from c2al_tf.types import Array

from ..datasets.synthetic_ads import planted_cohorts, true_probabilities
from .folder import RunFolder


def describe_planted(run: RunFolder) -> dict[str, Any] | None:
    """Whether the pair found is the planted one, and the NE of the true probabilities on the test rows.

    None where the truth is not known: the rows are not generated.
    """
    if run.config.data.name != "synthetic_ads":
        return None
    parameters = run.config.data.synthetic_ads
    head, tail = planted_cohorts(parameters)
    planted = {"head": head, "tail": tail}
    found = dict(zip(("head", "tail"), run.cohorts, strict=False))
    names = {name for cohort in (*planted.values(), *run.cohorts) for name in cohort.columns}
    label = run.schema.labels[0]
    schema = run.schema.columns
    columns = concatenate(
        list(read_columns(split_files(run.path, "test"), {name: schema[name] for name in {*names, label}}))
    )
    overlap = {
        role: _overlap(planted[role].contains(columns), cohort.contains(columns)) for role, cohort in found.items()
    }
    truth = logit(true_probabilities(parameters, "test"))
    masks = {cohort.name: cohort.contains(columns) for cohort in run.cohorts}
    masks |= {ALL: np.ones(len(truth), bool), REST: ~np.logical_or.reduce(list(masks.values()))}
    return {
        **{role: str(cohort) for role, cohort in planted.items()},
        "overlap": overlap,
        "found": min(overlap.values()) > 0.9,
        "bayes_ne": {name: slice_metrics(truth[mask], columns[label][mask])["ne"] for name, mask in masks.items()},
    }


def _overlap(a: Array, b: Array) -> float:
    """Rows in both over rows in either."""
    return float((a & b).sum() / max(int((a | b).sum()), 1))
