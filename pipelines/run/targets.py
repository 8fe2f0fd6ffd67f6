"""The cohorts of a run: found on the validation rows from the baselines' predictions, and chosen for each arm."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.special import expit

from c2al_tf.cohorts import Axis, Cohort, Discovery, count_cohorts, cut_axes, rank_cohorts
from c2al_tf.files import read_json, write_json
from c2al_tf.schema import CategoricalFeature, Schema

from .arms import BASELINE, Arm
from .choice import choose, random_rows
from .folder import RunFolder
from .logits import split_logits
from .rows import count_split, read_split, training_sizes


def discover_run(run: RunFolder) -> None:
    """Finds the cohorts from the predictions of all baselines on the validation rows."""
    if not (run.path / "cohorts.json").exists():
        config = run.config.cohorts
        given = [cohort.cohort() for cohort in config.given]
        write_json(run.path / "cohorts.json", _discover(run, config.axes or _default_axes(run.schema), given).to_json())


def arm_cohorts(run: RunFolder, arm: Arm) -> tuple[Any, ...]:
    """The cohorts that have a task in an arm.

    Raises:
        ValueError: If the cohorts are not found yet, or there are none such.
    """
    choice = arm.cohorts
    if choice is None:
        return ()
    if choice.by != "random":
        discovery = _discovery_along(run, choice.axes) if choice.axes else run.discovery
        return choose(choice, discovery, run.cohorts, run.config.cohorts.divergence)
    counts = count_split(run, "train", tuple(run.cohorts))
    sizes = {cohort: (count_members(run, cohort), counts.positives[cohort.name]) for cohort in run.cohorts}
    columns = [*(feature.name for feature in run.schema.features), run.schema.labels[0]]
    positives = next(iter(counts.positives.values()))
    return random_rows(choice, sizes, counts.rows, positives, columns)


def count_members(run: RunFolder, cohort: Cohort) -> int:
    """Training rows of a targeted cohort."""
    summaries = {s.cohort: s.training_rows for axis in run.discovery.axes for s in axis.cohorts}
    return summaries[cohort]


def _discovery_along(run: RunFolder, axes: Sequence[Axis]) -> Discovery:
    """What there is along axes of an arm's own, found once."""
    digest = hashlib.sha256(json.dumps([repr(axis) for axis in axes]).encode()).hexdigest()[:8]
    file = run.path / f"cohorts-{digest}.json"
    if not file.exists():
        write_json(file, _discover(run, axes, ()).to_json())
    return Discovery.from_json(read_json(file))


def _discover(run: RunFolder, axes: Sequence[Axis], given: Sequence[Cohort]) -> Discovery:
    config, schema = run.config.cohorts, run.schema
    names = {name for axis in axes for name in axis.columns} | {name for cohort in given for name in cohort.columns}
    names |= {schema.labels[0]} | ({schema.weight} if schema.weight else set())
    columns = read_split(run, "validation", names | ({run.config.unit} if run.config.unit else set()))
    weights = columns[schema.weight] if schema.weight else None
    present = columns if weights is None else {name: values[weights > 0] for name, values in columns.items()}
    cuts = cut_axes(axes, present, given=given)
    logits = np.stack([split_logits(run, seed, BASELINE, "validation") for seed in run.seeds_of(BASELINE)])
    counts = count_cohorts(
        expit(logits.astype(np.float64)),
        columns,
        cuts,
        labels=columns[schema.labels[0]],
        weights=weights,
        units=columns[run.config.unit] if run.config.unit else None,
    )
    return rank_cohorts(counts, training=training_sizes(run, cuts), divergence=config.divergence, guard=config.guard)


def _default_axes(schema: Schema) -> tuple[Axis, ...]:
    """Every semantic axis of the data set; a column that the model takes for categories is cut into its values."""
    categorical = {feature.name for feature in schema.features if isinstance(feature, CategoricalFeature)}
    return tuple(
        Axis(names, categories=tuple(n for n in names if n in categorical and schema.columns[n].dtype == "int64"))
        for names in schema.axes
    )
