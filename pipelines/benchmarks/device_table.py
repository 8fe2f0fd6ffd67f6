"""The results of `device_grid`: NE and NE_diff by slice with intervals over seeds, and the same as text."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import t as student

from c2al_tf.entropy import normalized_entropy
from c2al_tf.types import Array

SLICES = ("overall", "head", "tail", "everyone else")


def summarize(
    baseline: Mapping[str, Array], arms: Mapping[str, Array], lambdas: Sequence[float], decayed: Sequence[float] = ()
) -> dict[str, Any]:
    """NE and NE_diff in percent by slice, the latter with a 95 % t interval over seeds.

    Args:
        baseline: By name, sums over the test rows of each seed and slice: `rows`, `clicks` and `entropy`, (seeds,
            slices), and `loss`, (seeds, 1, slices).
        arms: The same; `loss` is (seeds, lambdas, slices).
        lambdas: Weights of the first arms.
        decayed: Those of the others, which fall to zero.
    """
    differences = 100 * (arms["loss"] / baseline["loss"] - 1)
    rows, clicks = (baseline[name].sum(axis=0) for name in ("rows", "clicks"))
    losses = {"bayes": baseline["entropy"], "baseline": baseline["loss"][:, 0]}
    return {
        "rows": _named(rows),
        "click_rate": _named(clicks / rows),
        "ne": {
            name: _named([normalized_entropy(*sums) for sums in zip(loss.sum(axis=0), clicks, rows, strict=True)])
            for name, loss in losses.items()
        },
        "ne_diff": [
            {"lambda": weight, "decayed": arm >= len(lambdas)}
            | _named([interval(differences[:, arm, i].tolist()) for i in range(len(SLICES))])
            for arm, weight in enumerate((*lambdas, *decayed))
        ],
    }


def interval(by_seed: Sequence[float]) -> dict[str, Any]:
    """The mean over seeds and its 95 % t interval; None as ends with one seed."""
    mean, count = float(np.mean(by_seed)), len(by_seed)
    found: dict[str, Any] = {"percent": mean, "low": None, "high": None, "by_seed": list(by_seed)}
    if count > 1:
        margin = float(student.ppf(0.975, count - 1) * np.std(by_seed, ddof=1) / math.sqrt(count))
        found |= {"low": mean - margin, "high": mean + margin}
    return found


def table(result: Mapping[str, Any]) -> str:
    """The results as text."""
    grid = result["grid"]
    lines = [
        f"{result['device']}, JAX {result['jax']}: {result['trained_rows_per_second']:,.0f} rows/s in all models",
        "Seconds: " + ", ".join(f"{word} {value:.0f}" for word, value in result["seconds"].items()),
        f"{grid['rows']:,} rows of the log, {grid['seeds']} seeds, batch {grid['batch']:,}",
        "".join(f"{word:<28}" for word in ("", *SLICES)),
    ]
    plain = {
        "click rate": result["click_rate"],
        "NE of the true rates": result["ne"]["bayes"],
        "NE of the baseline": result["ne"]["baseline"],
    }
    for name, values in plain.items():
        lines.append(f"{name:<28}" + "".join(f"{values[part]:<28.5f}" for part in SLICES))
    for arm in result["ne_diff"]:
        name = f"{arm_name(arm)}, NE_diff, %"
        lines.append(f"{name:<28}" + "".join(f"{_with_interval(arm[part]):<28}" for part in SLICES))
    return "\n".join(line.rstrip() for line in lines)


def arm_name(arm: Mapping[str, Any]) -> str:
    """Its lambda, in words."""
    return f"lambda {arm['lambda']:g}{' to 0' if arm['decayed'] else ''}"


def _with_interval(found: Mapping[str, Any]) -> str:
    ends = "" if found["low"] is None else f" [{found['low']:+.3f}, {found['high']:+.3f}]"
    return f"{found['percent']:+.3f}{ends}"


def _named(values: Sequence[Any] | Array) -> dict[str, Any]:
    values = values.tolist() if isinstance(values, np.ndarray) else values
    return dict(zip(SLICES, values, strict=True))
