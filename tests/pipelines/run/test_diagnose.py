"""`c2al diagnose`, on a run that is well and on runs that are not."""

import html
import shutil

import pytest
from c2al_pipelines.report.diagnosis import diagnose
from c2al_pipelines.run.details import read_evidence
from c2al_pipelines.run.folder import RunFolder, read_config

from c2al_tf.files import read_json

FROZEN = "[{name: baseline}, {name: c2al, cohorts: {by: targeted}, frozen: weights}]"


def one_line(text: str) -> str:
    return " ".join(text.split())


@pytest.fixture
def diagnosed(c2al, tmp_path, finished, small_words):
    """Trains C2AL anew in a copy of the finished run, whose lambdas and arms may change; what `diagnose` prints."""

    def run(**settings):
        names = ("config.json", "schema.json", "cohorts.json", "arms.json", "data", "encoded", "seeds")
        for name in names:
            source = finished.path / name
            (shutil.copytree if source.is_dir() else shutil.copy2)(source, tmp_path / name)
        for words in (
            ("prepare", *small_words(tmp_path, **settings)),
            ("train", "--run-dir", tmp_path, "--arm", "c2al"),
            ("evaluate", "--run-dir", tmp_path),
            ("diagnose", "--run-dir", tmp_path),
        ):
            outcome = c2al(*words)
            assert outcome.status == 0, outcome.error
        return one_line(outcome.output)

    return run


def test_the_finished_run(c2al, finished) -> None:
    """Its report and its details say the same."""
    found = diagnose(read_evidence(RunFolder(finished.path, read_config(finished.path / "config.json"))))
    text = one_line(c2al("diagnose", "--run-dir", finished.path).output)
    assert text.count("Not judged.") == text.count("fewer than 3 paired seeds measured it") == 1
    assert ("No failure signature" in text) is (not found)
    page = one_line((finished.path / "report.html").read_text())
    for signature in found:
        assert f"{signature.name}: {one_line(signature.seen)}." in text
        assert signature.name in html.unescape(page).lower()
    assert "In the course of training" in page
    diagnostics = read_json(finished.path / "details.json")["diagnostics"]
    assert [*diagnostics["baseline"]["layers"]] == [*diagnostics["c2al"]["layers"]] == [*diagnostics["c2al"]["tasks"]]
    assert {*diagnostics["c2al"]["tasks"]["fm_0"]} == {cohort["name"] for cohort in chosen_of(finished.path)}


def chosen_of(path):
    pair = next(pair for pair in read_json(path / "cohorts.json")["pairs"] if not pair["reasons"])
    return [{"name": pair[role]} for role in ("head", "tail")]


@pytest.mark.slow
def test_lambda_a_hundred(diagnosed) -> None:
    text = diagnosed(cohorts__lambdas="[100]")
    assert "overall worse: NE_diff over all rows is +" in text
    assert "Try lambda 33 instead of 1e+02" in text
    assert "does not reach the attention" not in text


@pytest.mark.slow
def test_frozen_attention(diagnosed) -> None:
    text = diagnosed(arms=FROZEN)
    assert "the auxiliary gradient does not reach the attention: no layer's attention takes a gradient" in text


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Task `tiny` .* too few to learn from:UserWarning")
def test_a_cohort_with_few_positives(c2al, tmp_path, small_words) -> None:
    given = (
        "[{name: rich, conditions: [{column: user_value, low: 1.0}]}, "
        "{name: tiny, conditions: [{column: user_value, low: 1.0, high: 1.03}]}]"
    )
    words = small_words(tmp_path, cohorts__given=given, cohorts__guard__min_positives=1)
    for step in (("prepare", *words), *(("train", "--arm", "baseline"), ("discover",), ("train", "--arm", "c2al"))):
        more = () if step[0] == "prepare" else ("--run-dir", tmp_path)
        outcome = c2al(*step, *more)
        assert outcome.status == 0, outcome.error
    assert c2al("evaluate", "--run-dir", tmp_path).status == 0
    text = one_line(c2al("diagnose", "--run-dir", tmp_path).output)
    assert "cohort too small: user_value in [1, 1.03) has " in text
    assert "`cohorts.guard.min_positives` at 100 or above" in text
