"""The report of a run: one HTML file that stands alone, written from the files of the run's folder."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from c2al_tf.cohorts import RULES, STABLE, UNSTABLE, Cohort, Discovery, Pair
from c2al_tf.evaluation import ALL, REST
from c2al_tf.files import read_json, replace_file

from .diagnosis import diagnose
from .evidence import Evidence, label
from .figures import attention_weights, forest, prediction_distributions
from .findings import (
    Difference,
    Slice,
    Verdict,
    next_steps,
    sampled_rows,
    verdict,
    yardstick_rows,
    yardstick_warning,
)

_MOST_SLICES_DRAWN = 40
_MOST_PAIRS_OPEN = 10
_LABELS = {ALL: "all rows", REST: "everyone else"}


def write_report(run_dir: Path) -> Path:
    """Writes `report.html` from `metrics.json`, `metrics_by_seed.json`, `cohorts.json`, `config.json`, `details.json`.

    Args:
        run_dir: The run's folder, with `yardstick.json` if the configuration asks for it. Sections whose part of
            `details.json` is absent are left out.

    Returns:
        The report's path. The page loads nothing from anywhere.

    Raises:
        ValueError: If a file is absent or is not JSON; the message names it.
    """
    run_dir = Path(run_dir)
    files = {name: _read(run_dir / f"{name}.json") for name in ("metrics", "metrics_by_seed", "config", "details")}
    files["yardstick"] = _read(run_dir / "yardstick.json") if files["config"].get("yardstick") else None
    discovery = Discovery.from_json(_read(run_dir / "cohorts.json"))
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"figure": _figure, "signed": _signed, "interval": _interval, "size": _size, "span": _span}
    environment.filters |= {"label": label, "refusal": _refusal}
    page = environment.get_template("report.html").render(_content(discovery, **files))
    path = run_dir / "report.html"
    with replace_file(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return path


def read_verdict(run_dir: Path) -> Verdict:
    """The headline of an evaluated run's report."""
    metrics, seeds, config = (_read(run_dir / f"{name}.json") for name in ("metrics", "metrics_by_seed", "config"))
    discovery = Discovery.from_json(_read(run_dir / "cohorts.json"))
    slices = _slices(metrics, discovery, _chosen(discovery, config))
    return _verdict(slices, len(seeds["seeds"]))


def _chosen(discovery: Discovery, config: Mapping[str, Any]) -> Sequence[Cohort]:
    return discovery.given or discovery.cohorts(config.get("cohorts", {}).get("num_cohorts", 2))


def _verdict(slices: Sequence[Slice], num_seeds: int) -> Verdict:
    overall = next(s.diff for s in slices if s.name == ALL)
    return verdict(overall if num_seeds > 1 else _by_interval(overall), slices, num_seeds)


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
    seeds = metrics_by_seed["seeds"]
    settings = config.get("cohorts", {})
    negative_sampling = config.get("data", {}).get("negative_sampling")
    chosen = _chosen(discovery, config)
    slices = _slices(metrics, discovery, chosen)
    drawn = slices if len(slices) <= _MOST_SLICES_DRAWN else _most_important(slices)
    attention = details.get("attention") or {}
    spreads = {name: (_spread(layer, "baseline"), _spread(layer, "c2al")) for name, layer in attention.items()}
    lambdas = settings.get("lambdas", ())
    diagnostics = details.get("diagnostics")
    evidence = Evidence(metrics, seeds, discovery, chosen, lambdas, diagnostics, details.get("auxiliary_ne"))
    chosen_pairs = evidence.pairs
    overall = next(s for s in slices if s.name == ALL)
    accepted = [pair for pair in discovery.pairs if pair.accepted]
    only_pair = len(accepted) == 1 and not discovery.given
    stability = None if discovery.given or only_pair else discovery.stability
    return {
        "details": details,
        "config": config,
        "metrics": metrics,
        "seeds": seeds,
        "sampled": sampled_rows(negative_sampling) if negative_sampling else None,
        "discovery": discovery,
        "chosen": chosen,
        "chosen_pairs": chosen_pairs,
        "lambdas": lambdas,
        "slices": slices,
        "drawn": drawn,
        "overall": overall,
        "targeted": [s for s in slices if s.targeted],
        "worse": [s for s in slices if s.diff.side == "worse"],
        "better": [s for s in slices if s.diff.side == "better"],
        "verdict": _verdict(slices, len(seeds)),
        "steps": next_steps(slices, len(seeds), diagnose(evidence), stability),
        "diagnostics": diagnostics or {},
        "spreads": spreads,
        "only_pair": only_pair,
        "stability": stability,
        "unstable": UNSTABLE if stability is not None and stability < STABLE else None,
        "first_pairs": [
            *(p for p in chosen_pairs if not p.accepted),
            *(p for n, p in enumerate(accepted) if n < _MOST_PAIRS_OPEN or p in chosen_pairs),
        ],
        "other_pairs": [p for p in accepted[_MOST_PAIRS_OPEN:] if p not in chosen_pairs],
        "refused_pairs": [p for p in discovery.pairs if not p.accepted and p not in chosen_pairs],
        "refusals": [(RULES[rule], count) for rule, count in discovery.refusals.most_common()],
        "yardstick": _yardstick(yardstick, slices) if yardstick else None,
        "planted": _planted(details.get("planted"), slices),
        "figures": {
            "predictions": prediction_distributions(_histograms(discovery, chosen, details)),
            "forest": forest(drawn),
            "attention": attention_weights(attention) if attention else None,
        },
    }


