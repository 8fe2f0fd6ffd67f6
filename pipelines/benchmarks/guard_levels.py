"""How often discovery and evaluation claim a difference where there is none, and find one where there is.

Example: python -m c2al_pipelines.benchmarks.guard_levels --tries 200 --output guard_levels.json
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import jsonargparse
import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.special import expit
from tqdm import tqdm

from c2al_tf.cohorts import Axis, Guard, discover_cohorts
from c2al_tf.evaluation import compare_arms, count_arms
from c2al_tf.files import write_json
from c2al_tf.types import Array

LEVEL = 0.05
"""Of the claims that are counted. A true rate of 5 % makes at most 16 of 200 in 97.5 % of tries."""

_SLICES = (2, 3, 5, 7, 8, 9, 10, 16)
"""Cohorts of the evaluation's axes: 60 slices."""


@dataclass(frozen=True)
class Case:
    """One line of the table.

    Args:
        what: What the rows are like.
        claims: Maps a seed to whether a claim was made, by the name of the claim.
        right: Whether the claims are right: then the more the better.
    """

    what: str
    claims: Callable[[int], Mapping[str, bool]]
    right: bool = False


@dataclass(frozen=True)
class Rows:
    """Rows of one try: predictions of cohorts `a`, `b` and so on.

    Args:
        predictions: Probabilities of shape (rows,).
        groups: Number of each row's cohort, of shape (rows,).
        labels: 0 or 1, of shape (rows,), or None.
        units: Ids of shape (rows,), or None for independent rows.
        alike: Numbers of the cohorts that do not differ; all if empty.
    """

    predictions: Array
    groups: Array
    labels: Array | None = None
    units: Array | None = None
    alike: tuple[int, ...] = field(default=())


def independent(seed: int, sizes: tuple[int, ...]) -> Rows:
    """Rows whose predictions have one law in all cohorts, and whose labels follow them."""
    rng = np.random.default_rng(seed)
    predictions = expit(-3 + rng.normal(size=sum(sizes)))
    labels = rng.random(sum(sizes)) < predictions
    return Rows(predictions, np.repeat(np.arange(len(sizes)), sizes), labels)


def clustered(seed: int, *, across: bool) -> Rows:
    """300 users of 200 rows with an effect of each, dealt to 5 cohorts: whole users, or the rows of each."""
    rng = np.random.default_rng(seed)
    users = np.repeat(np.arange(300), 200)
    if across:
        shares = rng.dirichlet(np.full(5, 0.5), 300)
        groups = np.concatenate([rng.choice(5, 200, p=share) for share in shares])
    else:
        groups = rng.integers(5, size=300)[users]
    predictions = expit(-3 + rng.normal(size=300)[users] + 0.5 * rng.normal(size=len(users)))
    return Rows(predictions, groups, rng.random(len(users)) < predictions, users)


def one_different(seed: int) -> Rows:
    """Two small cohorts of one law, beside a large one of another."""
    rng = np.random.default_rng(seed)
    predictions = np.concatenate([np.exp(rng.uniform(np.log(1e-6), 0, 8000)), np.full(400_000, 1e-3)])
    groups = np.repeat([0, 1, 2], [4000, 4000, 400_000])
    return Rows(predictions, groups, rng.random(len(groups)) < predictions, alike=(0, 1))


