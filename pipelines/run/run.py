"""The whole run: prepare, baselines, discovery, C2AL models, evaluation, export, server, predictions, report."""

import dataclasses
import time
from collections.abc import Mapping
from typing import Any

from c2al_serving.server import Server
from rich.markup import escape
from rich.table import Table

from c2al_tf.cohorts import GIVEN, STABLE, UNSTABLE, Discovery
from c2al_tf.data.columns.readers import count_rows
from c2al_tf.data.columns.shards import split_files
from c2al_tf.data.inputs.packing import primary_tasks
from c2al_tf.evaluation import ALL, REST
from c2al_tf.export.facts import ExportError, ExportFacts
from c2al_tf.files import read_json, write_json
from c2al_tf.storage import shown
from c2al_tf.training.distribution import make_strategy

from ..prediction.predict import compare_served
from ..report.diagnosis import diagnose, not_judged
from ..report.findings import sampled_rows, yardstick_rows, yardstick_warning
from ..report.page import HEADLINES
from ..report.report import write_report
from ..report.terminal import console, difference_text, number_text, print_pairs
from .arms import BASELINE, C2AL
from .details import read_evidence, write_details
from .exporting import is_exported
from .folder import RunFolder
from .logits import split_logits
from .rows import sample_rows
from .steps import evaluate_run, export_best, prepare_run
from .targets import discover_run
from .training import train_arm
from .warm_start import drift_of


def run_all(run: RunFolder) -> None:
    """Runs every step that is not done yet, and prints what was found and where it is."""
    start = time.perf_counter()
    strategy = make_strategy()
    check_arms_of_run(run)
    prepare_run(run)
    for seed in run.seeds:
        train_arm(run, seed, BASELINE, strategy)
    discover_run(run)
    print_discovery(run)
    report_drift(run)
    for seed in run.seeds:
        train_arm(run, seed, C2AL, strategy)
    evaluate_run(run)
    if not is_exported(run):
        export_best(run)
    write_json(run.path / "served.json", serve_once(run))
    details = write_details(run)
    report = write_report(run.path)
    print_summary(run, details)
    console.print(escape(f"\nReport: {shown(report)}\nServe:  c2al serve {shown(run.export)} --model-name default"))
    console.print(f"Time:   {time.perf_counter() - start:.0f} s")


def check_arms_of_run(run: RunFolder) -> None:
    """Raises ValueError unless the run's arms hold C2AL beside the baseline, with all seeds."""
    arm = run.arms.get(C2AL)
    if (
        arm is None
        or arm.reference != BASELINE
        or run.seeds_of(C2AL) != run.seeds
        or run.seeds_of(BASELINE) != run.seeds
    ):
        raise ValueError(
            f"`c2al run` compares the arms `{BASELINE}` and `{C2AL}` over all seeds; `c2al experiment` compares any. "
            f"Received: arms={[*run.arms]}, seeds={run.config.seeds}"
        )


def serve_once(run: RunFolder) -> dict[str, float]:
    """Starts a server on the export, and compares its answers over gRPC with the model's logits on validation rows."""
    exported = read_json(run.file("export.json"))
    seed, bound = exported["seed"], ExportFacts(**exported["facts"]).max_error
    sample, tasks = sample_rows(run), primary_tasks(run.schema)
    rows = len(next(iter(sample.values())))
    logits = {
        "logits" if len(tasks) == 1 else f"{task}_logits": split_logits(run, seed, C2AL, "validation", task)[:rows]
        for task in tasks
    }
    with Server(run.export, retries=0) as server:
        served = compare_served(f"127.0.0.1:{server.grpc_port}", "default", sample, logits)
    if not served["max_error"] <= bound:
        raise ExportError(f"The server must give the model's logits within {bound:g}. Received: {served}")
    return served


def print_discovery(run: RunFolder, most: int = 8) -> None:
    """Prints the accepted pairs, the most divergent first, how many were refused for what, and the choice."""
    discovery = run.discovery
    print_pairs(discovery, most)
    if discovery.given:
        _print_given(discovery)
    else:
        console.print(escape(f"Chosen: {' | '.join(map(str, run.cohorts))}"))
        _print_stability(discovery, len(run.cohorts))


def report_drift(run: RunFolder) -> None:
    """Prints what is no longer as in the run that this one begins with, and writes it into `drift.json`."""
    if run.config.warm_start is None:
        return
    drift = drift_of(run)
    write_json(run.path / "drift.json", drift)
    for words in drift:
        console.print(f"[red]Drift[/]: {escape(words)}")
    if not drift:
        console.print(escape(f"No drift since {run.config.warm_start}"))


def _print_given(discovery: Discovery) -> None:
    """Prints what the guard says of the cohorts given, and of their pairs."""
    # How many training rows there are in all is not recorded.
    guard = dataclasses.replace(discovery.guard, min_share=0.0)
    given = [summary for axis in discovery.axes if axis.name == GIVEN for summary in axis.cohorts]
    for s in given:
        reasons = guard.size_reasons("given", s.cohort, s.training_rows, 0, s.training_positives)
        if reasons:
            console.print(f"[red]Too little to learn from[/]: {escape('; '.join(reasons.values()))}")
    for pair in discovery.pairs:
        if pair.axis == GIVEN and not pair.accepted:
            names = f"{pair.head.cohort.name} against {pair.tail.cohort.name}"
            console.print(f"[red]The guard would refuse {names}[/]: {escape('; '.join(pair.reasons.values()))}")
    console.print(escape(f"Given: {' | '.join(map(str, discovery.given))}"))