def _slices(metrics: Mapping[str, Any], discovery: Discovery, chosen: Sequence[Cohort]) -> list[Slice]:
    """Every slice: those that got worse, the worst first; then all rows, the targeted, everyone else, the others."""
    words = {s.cohort.name: label(s.cohort) for axis in discovery.axes for s in axis.cohorts} | _LABELS
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


def _by_interval(diff: Difference) -> Difference:
    """The difference with the side of its interval: with one seed the evaluation names none."""
    if diff.low is None or diff.high is None:
        return diff
    side = "better" if diff.high < 0 else "worse" if diff.low > 0 else "unclear"
    return dataclasses.replace(diff, side=side)


def _most_important(slices: Sequence[Slice]) -> list[Slice]:
    named = [s for s in slices if s.diff.side == "worse" or s.targeted or s.name in _LABELS]
    others = sorted((s for s in slices if s not in named), key=lambda s: -s.baseline["rows"])
    kept = named + others[: max(_MOST_SLICES_DRAWN - len(named), 0)]
    return [s for s in slices if s in kept]


def _histograms(
    discovery: Discovery, chosen: Sequence[Cohort], details: Mapping[str, Any]
) -> dict[str, Sequence[float]]:
    """The lines of Figure 3: all rows if the run counted them, and the targeted cohorts."""
    summaries = {summary.cohort: summary for axis in discovery.axes for summary in axis.cohorts}
    everyone = (details.get("histograms") or {}).get(ALL)
    lines: dict[str, Sequence[float]] = {"all rows": everyone["counts"]} if everyone else {}
    roles = ["head cohort: ", "tail cohort: "] if len(chosen) == 2 else [""] * len(chosen)
    return lines | {
        f"{role}{label(cohort)}": summaries[cohort].histogram for role, cohort in zip(roles, chosen, strict=True)
    }


def _spread(layer: Mapping[str, Any], arm: str) -> float:
    """Standard deviation of the weights that a histogram counted."""
    edges, counts = np.asarray(layer["edges"], dtype=np.float64), np.asarray(layer[arm], dtype=np.float64)
    middles = (edges[1:] + edges[:-1]) / 2
    mean = np.average(middles, weights=counts)
    return float(np.sqrt(np.average((middles - mean) ** 2, weights=counts)))


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


def _refusal(pair: Pair) -> str:
    """Why the guard refuses a pair, without the cohorts' names, which stand beside it."""
    text = "; ".join(pair.reasons.values())
    for cohort in pair.cohorts:
        text = text.replace(f" `{cohort}`", "")
    return text


def _figure(value: float | None, digits: int = 4) -> str:
    return "\N{EN DASH}" if value is None else f"{value:,}" if isinstance(value, int) else f"{value:.{digits}f}"


def _signed(value: float | None, digits: int = 3) -> str:
    return "\N{EN DASH}" if value is None else f"{value:+.{digits}f}".replace("-", "\N{MINUS SIGN}")


def _interval(diff: Difference, digits: int = 3) -> str:
    return "no interval" if diff.low is None else f"{_signed(diff.low, digits)} to {_signed(diff.high, digits)}"


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 1e6:,.2f} MB" if num_bytes >= 1e5 else f"{num_bytes / 1e3:,.2f} kB"


def _span(seconds: Sequence[float]) -> str:
    """Mean of durations, in words; of a training too short to be timed there is none."""
    mean = float(np.mean(seconds))
    if not mean:
        return "\N{EN DASH}"
    return f"{mean:.1f} s" if mean < 120 else f"{mean / 60:.1f} min" if mean < 7200 else f"{mean / 3600:.1f} h"
