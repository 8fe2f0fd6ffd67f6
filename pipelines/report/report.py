"""The report of a run, written from the files of the run's folder."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from c2al_tf.cohorts import Cohort, Discovery
from c2al_tf.evaluation import ALL, REST
from c2al_tf.files import read_json

from .diagnosis import diagnose
from .evidence import Evidence, label, slice_labels
from .figures import attention_weights, forest
from .findings import Difference, Slice, next_steps, sampled_rows, yardstick_rows, yardstick_warning
from .inside import describe_inside
from .page import write_page
from .pairs import chosen_cohorts, describe_discovery

_MOST_SLICES_DRAWN = 40
_TITLES = {"baseline": "baseline", "c2al": "C2AL"}


def write_report(run_dir: Path) -> Path:
    """Writes `report.html` from `metrics.json`, `metrics_by_seed.json`, `cohorts.json`, `config.json`, `details.json`.

    Args:
        run_dir: The run's folder, with `yardstick.json` if the configuration asks for it. Sections whose part of
            `details.json` is absent are left out.

    Returns:
        The report's path.

    Raises:
        ValueError: If a file is absent or is not JSON, or another version wrote it; the message names it.
    """
    run_dir = Path(run_dir)
    files = {name: _read(run_dir / f"{name}.json") for name in ("metrics", "metrics_by_seed", "config", "details")}
    if "recommendation" not in files["metrics"]:
        raise ValueError(f"{run_dir / 'metrics.json'} was written by another version. Run `c2al evaluate` again first")
    files["yardstick"] = _read(run_dir / "yardstick.json") if files["config"].get("yardstick") else None
    return write_page(run_dir, _content(Discovery.from_json(_read(run_dir / "cohorts.json")), **files))


def _read(path: Path) -> Any:
    if not path.exists():
        raise ValueError(f"The report needs {path.name}, which the run writes before it. Received: no file {path}")
    return read_json(path)


def _content(
    discovery: Discovery,
    metrics: Mapping[str, Any],
    metrics_by_seed: Mapping[str, Any],
    config: Mapping[str, Any],
    details: Mapping[str, Any],
    yardstick: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Everything that the template shows."""
    seeds, lambdas = metrics_by_seed["seeds"], config.get("cohorts", {}).get("lambdas", ())
    chosen, recommendation = chosen_cohorts(discovery, config), metrics["recommendation"]
    slices = _slices(metrics, discovery, chosen)
    diagnostics, attention = details.get("diagnostics"), details.get("attention")
    evidence = Evidence(metrics, seeds, discovery, chosen, lambdas, diagnostics, details.get("auxiliary_ne"))
    found = describe_discovery(discovery, chosen, details.get("histograms", {}).get(ALL, {}).get("counts"))
    negative_sampling = config.get("data", {}).get("negative_sampling")
    measured = {_TITLES[arm]: summary for arm, summary in (diagnostics or {}).items()}
    sensitive = [*found["sensitive"]["targeted"], *found["sensitive"]["axes"]]
    return found | {
        "title": details["title"],
        "question": "Does training with cohort tasks (C2AL) make this model's predictions better?",
        "command": "run",
        "details": details,
        "config": config,
        "metrics": metrics,
        "seeds": seeds,
        "recommendation": recommendation,
        "sampled": sampled_rows(negative_sampling) if negative_sampling else None,
        "lambdas": lambdas,
        "overall": next(s for s in slices if s.name == ALL),
        "targeted": [s for s in slices if s.targeted],
        "worse": [s for s in slices if s.diff.side == "worse"],
        "slices": slices,
        "forests": _forests(slices, metrics.get("labels", ())),
        "sensitive_slices": _reading(slices, discovery, sensitive),
        "steps": next_steps(recommendation["answer"], slices, diagnose(evidence), found["stability"]),
        "inside": describe_inside(measured, {"C2AL": "baseline"}, slice_labels(discovery)),
        "attention": attention_weights(attention) if attention else None,
        "yardstick": _yardstick(yardstick, slices) if yardstick else None,
        "planted": _planted(details.get("planted"), slices),
    }


