"""Results of an experiment: one tidy table of every figure, and one of every arm with intervals."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from rich.markup import escape
from rich.table import Table

from c2al_tf.evaluation import ALL, REST
from c2al_tf.evaluation.intervals import NEDifference
from c2al_tf.files import remove, replace_file, write_json

from ..report.drawing import Drawing
from ..report.evidence import slice_labels
from ..report.page import HEADLINES
from ..report.terminal import console
from ..run.evaluation import label_slices
from ..run.folder import RunFolder
from .figures import draw_figures
from .report import write_experiment_report
from .result import Result, corrected

_FIGURES = ("rows", "positives", "ne", "log_loss", "auc", "calibration")


def write_results(run: RunFolder, results: Sequence[Result], truth: Mapping[str, float | None] | None = None) -> None:
    """Writes `results.parquet` (arm, seed, slice, metric, value), `results.json`, `results.md` and `report.html`.

    `truth` is the NE of the true probabilities by slice, where these are known.
    """
    rows = [row for result in results for row in _tidy(result)]
    # An arm that is the reference of several is in each one's evaluation.
    columns = dict(
        zip(("arm", "seed", "slice", "metric", "value"), zip(*dict.fromkeys(rows), strict=True), strict=True)
    )
    with replace_file(run.path / "results.parquet") as temporary:
        pq.write_table(pa.table({name: list(values) for name, values in columns.items()}), temporary)
    labels = slice_labels(run.discovery)
    write_json(run.path / "results.json", [_to_json(result, _num_arms(run), labels) for result in results])
    titles = {name: labels.get(name, name) for name in _shown(run)}
    figures = draw_figures(results, titles, run.config.cohorts.lambdas)
    for stale in {"arms.svg", "lambdas.svg", "divergence.svg"} - {*figures}:
        remove(run.path / stale)
    for name, drawing in figures.items():
        with replace_file(run.path / name) as temporary:
            temporary.write_text(drawing.svg)
    with replace_file(run.path / "results.md") as temporary:
        temporary.write_text(as_markdown(run, results, figures, truth))
    write_experiment_report(run, results, titles, figures, _num_arms(run))


def _tidy(result: Result) -> Iterator[tuple[str, int, str, str, float | None]]:
    for arm, slices in result.evaluation.metrics.items():
        for name, by_seed in slices.items():
            for seed, figures in zip(result.seeds, by_seed, strict=True):
                for metric in _FIGURES:
                    value = figures[metric]
                    yield arm, seed, name, metric, None if value is None else float(value)
    for arm, by_model in result.probes.items():
        for seed, aucs in zip(result.seeds, by_model, strict=False):
            yield from ((arm, seed, name, "probe_auc", auc) for name, auc in aucs.items())
    for name, difference in result.evaluation.ne_diff[result.arm.name].items():
        for seed, percent in zip(result.seeds, difference.by_seed, strict=True):
            yield result.arm.name, seed, name, "ne_diff", percent


def _to_json(result: Result, num_arms: int, labels: Mapping[str, str]) -> dict[str, Any]:
    slices = {}
    for name, difference in result.evaluation.ne_diff[result.arm.name].items():
        low, high = corrected(difference, num_arms)
        interval = {"percent": difference.percent, "low": difference.low, "high": difference.high}
        slices[name] = interval | {"corrected_low": low, "corrected_high": high}
    claims = result.evaluation.claims[result.arm.name]
    return {
        "arm": result.arm.name,
        "reference": result.arm.reference,
        "seeds": list(result.seeds),
        "cohorts": list(result.cohorts),
        "divergence": result.divergence,
        "ne_diff": slices,
        "better": list(claims.better),
        "worse": list(claims.worse),
        "recommendation": result.recommendation.to_json({**labels, **result.targeted}),
        "holds_among_all_arms": result.holds_among(num_arms),
    }


def as_markdown(
    run: RunFolder,
    results: Sequence[Result],
    figures: Mapping[str, Drawing],
    truth: Mapping[str, float | None] | None = None,
) -> str:
    """Every arm's NE_diff overall and on the targeted cohorts, as a Markdown table, with links to the figures."""
    names = _shown(run)
    lines = [
        f"# {run.config.title}",
        "",
        "NE_diff in percent against the reference arm [95 % interval over paired seeds and rows; of one seed over rows "
        "alone]. *Overall, all arms at once*: the interval that holds for all "
        f"{_num_arms(run)} arms together (Bonferroni).",
        "",
        "| " + " | ".join(["arm", "seeds", *(_title(name) for name in names), "overall, all arms at once"]) + " |",
        "|" + "---|" * (len(names) + 3),
    ]
    for result in results:
        cells = [_name(result), str(len(result.seeds)), *(_interval(result.difference(name)) for name in names)]
        lines.append("| " + " | ".join([*cells, _bounds(*corrected(result.difference(ALL), _num_arms(run)))]) + " |")
    lines += ["", "Cohorts that are chosen:", ""]
    lines += [f"- {result.arm.name}: {'; '.join(result.cohorts)}" for result in results if result.cohorts]
    lines += _ne_lines(run, results, truth)
    lines += _probe_lines(run, results)
    for name, drawing in figures.items():
        lines += ["", f"**{drawing.title}.** {drawing.sentence}", "", f"![{Path(name).stem}]({name})"]
    return "\n".join(lines) + "\n"


