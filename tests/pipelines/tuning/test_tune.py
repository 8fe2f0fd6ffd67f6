"""`c2al tune` on a small world, whole; its answer in files; and that the search reads no test row."""

import dataclasses
import json
import shutil

import pytest
import yaml
from c2al_pipelines.run.config import load_config
from c2al_pipelines.run.folder import RunFolder, read_config
from c2al_pipelines.tuning import tune
from c2al_pipelines.tuning.answer import reason_of
from c2al_pipelines.tuning.tune import tune_run

from c2al_tf.files import read_json
from c2al_tf.training import NonFiniteLossError

SETTINGS = {"tune__budget": 2, "tune__search_seeds": 1, "tune__pairs": 2, "seeds": 2}


@pytest.fixture(scope="module")
def tuned(made_once, small_words, script):
    """The folder after `c2al tune`, its words, and what it said."""

    def make(path):
        outcome = script("tune", *small_words(path, **SETTINGS))
        assert outcome.status == 0, outcome.error[-3000:]
        return {"output": outcome.output, "error": outcome.error}

    path, said = made_once("tuned", make)
    return path, small_words(path, **SETTINGS), said


def test_it_answers(tuned) -> None:
    path, _, said = tuned
    answer = read_json(path / "tune.json")
    assert answer["answer"] in ("use", "do not use", "undecided")
    assert answer["answer"].upper() in said["output"]
    assert answer["answer"].capitalize() in (path / "tune.md").read_text()
    assert answer["seeds"] == [1, 2], "those of the search come before"
    assert (answer["needed"] is not None) == (answer["answer"] == "undecided")
    assert [len(tried["by_seed"]) for tried in answer["tried"]] == [1, 1]
    assert "all models: 100%" in said["error"]
    page = (path / "report.html").read_text()
    headline = {"use": "Use it", "do not use": "Do not use it", "undecided": "Undecided"}[answer["answer"]]
    assert f'<strong class="big">{headline}</strong>' in page
    assert "c2al tune config.json" in page


def test_the_search_reads_no_test_row(tuned) -> None:
    folders = {
        (int(model.parent.parent.name), model.parent.name): model.parent
        for model in (tuned[0] / "seeds").glob("*/*/model.keras")
    }
    scored = {key for key, folder in folders.items() if (folder / "test_logits.npy").exists()}
    assert {seed for seed, _ in folders} == {0, 1, 2}
    assert {seed for seed, _ in scored} == {1, 2}
    assert len(scored) == 4


def test_the_recommended_configuration_trains_what_was_chosen(tuned, tmp_path) -> None:
    path, _, _ = tuned
    config, answer = load_config(path / "recommended.yaml"), read_json(path / "tune.json")
    assert [cohort.cohort().name for cohort in config.cohorts.given] == [c["name"] for c in answer["cohorts"]]
    assert [config.first_seed, config.seeds] == [1, 2], "the seeds of the search decide nothing there either"
    learnt = answer["weights"] == "learnt"
    assert [arm.objective for arm in config.arms] == (["sum", "uncertainty"] if learnt else [])
    if not learnt:
        assert answer["weights"] == " and ".join(f"{weight:g}" for weight in config.cohorts.lambdas)
    assert yaml.safe_load((path / "recommended.yaml").read_text())["title"] == config.title


def test_an_interrupted_call_goes_on(tuned, tmp_path, monkeypatch) -> None:
    """Of a folder without the last model nothing else is trained, and the answer is the same."""
    folder = tmp_path / "run"
    shutil.copytree(tuned[0], folder)
    last = folder / "seeds" / "2"
    (removed,) = (model.parent for model in last.glob("*/model.keras") if model.parent.name != "baseline")
    shutil.rmtree(removed)
    trained = []
    train = tune.train_arm

    def watched(run, seed, name, *rest, **more):
        file = run.model_folder(seed, name) / "model.keras"
        trained.extend([] if file.exists() else [(seed, name)])
        return train(run, seed, name, *rest, **more)

    monkeypatch.setattr(tune, "train_arm", watched)
    again = tune_run(RunFolder(folder, read_config(folder / "config.json")))
    assert trained == [(2, "c2al")]
    before = read_json(folder / "tune.json")
    assert again.answer == before["answer"]
    assert [list(candidate.by_seed) for candidate in again.candidates] == [t["by_seed"] for t in before["tried"]]
    figures = before["metrics"]["ne_diff"]["all"]
    assert again.evaluation.ne_diff["c2al"]["all"].percent == pytest.approx(figures["percent"], rel=1e-4)


def test_without_a_pair_there_is_nothing_to_use(tuned, tmp_path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(tuned[0], folder)
    cohorts = read_json(folder / "cohorts.json")
    for pair in cohorts["pairs"]:
        pair["reasons"] = {"chance": "a divergence that chance explains"}
    (folder / "cohorts.json").write_text(json.dumps(cohorts))
    found = tune_run(RunFolder(folder, read_config(folder / "config.json")))
    assert (found.answer, found.candidates) == ("do not use", ())
    assert reason_of(found).startswith("No pair of cohorts passes the guard. Refused: ")
    assert "for a divergence that chance explains" in reason_of(found)


def test_cohorts_that_other_seeds_found_are_refused(tuned, tmp_path) -> None:
    """A run of more baselines found them, some of which would decide."""
    folder = tmp_path / "run"
    shutil.copytree(tuned[0], folder)
    config = read_config(folder / "config.json")
    more = dataclasses.replace(config, tune=dataclasses.replace(config.tune, search_seeds=2))
    with pytest.raises(
        ValueError, match="found with 1 baselines, .*`tune.search_seeds` is 2. Choose another --run-dir"
    ):
        tune_run(RunFolder(folder, more))


def test_weights_that_diverge_are_left_out(tuned, tmp_path, monkeypatch) -> None:
    folder = tmp_path / "run"
    shutil.copytree(tuned[0], folder)
    train = tune.train_arm

    def diverging(run, seed, name, *rest, **more):
        if name == "tried_0":
            raise NonFiniteLossError("The loss must be finite")
        return train(run, seed, name, *rest, **more)

    monkeypatch.setattr(tune, "train_arm", diverging)
    found = tune_run(RunFolder(folder, read_config(folder / "config.json")))
    assert [candidate.finished for candidate in found.candidates] == [True, False]


def test_arms_of_ones_own_are_refused(c2al, small_words, tmp_path) -> None:
    outcome = c2al("tune", *small_words(tmp_path / "run"), "--arms", json.dumps([{"name": "baseline"}]))
    assert outcome.status == 1
    assert "`c2al experiment` compares those" in outcome.error
    outcome = c2al("tune", *small_words(tmp_path / "other", cohorts__num_cohorts=3))
    assert "Received: 3 cohorts" in outcome.error
