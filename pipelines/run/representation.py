"""The shared representation h of trained models, and a linear probe of who is in a cohort."""

from collections.abc import Iterable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from c2al_tf.cohorts import Cohort
from c2al_tf.data.columns.readers import count_rows
from c2al_tf.data.columns.shards import split_files
from c2al_tf.files import read_json, write_json
from c2al_tf.model import REPRESENTATION
from c2al_tf.training.program_cache import compiled_once
from c2al_tf.types import Array

from .folder import RunFolder
from .logits import first_batches, in_shared
from .rows import open_rows, read_split

PROBED = 20_000
"""Rows that a probe learns from, the first of the validation split, and as many test rows that it is measured on."""


def represent(run: RunFolder, seed: int, arm: str, splits: Iterable[str], most: int) -> dict[str, Array]:
    """Representation h, float32 (rows, units), of at most the first `most` rows of each split."""
    model = keras.saving.load_model(run.model_file(seed, arm), compile=False)
    outputs = model.get_layer(REPRESENTATION).output
    encoder = in_shared("encoder", keras.Model(model.input, outputs, name="encoder"))
    encode = compiled_once(encoder, "encode", lambda model: tf.function(lambda x: model(x, training=False)))
    found = {}
    for split in splits:
        rows = min(most, count_rows(split_files(run.path, split)))
        batches = first_batches(run, open_rows(run, split), rows)
        found[split] = np.concatenate([encode(x).numpy() for x, *_ in batches]).astype(np.float32)[:rows]
    return found


def probe_model(run: RunFolder, seed: int, arm: str, cohorts: Sequence[Cohort]) -> dict[str, float | None]:
    """How well a logistic regression tells a cohort's members by h alone: its AUC on test rows, by cohort.

    It learns from the first validation rows. None where the rows of a split are all members or none. Kept beside the
    model.
    """
    file = run.model_folder(seed, arm) / "probe.json"
    described = {cohort.name: str(cohort) for cohort in cohorts}
    known: dict[str, Any] = read_json(file) if file.exists() else {}
    if known.get("cohorts") != described:
        h = represent(run, seed, arm, ("validation", "test"), PROBED)
        names = {name for cohort in cohorts for name in cohort.columns}
        columns = {split: read_split(run, split, names, len(rows)) for split, rows in h.items()}
        members = {c.name: [c.contains(columns[split]) for split in h] for c in cohorts}
        known = {"cohorts": described, "auc": {name: probe(*h.values(), *masks) for name, masks in members.items()}}
        write_json(file, known)
    return dict(known["auc"])


def probe(h: Array, h_test: Array, member: Array, member_test: Array) -> float | None:
    """AUC on test rows of a logistic regression of membership (rows,) on h (rows, units); None without both kinds."""
    # Imported here: it takes a second, and most runs do without it.
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if any(mask.all() or not mask.any() for mask in (member, member_test)):
        return None
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=200)).fit(h, member)
    return float(roc_auc_score(member_test, model.decision_function(h_test)))
