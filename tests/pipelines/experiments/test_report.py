"""What the report of an experiment says of its arms."""

import html
import json
import re
from types import SimpleNamespace

import pytest
from c2al_pipelines.experiments.figures import draw_figures
from c2al_pipelines.experiments.report import write_experiment_report
from c2al_pipelines.experiments.result import Result
from c2al_pipelines.run.arms import Arm, Choice

from c2al_tf.blocks import Variation
from c2al_tf.cohorts import Cohort, CohortSummary, Discovery, Guard, Pair, Values
from c2al_tf.cohorts.results import AxisSummary
from c2al_tf.evaluation import ALL, REST, Evaluation
from c2al_tf.evaluation.claims import claim
from c2al_tf.evaluation.intervals import NEDifference

HEAD, TAIL = (Cohort(f"age_{name}", (Values("age", (name,)),)) for name in ("old", "young"))
ANSWERS = ("Use it", "Do not use it", "Undecided")


def difference(percent, sd=0.02):
    """Over 5 seeds; the margin is 1.24 sd, and 3.3 sd for 10 arms and 3 slices at once."""
    variation = Variation(5, 1000, (sd / 100) ** 2, 1e-12, 1e-12)
    margin = 100 * variation.margin
    return NEDifference(percent, percent - margin, percent + margin, (percent,) * 5, variation)


def result(name, overall, tail=0.0, sd=0.02, rest=0.0):
    percents = {ALL: overall, HEAD.name: 0.0, TAIL.name: tail, REST: rest}
    found = {slice_: difference(percent, sd) for slice_, percent in percents.items()}
    claims = claim(found, {ALL, HEAD.name, TAIL.name})
    targeted = {cohort.name: str(cohort) for cohort in (HEAD, TAIL)}
    evaluation = Evaluation({}, {name: found}, "baseline", "", {name: claims}, "")
    arm = Arm(name, cohorts=Choice(), lambdas=(0.3,))
    return Result(arm, tuple(range(5)), (str(HEAD), str(TAIL)), evaluation, (0.3, 0.3), 0.2, {}, targeted)


def discovery():
    head, tail = (CohortSummary(cohort, 100, 10, 0.1, (1.0, 2.0), 1000, 300) for cohort in (HEAD, TAIL))
    pair = Pair("age", head, tail, {"js": 0.2}, (0.1, 0.3), 0.001, 0.001, {})
    return Discovery("js", 300, 2, Guard(), (AxisSummary("age", (head, tail)),), (pair,), 0.9)


def diagnostics(cosine, entropy):
    gradients = {"cosine": cosine, "norm": 1.0, "primary_norm": 2.0}
    measures = {"entropy": entropy, "gini": 0.3, "effective_rank": 2.0, "near_zero": 0.1}
    return [
        row
        for step in (10, 20)
        for row in (
            {"step": step, "layer": "fm_0", "task": TAIL.name, **gradients},
            {"step": step, "layer": "fm_0", **measures},
        )
    ]


@pytest.fixture
def page(tmp_path):
    """Writes the report of some results among so many arms; the page, and what a reader sees outside of figures."""

    def write(results, num_arms):
        for number, name in enumerate(["baseline", *(r.arm.name for r in results)]):
            for seed in range(5):
                folder = tmp_path / str(seed) / name
                folder.mkdir(parents=True)
                rows = diagnostics(-0.1, 0.8 + (0.01 + 0.001 * seed) * number)
                lines = [json.dumps(row) for row in rows if number or "task" not in row]
                (folder / "diagnostics.jsonl").write_text("\n".join(lines) + "\n")
        run = SimpleNamespace(
            path=tmp_path,
            config=SimpleNamespace(title="Arms"),
            discovery=discovery(),
            cohorts=(HEAD, TAIL),
            seeds_of=lambda arm: range(5),
            model_folder=lambda seed, arm: tmp_path / str(seed) / arm,
        )
        titles = {ALL: "all rows", TAIL.name: "age is young"}
        file = write_experiment_report(run, results, titles, draw_figures(results, titles, (0.3,)), num_arms)
        text = file.read_text()
        words = re.sub(r"<(svg|style)\b.*?</\1>", " ", text, flags=re.DOTALL)
        return text, html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", words)))

    return write


def test_each_arm_has_its_recommendation(page) -> None:
    arms = [result("gains", -0.3), result("harms", 0.3, rest=0.4), result("open", -0.04, sd=0.2)]
    text, words = page(arms, 3)
    assert '<strong class="big">1 of 3 arms is worth using</strong>' in text
    for answer, name in zip(ANSWERS, ("gains", "harms", "open"), strict=True):
        assert f"{answer}: {name}." in words
        assert re.search(rf"{name} \(against baseline; .*?\): {answer}\. NE over all rows", words)
    assert "this would decide" in words
    assert "harms: everyone else +0.400 % (" in words
    assert "Nobody beyond chance: gains, open." in words
    assert "Still to come" not in words


def test_the_best_of_many_arms_is_lucky(page) -> None:
    """-0.05 is beyond chance for one arm, whose interval for three slices reaches 0.035, and not among ten, 0.066."""
    assert [result("weak", -0.05).holds_among(number) for number in (1, 10)] == [True, False]
    _, words = page([result("weak", -0.05), result("strong", -0.3)], 10)
    assert "The best of 10 arms is lucky" in words
    assert "the gain of strong is still shown" in words
    assert "Still to come: 8 of 10 arms." in words
    assert "Use it: weak, strong." in words


def test_no_arm_that_is_worth_using(page) -> None:
    text, words = page([result("flat", 0.0), result("harms", 0.3)], 2)
    assert '<strong class="big">Do not use any of the arms</strong>' in text
    assert "lucky" not in words, "no arm is chosen"


def test_a_gain_that_one_of_many_arms_has_by_chance(page) -> None:
    text, words = page([result("weak", -0.05)], 10)
    assert '<strong class="big">Undecided: 1 of 10 arms looks worth using</strong>' in text
    assert "no arm's gain is shown: train more seeds before choosing" in words


def test_the_inside_and_sensitive_attributes(page) -> None:
    text, words = page([result("gains", -0.3)], 1)
    assert "gains is denser in fm_0" in words
    assert "primary one in 100 % of the measurements" in words
    assert "Sensitive attributes: age" in words
    assert "c2al experiment config.json" in words
    for title in ("NE_diff by arm: age is young", "Gradient conflict over time"):
        assert f"<b>{title}</b>" in text
    assert text.count("<figure") == text.count("<svg") == 5
    assert "lucky" not in words, "there is one arm"
