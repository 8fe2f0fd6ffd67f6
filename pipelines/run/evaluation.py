"""Arms against their reference on the test rows: each model is counted once, arms are joined from the counts."""

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from c2al_tf.cohorts import GIVEN, Cohort, read_once
from c2al_tf.data.columns.shards import split_files
from c2al_tf.evaluation import (
    ALL,
    REST,
    ArmCounts,
    Evaluation,
    add_label,
    compare_arms,
    count_arms,
    join_arms,
    join_slices,
)
from c2al_tf.schema import Schema
from c2al_tf.types import Array

from .folder import RunFolder, save_arrays
from .logits import split_logits
from .rows import read_split

_TOLERANCE = 1e-6


@dataclass(frozen=True, eq=False)
class TestRows:
    """The test rows, as an evaluation needs them.

    Args:
        labels: (rows,) in {0, 1}.
        weights: (rows,), or None.
        units: (rows,) ids whose rows are resampled together, or None.
        slices: Name to mask (rows,): the targeted cohorts, everyone else, the other cohorts of every axis.
        partitions: Names of slices that together hold every row once, by what they cut.
        version: Changes with the files.
        more_labels: Further labels (rows,) by task: counted on all rows, on the targeted cohorts and everyone else.
        targeted: Names of the slices of targeted cohorts.
    """

    labels: Array
    weights: Array | None
    units: Array | None
    slices: Mapping[str, Array]
    partitions: Mapping[str, tuple[str, ...]]
    version: str
    more_labels: Mapping[str, Array] = field(default_factory=dict)
    targeted: tuple[str, ...] = ()

    @cached_property
    def digests(self) -> dict[str, str]:
        """Of each slice what changes with its rows."""
        masks = {name: hashlib.sha256(np.packbits(mask).tobytes()).hexdigest() for name, mask in self.slices.items()}
        return {ALL: "", **masks}


def read_test_rows(run: RunFolder, more: Iterable[Cohort] = (), targeted: Sequence[Cohort] | None = None) -> TestRows:
    """Reads the test rows of a run, with slices for its cohorts, or those `targeted` in their place, and for `more`."""
    chosen = list(run.cohorts if targeted is None else targeted)
    axes = {axis.name: [s.cohort for s in axis.cohorts] for axis in run.discovery.axes}
    others = [cohort for cohorts in (*axes.values(), list(more)) for cohort in cohorts if cohort not in chosen]
    columns = read_split(run, "test", _columns_of(run, [*chosen, *others]))
    by_name = {cohort.name: cohort for cohort in (*others, *chosen)}
    for cohort in others:
        if by_name[cohort.name] != cohort:
            raise ValueError(
                f"Cohorts of one name must be equal. Received: {cohort.name}: {cohort}, {by_name[cohort.name]}"
            )
    raw = read_once(columns, (*chosen, *others))
    slices = {cohort.name: cohort.contains(raw) for cohort in chosen}
    slices[REST] = ~np.logical_or.reduce(list(slices.values()))
    slices |= {cohort.name: cohort.contains(raw) for cohort in others}
    groups = {"targeted cohorts": [*(cohort.name for cohort in chosen), REST]}
    for axis, cohorts in axes.items():
        if axis == GIVEN:
            continue
        groups[axis] = [cohort.name for cohort in cohorts]
        outside = ~np.logical_or.reduce([slices[member] for member in groups[axis]])
        if outside.any():
            slices[f"{axis}, other"] = outside
            groups[axis].append(f"{axis}, other")
    weight, unit = run.schema.weight, run.config.unit
    stats = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in split_files(run.path, "test")]
    return TestRows(
        columns[run.schema.labels[0]],
        columns[weight] if weight else None,
        columns[unit] if unit else None,
        slices,
        {group: tuple(names) for group, names in groups.items() if _is_partition([slices[name] for name in names])},
        repr((stats, weight, unit)),
        {label: columns[label] for label in run.schema.labels[1:]},
        tuple(cohort.name for cohort in chosen),
    )


def label_slices(schema: Schema) -> list[str]:
    """What the slices of all rows under the further labels of a schema are called."""
    return [_label_slice(label) for label in schema.labels[1:]]


def _label_slice(label: str) -> str:
    return f"label {label}"


def _columns_of(run: RunFolder, cohorts: Iterable[Cohort]) -> set[str]:
    names = {name for cohort in cohorts for name in cohort.columns} | {*run.schema.labels}
    return names | {name for name in (run.config.unit, run.schema.weight) if name}


def _is_partition(masks: Sequence[Array]) -> bool:
    return bool((np.sum(masks, axis=0) == 1).all())


