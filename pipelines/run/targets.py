"""The cohorts of a run: found on the validation rows from the baselines' predictions, and chosen for each arm."""

import hashlib
import itertools
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import expit
from tqdm import tqdm

from c2al_tf.cohorts import (
    GIVEN,
    Axis,
    Cohort,
    CohortCounts,
    Cut,
    Discovery,
    RowSample,
    count_cohorts,
    cut_axes,
    rank_cohorts,
    sample_rows,
)
from c2al_tf.data.columns.raw import num_rows
from c2al_tf.data.columns.readers import count_rows, read_columns
from c2al_tf.data.columns.shards import split_files
from c2al_tf.files import write_json
from c2al_tf.schema import CategoricalFeature, Schema
from c2al_tf.types import Array, Columns

from .arms import BASELINE, Arm, Choice
from .choice import choose, random_rows
from .clusters import describe_baseline
from .folder import RunFolder
from .logits import split_logits
from .rows import count_split, open_rows, training_sizes

_BATCH_ROWS = 1 << 18
"""Rows that are held at a time."""


def discover_run(run: RunFolder) -> None:
    """Finds cohorts in the predictions of all baselines on the validation rows, also along the cuts of single arms."""
    if not (run.path / "cohorts.json").exists():
        given = [cohort.cohort() for cohort in run.config.cohorts.given]
        write_json(run.path / "cohorts.json", _discover_along(run, _axes(run), given).to_json())
    for arm in run.arms.values():
        choice = arm.cohorts
        if choice is None or not any(choice.cuts) or _file_of(run, choice).exists():
            continue
        if choice.clusters:
            found = _discover_clusters(run, choice.clusters)
        else:
            found = _discover_along(run, choice.axes or (*_axes(run), *_crosses(run, choice.crosses)))
        write_json(_file_of(run, choice), found.to_json())


def arm_cohorts(run: RunFolder, arm: Arm) -> tuple[Any, ...]:
    """The cohorts that have a task in an arm.

    Raises:
        ValueError: If the cohorts are not found yet, or there are none such.
    """
    choice = arm.cohorts
    if choice is None:
        return ()
    if choice.by != "random":
        return choose(choice, _discovery_of(run, choice), run.cohorts, run.config.cohorts.divergence)
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


def arm_divergence(run: RunFolder, arm: Arm, cohorts: Sequence[Any]) -> float | None:
    """The divergence, by the run's measure, of the pair that an arm's cohorts are; None if they are no pair found."""
    if arm.cohorts is None or arm.cohorts.by == "random":
        return None
    discovery = _discovery_of(run, arm.cohorts)
    found = (pair for pair in discovery.pairs if {*pair.cohorts} == {*cohorts})
    return next((pair.divergences[discovery.divergence] for pair in found), None)


def _discovery_of(run: RunFolder, choice: Choice) -> Discovery:
    return run.read_discovery(_file_of(run, choice)) if any(choice.cuts) else run.discovery


def _file_of(run: RunFolder, choice: Choice) -> Path:
    """Where the discovery along the cuts of an arm's own is."""
    read = (run.discovery.num_seeds, *choice.cuts)
    digest = hashlib.sha256(json.dumps([repr(each) for each in read]).encode()).hexdigest()[:8]
    return run.path / f"cohorts-{digest}.json"


def _discover_along(run: RunFolder, axes: Sequence[Axis], given: Sequence[Cohort] = ()) -> Discovery:
    """Finds cohorts in two passes, of which the first draws rows to cut axes on: all, if there are not too many."""
    readers: list[Axis | Cohort] = [*axes, *given]
    weight, read = run.schema.weight, {name for reader in readers for name in reader.columns}

    def drawn(numbers: Array, batch: Columns) -> RowSample:
        present = slice(None) if weight is None else batch[weight] > 0
        return sample_rows({name: batch[name][present] for name in sorted(read)}, row_numbers=numbers[present])

    sample: RowSample = _sum(run, readers, drawn, "drawing rows")
    return _rank(run, cut_axes(axes, sample.columns, given=given))


