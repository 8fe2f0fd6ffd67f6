"""The cohorts of a run: found on the validation rows from the baselines' predictions, and chosen for each arm."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import expit

from c2al_tf.cohorts import GIVEN, Axis, Cohort, Cut, Discovery, count_cohorts, cut_axes, rank_cohorts
from c2al_tf.files import write_json
from c2al_tf.schema import CategoricalFeature, Schema

from .arms import BASELINE, Arm
from .choice import choose, random_rows
from .folder import RunFolder
from .logits import split_logits
from .rows import count_split, open_rows, read_split, training_sizes


def discover_run(run: RunFolder) -> None:
    """Finds cohorts in the predictions of all baselines on the validation rows, also along the axes of single arms."""
    if not (run.path / "cohorts.json").exists():
        config = run.config.cohorts
        given = [cohort.cohort() for cohort in config.given]
        found = _discover(run, config.axes or _default_axes(run.schema), given)
        write_json(run.path / "cohorts.json", found.to_json())
    for arm in run.arms.values():
        axes = arm.cohorts.axes if arm.cohorts else ()
        if axes and not _file_of(run, axes).exists():
            write_json(_file_of(run, axes), _discover(run, axes, ()).to_json())


def arm_cohorts(run: RunFolder, arm: Arm) -> tuple[Any, ...]:
    """The cohorts that have a task in an arm.

    Raises:
        ValueError: If the cohorts are not found yet, or there are none such.
    """
    choice = arm.cohorts
    if choice is None:
        return ()
    if choice.by != "random":
        discovery = run.read_discovery(_file_of(run, choice.axes)) if choice.axes else run.discovery
        return choose(choice, discovery, run.cohorts, run.config.cohorts.divergence)
    if isinstance(open_rows(run, "train"), list):
        raise ValueError(
            "Rows drawn at random need the encoded rows, which `c2al prepare` keeps of up to 16 GiB a split"
        )
    sizes = training_sizes(run, (Cut(GIVEN, tuple(run.cohorts)),))
    counted = np.stack([sizes.rows, np.zeros_like(sizes.rows) if sizes.positives is None else sizes.positives], axis=1)
    columns = [*(feature.name for feature in run.schema.features), run.schema.labels[0]]
    positives = next(iter(count_split(run, "train").positives.values()))
    by_cohort = dict(zip(run.cohorts, map(tuple, counted.tolist()), strict=True))
    return random_rows(choice, by_cohort, sizes.total_rows, positives, columns)


def _file_of(run: RunFolder, axes: Sequence[Axis]) -> Path:
    """Where the discovery along axes of an arm's own is."""
    digest = hashlib.sha256(json.dumps([repr(axis) for axis in axes]).encode()).hexdigest()[:8]
    return run.path / f"cohorts-{digest}.json"


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
