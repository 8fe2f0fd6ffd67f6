"""When C2AL pays: NE_diff on planted clicks against rows, click rate, size of the cohorts, strength, and capacity.

One thing changes at a time. The planted cohorts are given: a curve is about the gain, not about finding the pair. A
point that has its results is kept.

Example: python -m c2al_pipelines.experiments.curves --output runs/curves
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jsonargparse
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from c2al_tf.evaluation import ALL, REST
from c2al_tf.files import read_json, replace_file, write_json
from c2al_tf.training import keep_freed_memory

from ..datasets.ads_truth import measure_truth
from ..datasets.synthetic_ads import SyntheticAds, planted_cohorts
from ..native_log import hide_native_notes
from ..run.config import GivenCohort, RunConfig, load_config
from ..run.folder import RunFolder
from .curve_figure import draw_curves
from .experiment import run_experiment
from .result import Result
from .worlds import remove_models


@dataclass(frozen=True)
class Curve:
    """What changes along a curve.

    Args:
        label: The axis, with its unit.
        name: A field of `SyntheticAds`, or of `ModelConfig`.
        values: Of that field.
        scale: Of the axis: a value is shown times this.
    """

    label: str
    name: str
    values: tuple[Any, ...]
    scale: float = 1.0


CURVES: Mapping[str, Curve] = MappingProxyType(
    {
        "rows": Curve(
            "rows seen, in millions", "num_rows", (250_000, 500_000, 1_000_000, 2_000_000, 4_000_000, 8_000_000), 1e-6
        ),
        "click rate": Curve("click rate (%)", "click_rate", (0.002, 0.0074, 0.03, 0.1), 100.0),
        "size": Curve("rows in each cohort (%)", "cohort_share", (0.01, 0.02, 0.05, 0.1, 0.2), 100.0),
        "strength": Curve("planted difference (logits)", "cohort_strength", (0.0, 0.85, 1.15, 1.6, 2.2)),
        "capacity": Curve("size of an embedding", "embedding_dim", (4, 8, 16, 32)),
    }
)
"""The curves; a planted difference of 0 is cohorts without pairs of fields of their own."""


def point_config(config: RunConfig, name: str, value: Any) -> RunConfig:
    """The configuration of a point, with the planted cohorts given."""
    ads, model = config.data.synthetic_ads, config.model
    if name == "cohort_strength" and not value:
        ads = dataclasses.replace(ads, own_pairs=False)
    elif name in {field.name for field in dataclasses.fields(SyntheticAds)}:
        ads = dataclasses.replace(ads, **{name: value})
    else:
        model = dataclasses.replace(model, **{name: value})
    given = tuple(GivenCohort.of(cohort) for cohort in planted_cohorts(ads))
    return dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, synthetic_ads=ads),
        model=model,
        cohorts=dataclasses.replace(config.cohorts, given=given),
    )


def run_point(config: RunConfig, output: Path) -> list[dict[str, Any]]:
    """The figures of a configuration, one entry for each arm and slice; equal configurations are run once."""
    digest = hashlib.sha256(json.dumps(config.to_json(), sort_keys=True).encode()).hexdigest()[:12]
    folder = output / f"point_{digest}"
    file = folder / "point.json"
    if not file.exists():
        run = RunFolder.start(folder, config)
        truths = measure_truth(config.data.synthetic_ads, "test")
        truth = {
            ALL: truths["all"].ne,
            "head": truths["head"].ne,
            "tail": truths["tail"].ne,
            REST: truths["majority"].ne,
        }
        write_json(file, [entry for result in run_experiment(run) for entry in _entries(result, truth)])
    remove_models(folder)
    return list(read_json(file))


def _entries(result: Result, truth: Mapping[str, float | None]) -> list[dict[str, Any]]:
    entries = []
    for name, bayes in truth.items():
        difference = result.difference(name)
        ne = {
            arm: float(np.mean(np.array([seed["ne"] for seed in slices[name]], np.float64)))
            for arm, slices in result.evaluation.metrics.items()
        }
        entries.append(
            {
                "arm": result.arm.name,
                "slice": name,
                "seeds": len(result.seeds),
                "percent": difference.percent,
                "low": difference.low,
                "high": difference.high,
                "ne_baseline": ne[result.arm.reference],
                "ne_arm": ne[result.arm.name],
                "ne_truth": bayes,
            }
        )
    return entries


def write_curves(output: Path, entries: Sequence[Mapping[str, Any]]) -> None:
    """Writes `curves.parquet`, one row for each curve, value, arm and slice, `curves.md`, and a figure for each arm."""
    with replace_file(output / "curves.parquet") as temporary:
        pq.write_table(pa.Table.from_pylist(list(entries)), temporary)
    with replace_file(output / "curves.md") as temporary:
        temporary.write_text(as_markdown(entries))
    labels = {name: curve.label for name, curve in CURVES.items()}
    for arm in dict.fromkeys(entry["arm"] for entry in entries):
        with replace_file(output / f"curves_{arm}.svg") as temporary:
            temporary.write_text(draw_curves([entry for entry in entries if entry["arm"] == arm], labels))


def as_markdown(entries: Sequence[Mapping[str, Any]]) -> str:
    """The curves as one table."""
    lines = [
        "| curve | value | arm | overall | head | tail | everyone else | NE baseline, arm, truth |",
        "|---" * 8 + "|",
    ]
    points: dict[tuple[Any, ...], dict[str, Mapping[str, Any]]] = {}
    for entry in entries:
        points.setdefault((entry["curve"], entry["value"], entry["arm"]), {})[entry["slice"]] = entry
    for (curve, value, arm), by_slice in points.items():
        cells = [
            f"{e['percent']:+.2f} {_bounds(e)}".strip() for e in (by_slice[s] for s in (ALL, "head", "tail", REST))
        ]
        overall = by_slice[ALL]
        nes = " ".join(f"{overall[name]:.4f}" for name in ("ne_baseline", "ne_arm", "ne_truth"))
        lines.append("| " + " | ".join([curve, f"{value:g}", arm, *cells, nes]) + " |")
    return "\n".join(lines) + "\n"


def _bounds(entry: Mapping[str, Any]) -> str:
    return "" if entry["low"] is None else f"[{entry['low']:+.2f}, {entry['high']:+.2f}]"


def main(
    configuration: Path = Path("pipelines/configs/planted_curves.yaml"),
    curves: tuple[str, ...] = tuple(CURVES),
    output: Path = Path("runs/curves"),
) -> None:
    """Writes `curves.parquet`, `curves.md` and a figure for each arm, anew with each point.

    Args:
        configuration: YAML file of an experiment on synthetic clicks: the point that all curves share.
        curves: Which of them.
        output: Folder of the results, new or to be completed.

    Raises:
        ValueError: If a curve is unknown, or the configuration is of other data or has no arms.
    """
    if unknown := sorted({*curves} - {*CURVES}):
        raise ValueError(f"`curves` must be of {[*CURVES]}. Received: {unknown}")
    config = load_config(configuration)
    if config.data.name != "synthetic_ads" or not config.arms:
        raise ValueError(f"`configuration` must be of `data.name: synthetic_ads`, with arms. Received: {configuration}")
    keep_freed_memory()
    entries: list[dict[str, Any]] = []
    for name in curves:
        curve = CURVES[name]
        for value in curve.values:
            point = run_point(point_config(config, curve.name, value), output)
            entries += [{"curve": name, "value": value * curve.scale, **entry} for entry in point]
            write_curves(output, entries)


if __name__ == "__main__":
    hide_native_notes()
    jsonargparse.auto_cli(main, as_positional=False)