def _discover_clusters(run: RunFolder, clusters: int) -> Discovery:
    return _rank(run, (Cut(f"{clusters} clusters of h", describe_baseline(run, clusters)),))


def _rank(run: RunFolder, cuts: tuple[Cut, ...]) -> Discovery:
    config, weight, unit = run.config.cohorts, run.schema.weight, run.config.unit
    logits = [split_logits(run, seed, BASELINE, "validation") for seed in run.seeds_of(BASELINE)]

    def counted(numbers: Array, batch: Columns) -> CohortCounts:
        of_batch = np.stack([each[numbers[0] : numbers[-1] + 1] for each in logits])
        return count_cohorts(
            expit(of_batch.astype(np.float64)),
            batch,
            cuts,
            labels=batch[run.schema.labels[0]],
            weights=batch[weight] if weight else None,
            units=batch[unit] if unit else None,
            row_numbers=numbers,
            progress=False,
        )

    counts: CohortCounts = _sum(run, [cohort for cut in cuts for cohort in cut.cohorts], counted, "counting cohorts")
    return rank_cohorts(counts, training=training_sizes(run, cuts), divergence=config.divergence, guard=config.guard)


def _sum(
    run: RunFolder, readers: Iterable[Axis | Cohort], count: Callable[[Array, Columns], Any], description: str
) -> Any:
    """The sum of what is counted in batches of validation rows, each with the numbers of its rows.

    A batch has the columns that axes and cohorts read, the label, weights and units.
    """
    names = {name for reader in readers for name in reader.columns}
    names |= {run.schema.labels[0], *filter(None, (run.schema.weight, run.config.unit))}
    files, columns = split_files(run.path, "validation"), {name: run.schema.columns[name] for name in sorted(names)}
    found: Any = 0
    first = 0
    with tqdm(total=count_rows(files), desc=description, unit=" rows", unit_scale=True, delay=1) as bar:
        for batch in read_columns(files, columns, _BATCH_ROWS):
            rows = num_rows(batch)
            found = found + count(np.arange(first, first + rows), batch)
            first += rows
            bar.update(rows)
    return found


def _axes(run: RunFolder) -> tuple[Axis, ...]:
    return run.config.cohorts.axes or _default_axes(run.schema)


def _crosses(run: RunFolder, number: int) -> tuple[Axis, ...]:
    """Crosses of two of the run's axes of one column each, those of the axes with the most divergent pairs first.

    Raises:
        ValueError: If there are not so many beside the run's own.
    """
    axes = {axis.columns[0]: axis for axis in reversed(_axes(run)) if len(axis.columns) == 1}
    most = dict.fromkeys(axes, 0.0)
    for pair in run.discovery.pairs:
        column = next((name for name, axis in axes.items() if axis.name == pair.axis), None)
        if column is not None and not pair.too_small:
            most[column] = max(most[column], pair.divergences[run.discovery.divergence])
    own = {frozenset(axis.columns) for axis in _axes(run)}
    both = [names for names in itertools.combinations(sorted(most), 2) if frozenset(names) not in own]
    if len(both) < number:
        raise ValueError(
            f"`crosses` must be at most {len(both)}: so many pairs of the run's axes are not crossed yet. "
            f"Received: crosses={number}"
        )
    first = sorted(both, key=lambda names: -sum(most[name] for name in names))[:number]
    return tuple(_cross(axes[a], axes[b]) for a, b in first)


def _cross(a: Axis, b: Axis) -> Axis:
    return Axis(
        a.columns + b.columns,
        edges={**a.edges, **b.edges},
        quantiles={**a.quantiles, **b.quantiles},
        categories=a.categories + b.categories,
        max_cohorts=max(a.max_cohorts, b.max_cohorts),
    )


def _default_axes(schema: Schema) -> tuple[Axis, ...]:
    """Every semantic axis of the data set; a column that the model takes for categories is cut into its values."""
    categorical = {feature.name for feature in schema.features if isinstance(feature, CategoricalFeature)}
    return tuple(
        Axis(names, categories=tuple(n for n in names if n in categorical and schema.columns[n].dtype == "int64"))
        for names in schema.axes
    )
