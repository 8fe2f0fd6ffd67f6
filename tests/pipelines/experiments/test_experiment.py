"""An experiment of several arms in the folder of a finished run: what is trained there is not trained again."""

import json
import shutil
import signal

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from c2al_pipelines.experiments.result import corrected

from c2al_tf.blocks import Variation
from c2al_tf.evaluation.intervals import NEDifference
from c2al_tf.files import read_json

ARMS = [
    {"name": "baseline"},
    {"name": "c2al", "cohorts": {"by": "targeted"}},
    {"name": "again", "cohorts": {"by": "targeted"}, "lambdas": [0.3]},
    {"name": "random", "cohorts": {"by": "random"}, "seeds": 1},
    {
        "name": "crosses",
        "cohorts": {"by": "rank", "crosses": 1, "rank": 3, "guard": False},
        "lambdas": [0.3],
        "seeds": 1,
    },
    {"name": "clusters", "cohorts": {"by": "rank", "clusters": 3, "guard": False}, "lambdas": [0.3], "seeds": 1},
    {"name": "static", "model": {"attention": "static"}, "seeds": 1},
    {
        "name": "static_tail",
        "cohorts": {"only": "tail"},
        "labels": "masked",
        "lambdas": [1.0],
        "model": {"attention": "static"},
        "reference": "static",
        "seeds": 1,
    },
    {"name": "decayed", "cohorts": {"by": "targeted"}, "lambdas": [0.3], "lambda_decay": True, "seeds": 1},
    {"name": "warm", "start": "baseline", "seeds": 1},
]


@pytest.fixture(scope="module")
def experiment(finished, script, tmp_path_factory):
    """The folder after `c2al experiment`, and what the command said."""
    folder = tmp_path_factory.mktemp("experiment") / "run"
    shutil.copytree(finished.path, folder)
    words = [word for word in finished.words if not word.startswith("--run-dir")]
    outcome = script("experiment", *words, f"--run-dir={folder}", f"--arms={json.dumps(ARMS)}", "--probe=true")
    assert outcome.status == 0, outcome.error[-3000:]
    return folder, outcome, words


def test_models_that_are_there_are_kept(experiment, finished) -> None:
    folder, outcome, _ = experiment
    for arm in ("baseline", "c2al"):
        files = [path / "seeds" / "0" / arm / "model.keras" for path in (folder, finished.path)]
        assert files[0].read_bytes() == files[1].read_bytes()
    assert "seed 0, baseline" not in outcome.error
    assert {path.name for path in (folder / "seeds" / "0").iterdir()} == {
        *("baseline", "c2al", "random", "crosses", "clusters", "static", "static_tail", "decayed", "warm")
    }, "`again` is what `c2al` is"
    assert "all models: 100%" in outcome.error


def test_the_same_arm_has_the_figures_of_the_run(experiment, finished) -> None:
    results = {result["arm"]: result for result in read_json(experiment[0] / "results.json")}
    metrics = read_json(finished.path / "metrics.json")
    for name, expected in metrics["ne_diff"].items():
        found = results["c2al"]["ne_diff"][name]
        for key in ("percent", "low", "high"):  # of other arms beside it: how a processor sums depends on their number
            assert found[key] == pytest.approx(expected[key], rel=1e-9)
    assert results["again"]["ne_diff"] == results["c2al"]["ne_diff"]
    assert list(results) == [arm["name"] for arm in ARMS[1:]]
    assert results["static_tail"]["reference"] == "static"


def test_the_truth_stands_under_what_models_reach(experiment, finished) -> None:
    """On generated rows: the truth's NE on the test rows, which no arm beats overall."""
    lines = (experiment[0] / "results.md").read_text().splitlines()
    at = lines.index("NE, mean over the seeds:")
    table = {
        cells[1]: [float(x) for x in cells[2:-1]] for line in lines[at + 4 : at + 13] if (cells := line.split("| "))
    }
    (truth,) = (nes for arm, nes in table.items() if arm.startswith("the truth"))
    planted = read_json(finished.path / "details.json")["planted"]["bayes_ne"]
    assert truth[0] == pytest.approx(planted["all"], abs=1e-4)
    assert len(table) > 3
    assert all(truth[0] <= nes[0] for nes in table.values())