def _print_stability(discovery: Discovery, num_cohorts: int) -> None:
    """Prints how often the best pair comes first, which it always does without another."""
    if discovery.stability is None:
        return
    if sum(pair.accepted for pair in discovery.pairs) == 1:
        console.print("Stability of the choice: not known; it is the only pair that passes the guard")
        return
    which = "The best pair is" if num_cohorts > 2 else "It is"
    first = f"{which} first of the accepted pairs in {discovery.stability:.0%} of baselines x resamples"
    console.print(first if discovery.stability >= STABLE else f"[red]Unstable choice[/]: {first}. {UNSTABLE}")


def print_metrics(run: RunFolder, truth: Mapping[str, float | None] | None = None) -> None:
    """Prints the arms' NE, overall and for the chosen cohorts, beside that of the true probabilities if known."""
    metrics = read_json(run.file("metrics.json"))
    table = Table(title=escape(run.config.title), caption=escape(metrics["interval"]), caption_justify="left")
    for name in ("slice", "positives", *(f"NE {arm}" for arm in (BASELINE, C2AL)), "NE_diff [95 % interval]"):
        table.add_column(name, justify="left" if name == "slice" else "right")
    if truth:
        table.add_column("NE of the truth", justify="right")
    for name in [ALL, *(cohort.name for cohort in run.cohorts), REST, *metrics.get("labels", ())]:
        cells = [name, f"{metrics['baseline'][name]['positives']:,}"]
        cells += [number_text(metrics[arm][name]["ne"]) for arm in (BASELINE, C2AL)]
        cells.append(escape(difference_text(metrics["ne_diff"][name])))
        table.add_row(*cells, *([number_text(truth.get(name))] if truth else []))
    if run.config.data.negative_sampling:
        rows = count_rows(split_files(run.path, "train"))
        console.print(f"Trained on {rows:,} rows: {sampled_rows(run.config.data.negative_sampling)}")
    console.print(table)
    for side in ("worse", "better") if run.config.seeds > 1 else ():
        names = [name for name in metrics[side] if name != ALL]
        console.print(escape(f"Cohorts that got {side}: {', '.join(names) or 'none beyond chance'}"))
    console.print(escape(metrics["claims"]))
    if run.config.yardstick:
        _print_yardstick(read_json(run.path / "yardstick.json"), metrics["baseline"])


def _print_yardstick(yardstick: Mapping[str, Any], baseline: Mapping[str, Any]) -> None:
    """Prints what gradient boosting reaches, beside the baseline."""
    table = Table(title="Gradient boosting as a yardstick", caption=yardstick_rows(yardstick), caption_justify="left")
    table.add_column("slice")
    figures = {"ne": "NE", "log_loss": "log loss", "auc": "AUC"}
    for name in figures.values():
        table.add_column(f"{name} baseline", justify="right")
        table.add_column(f"{name} boosting", justify="right")
    for name, boosting in yardstick["metrics"].items():
        table.add_row(name, *(number_text(model[key]) for key in figures for model in (baseline[name], boosting)))
    console.print(table)
    if warning := yardstick_warning(yardstick, baseline[ALL]):
        console.print(f"[red]{warning}[/]")


def print_diagnosis(run: RunFolder) -> None:
    """Prints the failure signatures of an evaluated run by name, with what to do, or that there are none."""
    evidence = read_evidence(run)
    found = diagnose(evidence)
    for signature in found:
        console.print(f"[red]{signature.name}[/]: {escape(signature.seen)}.\n  {escape(signature.advice)}")
    if not found:
        console.print("No failure signature and no break condition was found.")
    for reason in not_judged(evidence):
        console.print(f"Not judged. {escape(reason)}")


def print_summary(run: RunFolder, details: Mapping[str, Any]) -> None:
    """Prints what the run found."""
    served, planted = read_json(run.path / "served.json"), details["planted"]
    print_metrics(run, planted and planted["bayes_ne"])
    if planted:
        answer = "[green]yes[/]" if planted["found"] else "[red]no[/]"
        overlap = ", ".join(f"{role} {share:.1%}" for role, share in planted["overlap"].items())
        console.print(f"Planted pair found: {answer} (rows in common with what was planted: {overlap})")
    recommendation = read_json(run.path / "metrics.json")["recommendation"]
    colour = {"use": "green", "do not use": "red"}.get(recommendation["answer"], "bold")
    console.print(f"C2AL: [{colour}]{HEADLINES[recommendation['answer']]}[/]. {escape(recommendation['reason'])}")
    console.print(
        f"Served over gRPC: {served['rows']:,} rows, largest difference to the model's logits "
        f"{served['max_logit_difference']:.1e}"
    )
