"""`c2al score-logs`, `discover-logs`, `evaluate-logs`: logs of any number of rows, here or by Beam; and `c2al gate`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonargparse

from c2al_tf.storage import local_path, with_urls

from .command import Command
from .runner import RUN_BY, add_runner, runner_of

if TYPE_CHECKING:
    from c2al_tf.cohorts import Discovery

    from ..beam.log import Log
    from ..beam.totals import Runner


def _add_log(parser: jsonargparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", type=str, help="Parquet, CSV or TFRecord: files, folders or patterns")
    parser.add_argument("--label", type=str, required=True, help="column of 0 and 1")
    parser.add_argument("--weight", type=str, help="column of row weights")
    parser.add_argument("--unit", type=str, help="column of ids, such as a user's, whose rows are not independent")
    parser.add_argument(
        "--dtypes", type=dict[str, str], default={}, help="--dtypes.COLUMN string, int64 or float32: for CSV, TFRecord"
    )
    add_runner(parser, here="this process alone", beside="beside the output")


def _add_score(parser: jsonargparse.ArgumentParser) -> None:
    _add_log(parser)
    parser.add_argument(
        "--models", type=dict[str, Path], required=True, help="--models.COLUMN VERSION_FOLDER: a column of its logits"
    )
    parser.add_argument("--keep", nargs="+", type=str, default=[], help="columns to keep beside label, weight and unit")
    parser.add_argument("--model-output", type=str, default="logits", help="the models' output")
    parser.add_argument("--output", type=Path, required=True, help="folder of the scored files")


def _add_discover(parser: jsonargparse.ArgumentParser) -> None:
    from c2al_tf.cohorts.axes import Axis

    _add_log(parser)
    parser.add_argument("--predictions", nargs="+", type=str, required=True, help="columns, one per baseline")
    parser.add_argument("--from-logits", type=bool, default=False, help="whether these are logits")
    parser.add_argument("--axes", type=list[str | Axis], required=True, help="columns, or axes as in a configuration")
    parser.add_argument("--training", nargs="+", type=str, default=[], help="files of the training rows, for the guard")
    parser.add_argument("--divergence", type=str, help="js (the default), kl, wasserstein or cosine")
    parser.add_argument(
        "--before",
        type=Path,
        help="cohorts.json that the model in use was trained with: its pair is given, and what has drifted is said",
    )
    parser.add_argument("--output", type=Path, default=Path("cohorts.json"), help="the file to be written")


def _add_evaluate(parser: jsonargparse.ArgumentParser) -> None:
    _add_log(parser)
    parser.add_argument(
        "--arms", type=dict[str, list[str]], required=True, help="--arms.NAME '[COLUMN, ...]': logits, one per seed"
    )
    parser.add_argument("--reference", type=str, default="baseline", help="the arm that others are compared with")
    parser.add_argument("--cohorts", type=Path, help="cohorts.json: its best pair and all its cohorts are slices")
    parser.add_argument("--output", type=Path, default=Path("metrics.json"), help="the file to be written")


def _add_gate(parser: jsonargparse.ArgumentParser) -> None:
    parser.add_argument("metrics", type=Path, help="metrics.json of a run or of `c2al evaluate-logs`")
    parser.add_argument(
        "--max-worse", type=float, default=0.0, help="NE_diff in percent that a cohort may get worse by"
    )
    parser.add_argument("--slices", nargs="+", type=str, default=[], help="those that are looked at; by default all")


def _log(values: Any) -> "Log":
    from ..beam.log import Log

    return Log(tuple(values.files), values.label, values.weight, values.unit, values.dtypes)


def _runner(values: Any) -> "Runner":
    output: Path = local_path(values.output)
    return runner_of(values, output.absolute().parent)


def _score(values: Any) -> None:
    from ..beam.scoring import score_log

    output: Path = values.output
    rows = score_log(
        _log(values), values.models, values.keep, output, output=values.model_output, runner=_runner(values)
    )
    print(with_urls(f"{rows:,} rows: {output}"))


def _discover(values: Any) -> None:
    from c2al_tf.cohorts import find_drift, pair_in_use
    from c2al_tf.files import write_json

    from ..beam.discovery import discover_log
    from ..report.terminal import print_pairs

    before = None if values.before is None else _read_discovery(values.before)
    if before is not None and local_path(values.before).resolve() == local_path(values.output).resolve():
        raise ValueError(
            f"--output must be another file than --before, which later days need. Received: {values.output}"
        )
    found = discover_log(
        _log(values),
        values.predictions,
        values.axes,
        from_logits=values.from_logits,
        given=() if before is None else pair_in_use(before).cohorts,
        training=values.training,
        divergence=values.divergence or (before.divergence if before else "js"),
        guard=before.guard if before else None,
        runner=_runner(values),
    )
    write_json(values.output, found.to_json())
    print_pairs(found)
    print(with_urls(str(values.output)))
    drift = [] if before is None else find_drift(before, found)
    if drift:
        print("Drift:", *drift, sep="\n  ")
        sys.exit(REFUSED)


def _read_discovery(path: Path) -> "Discovery":
    from c2al_tf.cohorts import Discovery
    from c2al_tf.files import read_json

    return Discovery.from_json(read_json(path))


def _evaluate(values: Any) -> None:
    from c2al_tf.cohorts import pair_in_use
    from c2al_tf.files import write_json

    from ..beam.evaluation import evaluate_log

    discovery = None if values.cohorts is None else _read_discovery(values.cohorts)
    targeted = () if discovery is None else pair_in_use(discovery).cohorts
    others = () if discovery is None else [each.cohort for axis in discovery.axes for each in axis.cohorts]
    evaluation = evaluate_log(
        _log(values), values.arms, targeted, others, reference=values.reference, runner=_runner(values)
    )
    arms = [arm for arm in evaluation.metrics if arm != evaluation.reference]
    found = {arm: evaluation.to_json(arm) for arm in arms}
    write_json(values.output, {"arms": found, "auc_error": evaluation.auc_error})
    _print(found, evaluation.reference)
    print(with_urls(str(values.output)))


def _gate(values: Any) -> None:
    from c2al_tf.evaluation.gate import worse_slices
    from c2al_tf.files import read_json

    metrics = read_json(values.metrics)
    found = metrics.get("arms") or ({"c2al": metrics} if "ne_diff" in metrics else {})
    if not found:
        raise ValueError(f"{values.metrics}: no `arms` and no `ne_diff`, as an evaluation writes them")
    refused = False
    for arm, figures in found.items():
        for name, difference in worse_slices(figures["ne_diff"], values.max_worse, values.slices).items():
            refused = True
            low, high = difference["low"], difference["high"]
            print(f"{arm}: {name}: NE_diff {difference['percent']:+.3f} % [{low:+.3f}, {high:+.3f}]")
    bound = f"more than {values.max_worse:g} % worse beyond chance"
    print(f"Refused: the slices above got {bound}." if refused else f"Passed: no slice got {bound}.")
    if refused:
        sys.exit(REFUSED)


def _print(found: dict[str, Any], reference: str) -> None:
    from rich.markup import escape
    from rich.table import Table

    from ..report.terminal import console, difference_text, number_text

    for arm, metrics in found.items():
        table = Table("slice", title=escape(f"{arm} against {reference}"), caption=escape(metrics["interval"]))
        for name in ("rows", "positives", f"NE {reference}", f"NE {arm}", "NE_diff [95 % interval]"):
            table.add_column(escape(name), justify="right")
        for name, difference in metrics["ne_diff"].items():
            base, own = metrics[reference][name], metrics[arm][name]
            cells = [f"{base['rows']:,}", f"{base['positives']:,}", number_text(base["ne"]), number_text(own["ne"])]
            table.add_row(escape(name), *cells, escape(difference_text(difference)))
        console.print(table)
        console.print(escape(metrics["claims"]))


REFUSED = 3
"""Exit status of a gate that refuses, or of drift: 1 and 2 are for what could not be done, and wrong arguments."""

LOG_COMMANDS = {
    "score-logs": Command(
        "Writes files that hold the logits of exported models beside the columns that are kept, a file for each "
        "million rows. Each process loads each model once. The same command goes on where it was ended.",
        f"FILES --label COLUMN --models.NAME VERSION_FOLDER --output FOLDER [--keep COLUMN ...] {RUN_BY}",
        "c2al score-logs logs --label click --keep age --models.old export/1 --models.new export/2 --output scored",
        _add_score,
        _score,
        ("cohorts", "serving"),
    ),
    "discover-logs": Command(
        "Finds the cohorts that baselines treat most differently, in logs that hold what they predicted, of any number "
        "of rows: two passes, of which the first draws a million rows to cut the axes on. Writes cohorts.json. With "
        "--before it ends with status 3 if the pair of an earlier day is no longer the one to use.",
        f"FILES --label COLUMN --predictions COLUMN ... --axes '[COLUMN, ...]' [--before FILE] {RUN_BY}",
        "c2al discover-logs scored --label click --predictions old --from-logits true --axes '[age, city]'",
        _add_discover,
        _discover,
        ("cohorts",),
    ),
    "evaluate-logs": Command(
        "Compares arms overall and by cohort, with intervals, in logs that hold their logits, of any number of rows: "
        "one pass. Writes metrics.json.",
        f"FILES --label COLUMN --arms.NAME '[COLUMN, ...]' [--cohorts FILE] [--unit COLUMN] {RUN_BY}",
        "c2al evaluate-logs scored --label click --arms.baseline '[old]' --arms.c2al '[new]' --cohorts cohorts.json",
        _add_evaluate,
        _evaluate,
        ("cohorts",),
    ),
    "gate": Command(
        "Says whether a model may be published: not if the NE_diff interval of any slice lies above a bound. It ends "
        "with status 0 if it may, 3 if not, 1 or 2 if that could not be found out.",
        "METRICS [--max-worse PERCENT] [--slices NAME ...]",
        "c2al gate runs/today/metrics.json --max-worse 0.5",
        _add_gate,
        _gate,
        ("cohorts",),
    ),
}