def test_lambdas_that_fall_and_a_warm_start_train_other_models(experiment) -> None:
    """With lambdas that fall the weights are others than C2AL's; what starts trained begins with a lower loss."""
    arms = {arm: experiment[0] / "seeds" / "0" / arm for arm in ("baseline", "c2al", "decayed", "warm")}
    logits = {arm: np.load(folder / "test_logits.npy") for arm, folder in arms.items()}
    assert not np.allclose(logits["decayed"], logits["c2al"], atol=1e-3)
    losses = {arm: read_json(folder / "history.json")["epochs"][0]["primary_loss"] for arm, folder in arms.items()}
    assert losses["warm"] < losses["baseline"]


def test_the_tidy_table(experiment) -> None:
    table = pq.read_table(experiment[0] / "results.parquet").to_pandas()
    assert list(table.columns) == ["arm", "seed", "slice", "metric", "value"]
    assert not table.duplicated(["arm", "seed", "slice", "metric"]).any()
    assert set(table.arm) == {arm["name"] for arm in ARMS}
    value = table.set_index(["arm", "seed", "slice", "metric"]).value
    ratio = value["c2al", 1, "all", "log_loss"] / value["baseline", 1, "all", "log_loss"]
    assert value["c2al", 1, "all", "ne_diff"] == pytest.approx(100 * (ratio - 1), rel=1e-9)
    assert set(table[table.arm == "random"].seed) == {0}


def test_a_cohort_drawn_at_random_has_a_task_and_no_slice(experiment) -> None:
    folder = experiment[0]
    positives = read_json(folder / "seeds/0/random/history.json")["positives"]
    real = read_json(folder / "seeds/0/c2al/history.json")["positives"]
    for name, expected in zip(list(positives)[1:], list(real.values())[1:], strict=True):
        found = positives[name]
        assert name.startswith("random_")
        assert abs(found - expected) < 5 * expected**0.5
    assert "random_0" not in set(pq.read_table(folder / "results.parquet")["slice"].to_pylist())


def test_cohorts_from_crosses_and_from_clusters_of_h(experiment) -> None:
    results = {result["arm"]: result for result in read_json(experiment[0] / "results.json")}
    discoveries = [read_json(file) for file in experiment[0].glob("cohorts-*.json")]
    (clusters,) = [d for d in discoveries if [axis["name"] for axis in d["axes"]] == ["3 clusters of h"]]
    (crosses,) = [d for d in discoveries if d is not clusters]
    axes = [axis["name"] for axis in read_json(experiment[0] / "cohorts.json")["axes"]]
    assert [axis["name"] for axis in crosses["axes"]][: len(axes)] == axes
    (cross,) = [axis["name"] for axis in crosses["axes"]][len(axes) :]
    assert set(cross.split(" x ")) <= set(axes)
    for name, discovery, rank in (("crosses", crosses, 3), ("clusters", clusters, 0)):
        falling = sorted((pair["divergences"]["js"] for pair in discovery["pairs"]), reverse=True)
        assert results[name]["divergence"] == falling[rank]
        assert len(results[name]["cohorts"]) == 2


def test_the_report_and_the_recommendations(experiment) -> None:
    folder, outcome, _ = experiment
    page = (folder / "report.html").read_text()
    for result in read_json(folder / "results.json"):
        recommendation = result["recommendation"]
        headline = {"use": "Use it", "do not use": "Do not use it", "undecided": "Undecided"}[recommendation["answer"]]
        assert f"{headline}: {result['arm']}" in outcome.output
        if len(result["seeds"]) == 1:
            assert recommendation["answer"] == "undecided"
            assert not result["holds_among_all_arms"]
    for part in ("NE_diff by arm: all rows", "Who loses", "Attention before and after", "Gradient conflict over time"):
        assert part in page


def test_the_probe_and_the_figures(experiment) -> None:
    folder = experiment[0]
    table = pq.read_table(folder / "results.parquet").to_pandas()
    probed = table[table.metric == "probe_auc"]
    cohorts = {"user_value_top_5", "user_value_bottom_5"}
    assert set(probed.slice) == cohorts
    assert set(probed.arm) == set(table.arm)
    assert probed.value.between(0.5, 1).all()
    text = (folder / "results.md").read_text()
    assert "How well a logistic regression tells a cohort by h" in text
    assert "| baseline | 2 |" in text, "all its seeds, although arms of one seed refer to it, too"
    for name in ("arms.svg", "divergence.svg"):
        assert f"({name})" in text
        assert ">crosses<" in (folder / name).read_text()