def overfitted(seed: int) -> Rows:
    """Predictions that vary more in some cohorts, though all have one positive rate and are calibrated."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(5), 4000)
    logits = rng.normal(size=len(groups)) * np.linspace(0.2, 1.2, 5)[groups]
    predictions = expit(logits - 2)
    for group in range(5):
        predictions[groups == group] *= 0.12 / predictions[groups == group].mean()
    return Rows(np.minimum(predictions, 1), groups, rng.random(len(groups)) < 0.12)


def shifted(seed: int, logits: float, rows: int) -> Rows:
    """Two cohorts whose predictions and labels differ by some logits."""
    rng = np.random.default_rng(seed)
    groups = np.repeat([0, 1], rows)
    predictions = expit(-3 + logits * groups + rng.normal(size=2 * rows))
    return Rows(predictions, groups, rng.random(2 * rows) < predictions)


def discovery_claims(make: Callable[[int], Rows], seed: int) -> dict[str, bool]:
    """Whether a pair of cohorts that do not differ (or any pair) passes the test of the predictions, and the guard."""
    rows = make(seed)
    found = discover_cohorts(
        rows.predictions,
        {"group": rows.groups},
        [Axis(("group",), categories=("group",))],
        labels=rows.labels,
        units=rows.units,
        guard=Guard(min_positives=0, min_share=0.0, max_p_value=LEVEL),
        num_resamples=2,
        seed=seed,
        progress=False,
    )
    names = {f"group_{n}" for n in rows.alike}
    pairs = [pair for pair in found.pairs if not names or {c.name for c in pair.cohorts} <= names]
    smallest = min(pair.p_value for pair in pairs if pair.p_value is not None)
    return {
        "the predictions differ, at 5 %": smallest <= LEVEL,
        "the predictions differ, at 1 %": smallest <= Guard().max_p_value,
        "a pair is accepted, at 5 %": any(pair.accepted for pair in pairs),
    }


def acceptance(make: Callable[[int], Rows], seed: int) -> dict[str, bool]:
    """Whether a pair is accepted, where the predictions do differ."""
    accepted = "a pair is accepted, at 5 %"
    return {accepted: discovery_claims(make, seed)[accepted]}


def ranking_claims(seed: int) -> dict[str, bool]:
    """Whether the pair that differs more, of 200,000 + 200,000 rows 0.6 logits apart, beats 1,200 + 1,200 rows 0.45."""
    rng = np.random.default_rng(seed)
    sizes, logits = (1200, 1200, 200_000, 200_000), (0.0, 0.45, 0.0, 0.6)
    groups = np.repeat(np.arange(4), sizes)
    predictions = expit(-3 + np.repeat(logits, sizes) + rng.normal(size=len(groups)))
    columns = {
        "few": np.where(groups < 2, groups, np.iinfo(np.int64).min),
        "many": np.where(groups >= 2, groups, np.iinfo(np.int64).min),
    }
    found = discover_cohorts(
        predictions,
        columns,
        [Axis((name,), categories=(name,)) for name in columns],
        guard=Guard(min_share=0.0),
        seed=seed,
        progress=False,
    )
    return {"the larger difference first": found.pairs[0].axis == "many"}


def evaluation_claims(seed: int, num_seeds: int, slice_sd: float) -> dict[str, bool]:
    """Whether one of 60 slices is called better or worse where both arms are drawn alike.

    Args:
        seed: Of the rows and the models.
        num_seeds: Paired seeds.
        slice_sd: Standard deviation of what each model adds to the logits of each slice; 0.1 to those of each row.
    """
    rng = np.random.default_rng(seed)
    rows = 10_000
    axes = [rng.choice(size, rows, p=rng.dirichlet(np.full(size, 2.0))) for size in _SLICES]
    truth = -2.5 + sum(rng.normal(0, 0.4, size)[axis] for size, axis in zip(_SLICES, axes, strict=True))
    labels = rng.random(rows) < expit(truth)

    def model() -> Array:
        errors = [rng.normal(0, slice_sd, size)[axis] for size, axis in zip(_SLICES, axes, strict=True)]
        return np.asarray(truth + sum(errors) + rng.normal(0, 0.1, rows))

    logits = {arm: np.stack([model() for _ in range(num_seeds)]) for arm in ("baseline", "c2al")}
    slices = {
        f"{a}={value}": axis == value
        for a, (size, axis) in enumerate(zip(_SLICES, axes, strict=True))
        for value in range(size)
    }
    found = compare_arms(count_arms(logits, labels, slices, seed=seed, progress=False))
    claims = found.claims["c2al"]
    intervals = [(d.low, d.high) for name, d in found.ne_diff["c2al"].items() if name in slices]
    return {
        "called better or worse": bool({*claims.better, *claims.worse} - {"all"}),
        "an interval without 0": any(
            low is not None and high is not None and not low <= 0 <= high for low, high in intervals
        ),
    }


CASES = (
    Case("5 cohorts of 4,000 independent rows", partial(discovery_claims, partial(independent, sizes=(4000,) * 5))),
    Case(
        "2 cohorts of 1,000 and 2 of 50,000 independent rows",
        partial(discovery_claims, partial(independent, sizes=(1000, 1000, 50_000, 50_000))),
    ),
    Case("300 users of 200 rows, each in 1 of 5 cohorts", partial(discovery_claims, partial(clustered, across=False))),
    Case("300 users of 200 rows, each in several", partial(discovery_claims, partial(clustered, across=True))),
    Case("2 equal cohorts beside a different one", partial(discovery_claims, one_different)),
    Case("an overfitted axis: equal labels and calibration", partial(acceptance, overfitted)),
    Case("0.01 logits, 500,000 rows a cohort", partial(acceptance, partial(shifted, logits=0.01, rows=500_000))),
    Case("0.3 logits, 5,000 rows a cohort", partial(discovery_claims, partial(shifted, logits=0.3, rows=5000)), True),
    Case("0.1 logits, 5,000 rows a cohort", partial(discovery_claims, partial(shifted, logits=0.1, rows=5000)), True),
    Case("1,200 rows 0.45 logits, 200,000 rows 0.6 logits apart", ranking_claims, True),
    *(
        Case(
            f"60 slices, {seeds} seeds, models {sd:g} logits apart in a slice",
            partial(evaluation_claims, num_seeds=seeds, slice_sd=sd),
        )
        for seeds in (2, 3, 5)
        for sd in (0.0, 0.1, 0.2)
    ),
)


def count_claims(case: Case, tries: int, jobs: int) -> dict[str, int]:
    """How many of the tries make each claim."""
    with get_context("fork").Pool(jobs) as pool:
        tried = list(tqdm(pool.imap_unordered(case.claims, range(tries)), total=tries, desc=case.what, leave=False))
    return {claim: sum(found[claim] for found in tried) for claim in tried[0]}


def main(tries: int = 200, jobs: int = 2, only: str = "", output: Path = Path("guard_levels.json")) -> None:
    """Prints and writes, line by line, how many of the tries make a claim.

    Args:
        tries: Data sets of each line.
        jobs: Processes.
        only: Text that the lines to be run contain; all if empty.
        output: JSON file.
    """
    results: list[dict[str, Any]] = []
    for case in CASES:
        if only in case.what:
            counts = count_claims(case, tries, jobs)
            results.append({"rows": case.what, "claims_are": "right" if case.right else "wrong", "counts": counts})
            write_json(output, {"tries": tries, "results": results})
    table = Table("rows", "claim", "made in", "the claim is", title=f"Claims in {tries} data sets")
    for result in results:
        for claim, count in result["counts"].items():
            table.add_row(result["rows"], claim, f"{count:,}", result["claims_are"])
    Console(width=140).print(table)


if __name__ == "__main__":
    jsonargparse.auto_cli(main, as_positional=False)