def evaluate_arm(
    run: RunFolder, arm: str, reference: str, seeds: Sequence[int], rows: TestRows, named: Sequence[str]
) -> Evaluation:
    """Compares an arm with its reference on the test rows, over paired seeds.

    Args:
        run: The run.
        arm: The arm.
        reference: The arm that it is compared with.
        seeds: The seeds of both.
        rows: The test rows.
        named: Slices that were named beforehand; all rows under each further label are, too.

    Raises:
        RuntimeError: If NE_diff of a partition does not average to the overall one: a fault of the evaluation.
    """
    counts = join_arms({name: [count_model(run, seed, name, rows) for seed in seeds] for name in (reference, arm)})
    _check_partitions(counts, rows.partitions)
    return compare_arms(counts, reference=reference, named=[*named, *map(_label_slice, rows.more_labels)])


def count_model(run: RunFolder, seed: int, arm: str, rows: TestRows) -> ArmCounts:
    """The counts of one model on the test rows, kept beside it: a slice that is new costs itself alone.

    All rows under a further label are the slice `label <its name>`, a cohort `label <its name>, <cohort>`.
    """
    counts = _count_label(run, seed, arm, rows)
    few = {name: mask for name, mask in rows.slices.items() if name in (*rows.targeted, REST)}
    for task, labels in rows.more_labels.items():
        others = _count_label(run, seed, arm, dataclasses.replace(rows, labels=labels, slices=few), task)
        counts = add_label(counts, _label_slice(task), others)
    return counts


def _count_label(run: RunFolder, seed: int, arm: str, rows: TestRows, task: str | None = None) -> ArmCounts:
    """The counts of one model for one label: that of `task`, the first by default."""
    file = run.model_folder(seed, arm) / ("test_counts.npz" if task is None else f"test_{task}_counts.npz")
    logits = split_logits(run, seed, arm, "test", task)
    digest = hashlib.sha256(rows.version.encode() + logits.tobytes()).hexdigest()
    known, digests = _read_counts(file, digest)
    new = {name: mask for name, mask in rows.slices.items() if digests.get(name) != rows.digests[name]}
    if new or not known:
        counted = count_arms(
            {"model": logits},
            rows.labels,
            new,
            weights=rows.weights,
            units=rows.units,
            exact=True,
            progress=False,
        )
        digests |= rows.digests
        known = [join_slices([counted, *known], list(digests))]
        _write_counts(file, known[0], digest, digests)
    return join_slices(known, list(rows.digests))


def _check_partitions(counts: ArmCounts, partitions: Mapping[str, Sequence[str]]) -> None:
    """Overall NE_diff is the mean of a partition's, weighted by the reference's log loss (METHOD section 4)."""
    reference, arm = counts.losses.sum(axis=-1)
    whole = counts.slices.index(ALL)
    for name, slices in partitions.items():
        at = [counts.slices.index(part) for part in slices if counts.rows[counts.slices.index(part)]]
        differences = arm[:, at] / reference[:, at] - 1
        mean = (reference[:, at] * differences).sum(axis=1) / reference[:, at].sum(axis=1)
        if not np.allclose(mean, arm[:, whole] / reference[:, whole] - 1, rtol=0, atol=_TOLERANCE):
            raise RuntimeError(f"NE_diff of {name} must average to the overall one, by seed. Received: {mean}")


_ARRAYS = tuple(f.name for f in dataclasses.fields(ArmCounts) if f.name not in ("arms", "slices", "grouped", "seed"))


def _write_counts(file: Path, counts: ArmCounts, digest: str, digests: Mapping[str, str]) -> None:
    values: dict[str, Any] = {name: getattr(counts, name) for name in _ARRAYS}
    values |= {"slices": np.array([*digests]), "digests": np.array([*digests.values()])}
    save_arrays(file, values | {"grouped": counts.grouped, "seed": counts.seed, "digest": digest})


def _read_counts(file: Path, digest: str) -> tuple[list[ArmCounts], dict[str, str]]:
    """What `_write_counts` wrote of the same rows and logits, with the digests of its slices; nothing if of others."""
    if not file.exists():
        return [], {}
    with np.load(file) as saved:
        if str(saved["digest"]) != digest:
            return [], {}
        arrays: dict[str, Any] = {name: saved[name] for name in _ARRAYS}
        digests = dict(zip(saved["slices"].tolist(), saved["digests"].tolist(), strict=True))
        grouped, seed = bool(saved["grouped"]), int(saved["seed"])
    return [ArmCounts(arms=("model",), slices=(*digests,), grouped=grouped, seed=seed, **arrays)], digests