def test_again_trains_nothing(experiment, c2al) -> None:
    folder, _, words = experiment
    times = {path: path.stat().st_mtime_ns for path in (folder / "seeds").rglob("*") if path.is_file()}
    results = (folder / "results.json").read_bytes()
    outcome = c2al("experiment", *words, f"--run-dir={folder}", f"--arms={json.dumps(ARMS)}", "--probe=true")
    assert outcome.status == 0, outcome.error
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert (folder / "results.json").read_bytes() == results
    assert "epoch" not in outcome.error


def test_cohorts_that_cannot_be_chosen_fail_before_training(experiment, c2al, tmp_path) -> None:
    folder, _, words = experiment
    shutil.copytree(folder, tmp_path / "run")
    arms = [
        ARMS[0],
        {"name": "new", "training": {"epochs": 2}},
        {"name": "far", "cohorts": {"by": "rank", "rank": 999}},
    ]
    outcome = c2al("experiment", *words, f"--run-dir={tmp_path / 'run'}", f"--arms={json.dumps(arms)}")
    assert outcome.status == 1
    assert "Arm `far`: `rank` must be below the number of pairs" in outcome.error
    assert not (tmp_path / "run" / "seeds" / "0" / "new").exists()


def test_arms_in_a_file(experiment, c2al, tmp_path) -> None:
    folder = shutil.copytree(experiment[0], tmp_path / "run")
    config = read_json(folder / "config.json")
    (tmp_path / "e.yaml").write_text(yaml.safe_dump(config | {"arms": ARMS[:2]}))
    outcome = c2al("experiment", tmp_path / "e.yaml", f"--run-dir={folder}")
    assert outcome.status == 0, outcome.error
    assert [result["arm"] for result in read_json(folder / "results.json")] == ["c2al"]
    assert (experiment[0] / "divergence.svg").exists()
    assert not (folder / "divergence.svg").exists(), "of arms that are no more"


def test_the_interval_of_many_arms_is_wider() -> None:
    """Student's 97.5 % and 99.75 % quantiles with 4 degrees of freedom."""
    rng = np.random.default_rng(0)
    variation = Variation(5, 1000, seeds=0.01**2, each=1e-12, rows=1e-12)
    difference = NEDifference(-1.0, None, None, tuple(rng.normal(size=5)), variation)
    low, high = corrected(difference, 1)
    assert (high - low) / 2 == pytest.approx(2.776445 * 0.01 / 5**0.5 * 100, rel=1e-4)
    low, high = corrected(difference, 10)
    assert (high - low) / 2 == pytest.approx(5.597568 * 0.01 / 5**0.5 * 100, rel=1e-4)
    assert corrected(NEDifference(None, None, None, ()), 3) == (None, None)


@pytest.mark.slow
def test_arms_with_state_or_masks_resume_after_a_kill(start_script, script, small_words, tmp_path, end_at) -> None:
    """To the same bits: group weights and the memberships of masked labels survive."""
    arms = [
        {"name": "baseline"},
        {"name": "dro", "cohorts": {"by": "targeted"}, "objective": "group_dro"},
        {"name": "masked", "cohorts": {"by": "targeted"}, "labels": "masked"},
        {"name": "pcgrad", "cohorts": {"by": "targeted"}, "objective": "pcgrad"},
    ]
    settings = {"training__batch_size": 50, "training__epochs": 2, "training__checkpoint_steps": 20, "seeds": 1}
    paths = [tmp_path / "unbroken", tmp_path / "killed"]
    unbroken, killed = (small_words(path, arms=json.dumps(arms), model__dropout=0.1, **settings) for path in paths)
    outcome = script("experiment", *unbroken)
    assert outcome.status == 0, outcome.error[-2000:]
    for arm, epoch in (("dro", 0), ("dro", 1), ("masked", 1), ("pcgrad", 1)):
        checkpoints = paths[1] / "seeds" / "0" / arm / "checkpoints"
        end_at(start_script("experiment", *killed), checkpoints, epoch, signal.SIGKILL)
    assert script("experiment", *killed).status == 0
    for arm in ("dro", "masked", "pcgrad"):
        logits = [np.load(path / "seeds" / "0" / arm / "test_logits.npy") for path in paths]
        np.testing.assert_array_equal(*logits)
    assert read_json(paths[0] / "results.json") == read_json(paths[1] / "results.json")