def _forests(slices: Sequence[Slice], labels: Sequence[str]) -> list[Any]:
    """The slices that decide, and where there are more, all or the largest ones; `labels` are those of other labels."""
    named = [s for s in slices if s.diff.side == "worse" or s.targeted or s.name in (ALL, REST, *labels)]
    figures = [forest(named[:_MOST_SLICES_DRAWN], "NE_diff: how the prediction error (NE) changes")]
    if len(named) < len(slices):
        drawn = slices if len(slices) <= _MOST_SLICES_DRAWN else _most_important(slices, named)
        of_all = f"the {len(drawn)} largest of {len(slices)}" if len(drawn) < len(slices) else f"all {len(slices)}"
        figures.append(forest(drawn, f"NE_diff of {of_all} slices"))
    return figures


def _most_important(slices: Sequence[Slice], named: Sequence[Slice]) -> list[Slice]:
    others = sorted((s for s in slices if s not in named), key=lambda s: -s.baseline["rows"])
    kept = [*named, *others[: max(_MOST_SLICES_DRAWN - len(named), 0)]]
    return [s for s in slices if s in kept]


def _reading(slices: Sequence[Slice], discovery: Discovery, columns: Sequence[str]) -> list[Slice]:
    """The slices that read one of some columns."""
    cohorts = [s.cohort for axis in discovery.axes for s in axis.cohorts]
    names = {cohort.name for cohort in cohorts if not {*columns}.isdisjoint(cohort.columns)}
    return [s for s in slices if s.name in names]


def _slices(metrics: Mapping[str, Any], discovery: Discovery, chosen: Sequence[Cohort]) -> list[Slice]:
    """Every slice: those that got worse, the worst first; then all rows, the targeted, everyone else, the others."""
    words = slice_labels(discovery) | {s.cohort.name: label(s.cohort) for a in discovery.axes for s in a.cohorts}
    targeted = {cohort.name for cohort in chosen}
    slices = [
        Slice(
            name,
            words.get(name, name),
            name in targeted,
            Difference(difference["percent"], difference["low"], difference["high"], _side(name, difference, metrics)),
            metrics["baseline"][name],
            metrics["c2al"][name],
        )
        for name, difference in metrics["ne_diff"].items()
    ]
    order = {name: number for number, name in enumerate([ALL, *(cohort.name for cohort in chosen), REST])}
    worse = sorted((s for s in slices if s.diff.side == "worse"), key=lambda s: -(s.diff.percent or 0))
    others = sorted((s for s in slices if s.diff.side != "worse"), key=lambda s: order.get(s.name, len(order)))
    return worse + others


def _side(name: str, difference: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    if difference["low"] is None:
        return "unknown"
    return next((side for side in ("better", "worse") if name in metrics[side]), "unclear")


def _planted(planted: Mapping[str, Any] | None, slices: Sequence[Slice]) -> dict[str, Any] | None:
    """The truth of generated data: whether the pair was found, and NE beside the best that any model can reach."""
    if planted is None:
        return None
    bayes = planted.get("bayes_ne") or {}
    rows = [(s, bayes[s.name]) for s in slices if s.name in bayes]
    return {**planted, "rows": sorted(rows, key=lambda row: row[0].name != ALL)}


def _yardstick(yardstick: Mapping[str, Any], slices: Sequence[Slice]) -> dict[str, Any]:
    """What gradient boosting reaches, beside the baseline."""
    by_name = {s.name: s for s in slices}
    return {
        "words": yardstick_rows(yardstick),
        "warning": yardstick_warning(yardstick, by_name[ALL].baseline),
        "rows": [(by_name[name], metrics) for name, metrics in yardstick["metrics"].items() if name in by_name],
    }
