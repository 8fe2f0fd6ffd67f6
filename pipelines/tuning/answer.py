"""The answer of `c2al tune`: on the terminal, as Markdown and JSON, and as a configuration to go on with."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import yaml
from rich.markup import escape
from rich.table import Table

from c2al_tf.cohorts import RULES, Cohort
from c2al_tf.evaluation import ALL, REST
from c2al_tf.files import replace_file, write_json
from c2al_tf.storage import shown

from ..experiments.report import write_experiment_report
from ..experiments.result import Result
from ..report.evidence import slice_labels
from ..report.terminal import console
from ..run.arms import BASELINE, C2AL, Arm, Choice
from ..run.config import GivenCohort, RunConfig
from ..run.folder import RunFolder
from .search import Candidate
from .tune import Tuned, with_arms, with_seeds

CONFIGURATION = "recommended.yaml"
_COLOURS = {"use": "green", "do not use": "red", "undecided": "bold"}


def reason_of(tuned: Tuned) -> str:
    """Why the answer is what it is, in a sentence or two."""
    if tuned.recommendation is None:
        refusals = "; ".join(f"{count:,} for {RULES[rule]}" for rule, count in tuned.refusals.items())
        return f"No pair of cohorts passes the guard. Refused: {refusals or 'there is no pair'}."
    return tuned.recommendation.reason({cohort.name: str(cohort) for cohort in tuned.cohorts})


def write_answer(run: RunFolder, tuned: Tuned) -> None:
    """Writes `tune.json` and `tune.md`; if there is a best configuration, `report.html` and `recommended.yaml` too."""
    write_json(run.path / "tune.json", to_json(tuned))
    with replace_file(run.path / "tune.md") as temporary:
        temporary.write_text(as_markdown(run.config.title, tuned))
    if tuned.candidates:
        recommended = recommended_config(run.config, tuned.candidates[0].arm, tuned.cohorts)
        with replace_file(run.path / CONFIGURATION) as temporary:
            temporary.write_text(yaml.safe_dump(recommended.to_json(), sort_keys=False))
        _write_report(run, tuned)


def _write_report(run: RunFolder, tuned: Tuned) -> None:
    """The page of an experiment with the best configuration as its one arm."""
    assert tuned.evaluation is not None
    deciding = with_arms(with_seeds(run, tuned.seeds[0], len(tuned.seeds)), tuned.best)
    words = {cohort.name: str(cohort) for cohort in tuned.cohorts}
    worth = run.config.tune.worth
    result = Result(tuned.best, tuned.seeds, (*words.values(),), tuned.evaluation, targeted=words, worth=worth)
    titles = slice_labels(run.discovery)
    shown = {name: titles.get(name, name) for name in (ALL, *words, REST)}
    write_experiment_report(deciding, [result], shown, {}, 1, "tune", tuned.cohorts)


def recommended_config(config: RunConfig, best: Arm, cohorts: Sequence[Cohort]) -> RunConfig:
    """A configuration for `c2al run` that trains the best arm on its cohorts, with the seeds that decided."""
    lambdas = config.cohorts.lambdas if best.lambdas is None else best.lambdas
    given = tuple(GivenCohort.of(cohort) for cohort in cohorts)
    arms: tuple[Arm, ...] = ()
    if best.objective != "sum":
        arms = (Arm(BASELINE), Arm(C2AL, cohorts=Choice(), objective=best.objective))
    return dataclasses.replace(
        config,
        first_seed=config.first_seed + config.tune.search_seeds,
        cohorts=dataclasses.replace(config.cohorts, given=given, lambdas=lambdas),
        arms=arms,
    )


def to_json(tuned: Tuned) -> dict[str, Any]:
    """The form of `tune.json`."""
    answer: dict[str, Any] = {"answer": tuned.answer, "reason": reason_of(tuned)}
    if tuned.recommendation is not None and tuned.evaluation is not None:
        answer |= tuned.recommendation.to_json({cohort.name: str(cohort) for cohort in tuned.cohorts}) | {
            "cohorts": [cohort.to_json() for cohort in tuned.cohorts],
            "weights": weights_of(tuned.candidates[0].arm),
            "seeds": list(tuned.seeds),
            "metrics": tuned.evaluation.to_json(C2AL),
        }
    tried = [
        {
            "pair": _pair(candidate),
            "weights": weights_of(candidate.arm),
            "by_seed": list(candidate.by_seed),
            "finished": candidate.finished,
        }
        for candidate in tuned.candidates
    ]
    return answer | {"tried": tried}


def weights_of(arm: Arm) -> str:
    """The weights of an arm's tasks in words."""
    return "learnt" if arm.lambdas is None else " and ".join(f"{weight:g}" for weight in arm.lambdas)