def _ne_lines(run: RunFolder, results: Sequence[Result], truth: Mapping[str, float | None] | None) -> list[str]:
    """NE by arm and slice, mean over seeds, under that of the true probabilities where these are known."""
    names = _shown(run)
    by_arm = {"the truth, which no model can beat": [truth.get(name) for name in names]} if truth else {}
    seeds: dict[str, int] = {}
    for result in results:
        for arm, slices in result.evaluation.metrics.items():
            if len(slices[ALL]) > seeds.get(arm, 0):  # a reference serves arms of fewer seeds, too
                seeds[arm] = len(slices[ALL])
                by_arm[arm] = [_mean([seed["ne"] for seed in slices[name]]) for name in names]
    lines = ["", "NE, mean over the seeds:", "", "| arm | " + " | ".join(map(_title, names)) + " |"]
    lines.append("|---" * (len(names) + 1) + "|")
    for arm, nes in by_arm.items():
        lines.append(f"| {arm} | " + " | ".join("-" if ne is None else f"{ne:.4f}" for ne in nes) + " |")
    return lines


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None


def _probe_lines(run: RunFolder, results: Sequence[Result]) -> list[str]:
    """AUC of the linear probe by arm and cohort, mean over seeds."""
    names = [cohort.name for cohort in run.cohorts]
    by_arm: dict[str, Sequence[Mapping[str, float | None]]] = {}
    for result in results:
        for arm, by_model in result.probes.items():
            by_arm[arm] = max(by_arm.get(arm, ()), by_model, key=len)  # a reference serves arms of fewer seeds, too
    if not any(by_arm.values()):
        return []
    lines = ["", "How well a logistic regression tells a cohort by h: AUC, mean over the seeds.", ""]
    lines += ["| arm | seeds | " + " | ".join(names) + " |", "|---" * (len(names) + 2) + "|"]
    for arm, by_model in by_arm.items():
        known = {name: [v for aucs in by_model if (v := aucs[name]) is not None] for name in names}
        cells = [f"{sum(v) / len(v):.4f}" if v else "-" for v in known.values()]
        lines.append(f"| {arm} | {len(by_model)} | " + " | ".join(cells) + " |")
    return lines


def print_results(run: RunFolder, results: Sequence[Result]) -> None:
    """Prints what `results.md` holds."""
    names = _shown(run)
    table = Table(title=escape(run.config.title), caption="NE_diff in percent [95 % interval]", caption_justify="left")
    for title in ("arm", "seeds", *(_title(name) for name in names)):
        table.add_column(title, justify="left" if title == "arm" else "right")
    for result in results:
        cells = [escape(_interval(result.difference(name))) for name in names]
        table.add_row(_name(result), str(len(result.seeds)), *cells)
    console.print(table)
    for result in results:
        console.print(escape(f"{HEADLINES[result.recommendation.answer]}: {result.arm.name}"))
    for result in results:
        low, high = corrected(result.difference(ALL), _num_arms(run))
        if low is not None and high is not None and (high < 0 or low > 0):
            side = "better" if high < 0 else "worse"
            console.print(
                escape(f"Overall {side}, also among {_num_arms(run)} arms: {result.arm.name} {_bounds(low, high)}")
            )


def _num_arms(run: RunFolder) -> int:
    """Arms that are compared with a reference, also those to come."""
    return max(len(run.arms) - 1, 1)


def _shown(run: RunFolder) -> list[str]:
    return [ALL, *(cohort.name for cohort in run.cohorts), REST, *label_slices(run.schema)]


def _title(name: str) -> str:
    return {ALL: "overall", REST: "everyone else"}.get(name, name)


def _name(result: Result) -> str:
    reference = result.arm.reference
    return result.arm.name if reference == "baseline" else f"{result.arm.name} (against {reference})"


def _interval(difference: NEDifference) -> str:
    percent = "-" if difference.percent is None else f"{difference.percent:+.3f}"
    return f"{percent} {_bounds(difference.low, difference.high)}"


def _bounds(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"[{low:+.3f}, {high:+.3f}]"