def _pair(candidate: Candidate) -> str:
    choice = candidate.arm.cohorts
    return "given" if choice is None or choice.by == "targeted" else f"{choice.rank + 1}"


def as_markdown(title: str, tuned: Tuned) -> str:
    """The answer and what was tried."""
    lines = [f"# {title}", "", f"**{tuned.answer.capitalize()}.** {reason_of(tuned)}", ""]
    if tuned.evaluation is not None:
        lines += [f"Cohorts: {' | '.join(map(str, tuned.cohorts))}; weights {weights_of(tuned.candidates[0].arm)}.", ""]
        lines += ["| slice | NE_diff in percent [95 % interval] |", "|---|---|"]
        lines += [f"| {name} | {interval} |" for name, interval in _differences(tuned)]
        lines += ["", f"{tuned.evaluation.interval} Seeds {tuned.seeds[0]} to {tuned.seeds[-1]}, none of the search."]
    if tuned.candidates:
        lines += ["", "Tried, by NE_diff on the validation rows (percent, mean over the seeds reached):", ""]
        lines += ["| pair, by divergence | lambdas, head and tail | seeds | NE_diff |", "|---|---|---|---|"]
        for candidate in tuned.candidates:
            cells = (_pair(candidate), weights_of(candidate.arm), len(candidate.by_seed), f"{candidate.mean:+.3f}")
            lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines) + "\n"


def _differences(tuned: Tuned) -> list[tuple[str, str]]:
    if tuned.evaluation is None:
        return []
    words = {ALL: "all rows", **{cohort.name: str(cohort) for cohort in tuned.cohorts}, REST: "everyone else"}
    found = []
    for name, word in words.items():
        difference = tuned.evaluation.ne_diff[C2AL][name]
        percent = "-" if difference.percent is None else f"{difference.percent:+.3f}"
        interval = "" if difference.low is None else f" [{difference.low:+.3f}, {difference.high:+.3f}]"
        found.append((word, percent + interval))
    return found


def print_answer(run: RunFolder, tuned: Tuned) -> None:
    """Prints the answer, what was tried, and how to go on."""
    if tuned.candidates:
        table = Table(
            title="Tried on the validation rows",
            caption="NE_diff in percent, mean over the seeds",
            caption_justify="left",
        )
        for name in ("pair, by divergence", "lambdas, head and tail", "seeds", "NE_diff"):
            table.add_column(name, justify="right")
        for candidate in tuned.candidates:
            cells = (_pair(candidate), weights_of(candidate.arm), len(candidate.by_seed), f"{candidate.mean:+.3f}")
            table.add_row(*map(str, cells))
        console.print(table)
        console.print(
            escape(f"Best: {' | '.join(map(str, tuned.cohorts))}; weights {weights_of(tuned.candidates[0].arm)}")
        )
    for name, interval in _differences(tuned):
        console.print(escape(f"  {interval:28} {name}"))
    console.print(f"\n[{_COLOURS[tuned.answer]}]{tuned.answer.upper()}[/]. {escape(reason_of(tuned))}")
    console.print(f"Written: {shown(run.path / 'tune.md')}, tune.json beside it")
    if tuned.candidates:
        console.print(f"Report:  {shown(run.path / 'report.html')}")
        file = run.path / CONFIGURATION
        console.print(f"Train and export it: c2al run {shown(file)} --run-dir {shown(run.path)}-recommended")
