"""The whole run: by one command, again, step by step, and killed on the way."""

import dataclasses
import json
import re
import shutil
import signal
import types
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from c2al_pipelines.datasets.synthetic_ads import SyntheticAds, planted_cohorts
from c2al_pipelines.report.page import HEADLINES
from c2al_pipelines.run.config import CohortsConfig, DataConfig, RunConfig, load_config
from c2al_pipelines.run.folder import RunFolder
from c2al_pipelines.run.run import print_metrics
from c2al_pipelines.run.steps import evaluate_run
from c2al_pipelines.run.targets import discover_run
from c2al_pipelines.run.training import train_arm
from scipy.special import expit

from c2al_tf.cohorts import (
    Axis,
    Cohort,
    Discovery,
    Guard,
    Values,
    count_cohorts,
    count_sizes,
    cut_axes,
    rank_cohorts,
)
from c2al_tf.data.columns.raw import concatenate
from c2al_tf.data.columns.readers import read_columns
from c2al_tf.evaluation.scoring import slice_metrics
from c2al_tf.files import read_json, write_json
from c2al_tf.saved_model import SavedModel
from c2al_tf.schema import Schema

ARMS = ("baseline", "c2al")
FIGURES = ["rows", "positives", "ne", "log_loss", "auc", "calibration"]


def rows_of(path: Path, split: str) -> dict[str, np.ndarray]:
    files = sorted((path / "data").glob(f"{split}-*.parquet"))
    return concatenate(list(read_columns(files, Schema.load(path / "schema.json").columns)))


def times_of(path: Path, *patterns: str) -> dict[str, int]:
    """When each file of the folder was last written."""
    files = [file for pattern in patterns for file in path.glob(pattern) if file.is_file()]
    assert files
    return {str(file): file.stat().st_mtime_ns for file in files}


def copy_run(finished, target: Path, *names: str) -> Path:
    """A copy of some files and folders of the finished run."""
    for name in names:
        source = finished.path / name
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if source.is_dir() else shutil.copy2)(source, target / name)
    return target


def test_every_file_is_there(finished) -> None:
    files = {str(path.relative_to(finished.path)) for path in finished.path.rglob("*") if path.is_file()}
    splits = [f"data/{split}-00000.parquet" for split in ("train", "validation", "test")]
    models = [f"seeds/{k}/{arm}/{name}" for k in (0, 1) for arm in ARMS for name in ("model.keras", "history.json")]
    saved = [f"export/1/{name}" for name in ("saved_model.pb", "variables/variables.index", "fingerprint.pb")]
    assert files >= {
        *("config.json", "schema.json", "cohorts.json", "metrics.json", "metrics_by_seed.json", "report.html"),
        *splits,
        *models,
        *saved,
        "export/1/assets.extra/tf_serving_warmup_requests",
    }
    assert not [file for file in files if Path(file).name.startswith(".") or "checkpoint" in file]
    assert [path.name for path in (finished.path / "export").iterdir()] == ["1"]


def test_what_the_terminal_shows(finished) -> None:
    output = finished.outcome.output
    assert f"Report: {finished.path}/report.html" in output
    assert "Chosen: user_value in top 5 %" in output
    assert "Pairs of cohorts that pass the guard" in output
    assert re.search(r"Refused: \d+ pairs \(\d+ ", output)
    assert "of baselines x resamples" in output
    assert "Planted pair found: yes" in output
    assert "NE of the truth" in output
    for step in ("prepare train", "seed 0, baseline, epoch 1/1", "seed 1, c2al, epoch 1/1"):
        assert step in finished.outcome.error
    assert not re.search(r"^[IWE]\d{4} |Traceback|oneDNN|rebuild TensorFlow", finished.outcome.error, re.MULTILINE)


def discover(surfaces: list[str], given: list[Cohort] | None = None, **arguments: Any) -> Discovery:
    """On 4,000 rows of surfaces with rates apart."""
    surface = np.resize(np.array(surfaces, object), 4000)
    p = np.linspace(0.1, 0.9, len(surfaces))[np.arange(4000) % len(surfaces)]
    labels = (np.random.default_rng(0).random(4000) < p).astype(np.float32)
    columns = {"surface": surface}
    cuts = cut_axes([Axis(("surface",))], columns, given=given or [])
    training = count_sizes(columns, cuts, labels=labels)
    return rank_cohorts(count_cohorts(p, columns, cuts, labels=labels), training=training, **arguments)


@pytest.fixture
def shown(c2al, tmp_path):
    """Maps a discovery to what `c2al discover` prints of it, in one line."""

    def show(discovery: Discovery, **cohorts: Any) -> str:
        config = RunConfig("t", DataConfig("census"), cohorts=CohortsConfig(**cohorts))
        write_json(tmp_path / "config.json", config.to_json())
        write_json(tmp_path / "cohorts.json", discovery.to_json())
        outcome = c2al("discover", "--run-dir", tmp_path)
        assert outcome.status == 0, outcome.error
        return " ".join(outcome.output.split())

    return show


def test_text_of_the_data_is_no_markup(shown) -> None:
    says = shown(discover(["[/x]", "[b]feed"]))
    assert "Chosen: surface is [b]feed | surface is [/x]" in says
    given = [Cohort(name, (Values("surface", (value,)),)) for name, value in (("a", "[/x]"), ("b", "[b]feed"))]
    says = shown(discover(["[/x]", "[b]feed", ":fire:"], given, guard=Guard(min_positives=3000)))
    assert "Given: surface is [/x] | surface is [b]feed" in says
    assert "The guard would refuse b against a: head cohort `surface is [b]feed` has" in says


def test_stability_is_of_a_choice_among_several(shown) -> None:
    says = shown(discover(["a", "b"]))
    assert "Stability of the choice: not known; it is the only pair that passes the guard" in says
    assert "100%" not in says
    three = dataclasses.replace(discover(["a", "b", "c"]), stability=0.75)
    assert "It is first of the accepted pairs in 75% of baselines x resamples" in shown(three)
    assert "The best pair is first of the accepted pairs in 75% of" in shown(three, num_cohorts=3)
    assert "Unstable choice: The best pair is first" in shown(dataclasses.replace(three, stability=0.2), num_cohorts=3)


def test_a_single_given_cohort_is_held_against_the_guard(shown) -> None:
    mine = Cohort("mine", (Values("surface", ("[/x]",)),))
    says = shown(discover(["[/x]", "b", "c"], [mine], guard=Guard(min_positives=500)))
    assert re.search(
        r"Too little to learn from: given cohort `surface is \[/x\]` has \d+ positives in 1,334 training rows; at "
        r"least 500 are needed Given: surface is \[/x\]",
        says,
    )
    assert "Too little" not in shown(discover(["[/x]", "b", "c"], [mine]))


def test_a_pair_without_an_interval(shown, monkeypatch) -> None:
    discovery = discover(["a", "b"])
    changed = dataclasses.replace(discovery, pairs=(dataclasses.replace(discovery.pairs[0], interval=None),))
    monkeypatch.setattr(Discovery, "from_json", lambda json: changed)
    assert re.search(r"0\.\d{4} - ", shown(discovery))


@pytest.mark.parametrize("seeds", [1, 2])
def test_metrics_of_one_seed_say_nothing_of_cohorts(tmp_path, capsys, seeds) -> None:
    config = RunConfig("[/t]", DataConfig("census"), seeds=seeds)
    discovery = discover(["a", "b"])
    slices = ("all", *(cohort.name for cohort in discovery.cohorts()), "rest")
    figures = {name: {"positives": 5, "ne": 0.9} for name in slices}
    metrics = {"baseline": figures, "c2al": figures, "better": [], "worse": [], "interval": "[/i]", "claims": "[/c]"}
    differences = {name: {"percent": 1.0, "low": 0.5, "high": 1.5} for name in slices}
    write_json(tmp_path / "metrics.json", metrics | {"ne_diff": differences})
    write_json(tmp_path / "cohorts.json", discovery.to_json())
    print_metrics(RunFolder(tmp_path, config))
    says = capsys.readouterr().out
    for text in ("[/t]", "[/i]", "[/c]", "+1.000 % [+0.500, +1.500]"):
        assert text in says
    assert ("beyond chance" in says) is (seeds > 1)


@pytest.mark.parametrize("worse", [False, True])
def test_the_yardstick_is_shown_beside_the_baseline(tmp_path, capsys, worse) -> None:
    figures = {"positives": 5, "ne": 0.8, "log_loss": 0.25, "auc": 0.75}
    boosting = {"ne": 0.7 if worse else 0.9, "log_loss": 0.2125, "auc": 0.8125}
    about = {"model": "Boosting", "trees": 7, "rows": 9, "total_rows": 9}
    yardstick = about | {"metrics": dict.fromkeys(("all", "rest"), boosting)}
    discovery = discover(["a", "b"])
    slices = ("all", *(cohort.name for cohort in discovery.cohorts()), "rest")
    differences = {name: {"percent": 1.0, "low": 0.5, "high": 1.5} for name in slices}
    metrics = {arm: dict.fromkeys(slices, figures) for arm in ARMS} | {"ne_diff": differences}
    write_json(tmp_path / "metrics.json", metrics | {"better": [], "worse": [], "interval": "i", "claims": "c"})
    write_json(tmp_path / "cohorts.json", discovery.to_json())
    write_json(tmp_path / "yardstick.json", yardstick)
    print_metrics(RunFolder(tmp_path, RunConfig("t", DataConfig("census"), yardstick=True)))
    says = " ".join(capsys.readouterr().out.split())
    for text in ("0.8125", "0.2125", "Boosting, 7 trees, trained on all 9 training rows"):
        assert text in says
    assert ("that boosting beats convinces nobody" in says) is worse


def test_metrics_have_the_form_that_is_promised(finished) -> None:
    metrics = json.loads((finished.path / "metrics.json").read_text(), parse_constant=pytest.fail)
    called = {"better", "worse", "claims", "recommendation"}
    assert set(metrics) == {"baseline", "c2al", "ne_diff", "interval", "exported_seed", "labels"} | called
    assert metrics["labels"] == []
    slices = list(metrics["baseline"])
    assert slices[:4] == ["all", "user_value_top_5", "user_value_bottom_5", "rest"]
    assert {"user_value_25_75", "surface_feed", "age_group_65"} < set(slices)
    for arm in ARMS:
        assert list(metrics[arm]) == slices
        assert all(list(figures) == FIGURES for figures in metrics[arm].values())
    assert list(metrics["ne_diff"]) == slices
    assert all(list(d) == ["percent", "low", "high", "q_value"] for d in metrics["ne_diff"].values())
    named = {"all", "user_value_top_5", "user_value_bottom_5"}
    assert {name for name, d in metrics["ne_diff"].items() if d["q_value"] is None} == named
    low, percent, high = (metrics["ne_diff"]["all"][name] for name in ("low", "percent", "high"))
    assert low < percent < high
    assert metrics["baseline"]["all"]["rows"] == 15_000
    assert "2 paired seeds and resamples seeds and rows" in metrics["interval"]


def test_all_baselines_and_the_training_rows_decide(finished) -> None:
    found = Discovery.from_json(read_json(finished.path / "cohorts.json"))
    assert (found.num_seeds, found.total_rows, found.guard.min_positives) == (2, 15_000, 50)
    assert found.best.label_p_value <= 0.01
    rows = rows_of(finished.path, "train")
    for summary in (found.best.head, found.best.tail):
        inside = summary.cohort.contains(rows)
        assert (summary.training_rows, summary.training_positives) == (inside.sum(), rows["click"][inside].sum())


@pytest.mark.slow
def test_given_cohorts_are_targeted_whatever_is_found(finished, tmp_path) -> None:
    """Discovery on what the finished run's baseline predicted; C2AL models of other cohorts are no models of these."""
    folder = copy_run(finished, tmp_path / "run", "data", "schema.json", "seeds/0")
    given = [
        {"name": "young", "conditions": [{"column": "age_group", "values": ["18-24"]}]},
        {
            "name": "rich_feed",
            "conditions": [{"column": "user_value", "low": 2}, {"column": "surface", "values": ["feed"]}],
        },
    ]
    config = read_json(finished.path / "config.json")
    write_json(folder / "config.json", config | {"seeds": 1, "cohorts": config["cohorts"] | {"given": given}})
    run = RunFolder(folder, load_config(folder / "config.json"))
    discover_run(run)
    assert [str(cohort) for cohort in run.cohorts] == ["age_group is 18-24", "user_value from 2 and surface is feed"]
    pairs = [pair for pair in run.discovery.pairs if pair.axis == "given"]
    assert len(pairs) == 1
    assert pairs[0].p_value is not None
    with pytest.raises(
        ValueError, match="model.keras is not there yet. Run `c2al train --run-dir .* --arm c2al` first"
    ):
        evaluate_run(run)
    train_arm(run, 0, "c2al")
    evaluate_run(run)
    differences = read_json(folder / "metrics.json")["ne_diff"]
    assert list(differences)[:4] == ["all", "young", "rich_feed", "rest"]
    assert "given, other" not in differences


def test_metrics_are_the_means_over_the_seeds(finished) -> None:
    metrics, seeds = (read_json(finished.path / f"metrics{part}.json") for part in ("", "_by_seed"))
    entries = seeds["seeds"]
    assert [entry["seed"] for entry in entries] == [0, 1]
    for name, figures in metrics["c2al"].items():
        for figure in FIGURES:
            values = [entry["c2al"][name][figure] for entry in entries]
            expected = None if None in values else pytest.approx(np.mean(values), rel=1e-12)
            assert figures[figure] == expected
    mean = np.mean([entry["ne_diff"]["all"] for entry in entries])
    assert metrics["ne_diff"]["all"]["percent"] == pytest.approx(mean, rel=1e-12)
    assert entries[0]["c2al"]["all"] != entries[1]["c2al"]["all"]


def test_the_exported_model_is_that_seeds_model(finished) -> None:
    """Properties 6 and 7, end to end: raw rows through the export give the figures of `metrics_by_seed.json`."""
    rows = rows_of(finished.path, "test")
    schema = Schema.load(finished.path / "schema.json")
    seed = read_json(finished.path / "metrics.json")["exported_seed"]
    with SavedModel(finished.path / "export" / "1") as served:
        logits = served.run({feature.name: rows[feature.name] for feature in schema.features})["logits"]
    expected = read_json(finished.path / "metrics_by_seed.json")["seeds"][seed]["c2al"]["all"]
    figures = slice_metrics(logits, rows["click"])
    assert (figures["rows"], figures["positives"]) == (expected["rows"], expected["positives"])
    assert figures["ne"] == pytest.approx(expected["ne"], abs=1e-6)
    assert figures["auc"] == pytest.approx(expected["auc"], abs=1e-6)
    other = read_json(finished.path / "metrics_by_seed.json")["seeds"][1 - seed]["c2al"]["all"]
    assert other["ne"] != pytest.approx(expected["ne"], abs=1e-5)


def test_the_exported_seed_is_the_best_on_the_validation_rows(finished) -> None:
    histories = [read_json(finished.path / f"seeds/{seed}/c2al/history.json") for seed in (0, 1)]
    best = int(np.argmin([history["epochs"][-1]["val_primary_ne"] for history in histories]))
    assert read_json(finished.path / "metrics.json")["exported_seed"] == best
    assert read_json(finished.path / "export.json")["seed"] == best


def test_the_history_is_of_the_model_kept(finished) -> None:
    rows = rows_of(finished.path, "validation")
    logits = np.load(finished.path / "seeds/0/baseline/validation_logits.npy")
    recorded = read_json(finished.path / "seeds/0/baseline/history.json")["epochs"][-1]["val_primary_ne"]
    assert slice_metrics(logits, rows["click"])["ne"] == pytest.approx(recorded, rel=1e-5)


@pytest.mark.parametrize("partition", ["chosen cohorts and the rest", "an axis"])
def test_overall_difference_is_the_mean_over_a_partition(finished, partition) -> None:
    """Property 2, end to end: weighted by the baseline's log loss."""
    for entry in read_json(finished.path / "metrics_by_seed.json")["seeds"]:
        slices = ["user_value_top_5", "user_value_bottom_5", "rest"]
        if partition == "an axis":
            slices = [name for name in entry["ne_diff"] if name.startswith("user_value_")]
        baseline = entry["baseline"]
        mass = {name: baseline[name]["rows"] * baseline[name]["log_loss"] for name in ("all", *slices)}
        assert sum(baseline[name]["rows"] for name in slices) == baseline["all"]["rows"]
        mean = sum(mass[name] * entry["ne_diff"][name] for name in slices) / mass["all"]
        assert entry["ne_diff"]["all"] == pytest.approx(mean, rel=1e-9)


def test_the_planted_pair_is_found(finished) -> None:
    """Property 4, end to end."""
    parameters = SyntheticAds(**read_json(finished.path / "config.json")["data"]["synthetic_ads"])
    found = Discovery.from_json(read_json(finished.path / "cohorts.json")).cohorts(2)
    rows = rows_of(finished.path, "test")
    for planted, cohort in zip(planted_cohorts(parameters), found, strict=True):
        a, b = planted.contains(rows), cohort.contains(rows)
        assert (a & b).sum() > 0.9 * (a | b).sum()
    planted = read_json(finished.path / "details.json")["planted"]
    assert planted["found"] is True
    recommendation = read_json(finished.path / "metrics.json")["recommendation"]
    said = f"C2AL: {HEADLINES[recommendation['answer']]}. {recommendation['reason']}"
    assert said in " ".join(finished.outcome.output.split())
    assert planted["bayes_ne"]["all"] < read_json(finished.path / "metrics.json")["baseline"]["all"]["ne"]


def test_discovery_read_the_validation_rows(finished) -> None:
    discovery = Discovery.from_json(read_json(finished.path / "cohorts.json"))
    rows = rows_of(finished.path, "validation")
    head = discovery.best.head
    member = head.cohort.contains(rows)
    assert discovery.total_rows == 15_000
    assert (head.rows, head.positives) == (member.sum(), rows["click"][member].sum())
    logits = np.stack([np.load(finished.path / f"seeds/{k}/baseline/validation_logits.npy") for k in (0, 1)])
    assert head.mean_prediction == pytest.approx(expit(logits[:, member].astype(np.float64)).mean(), rel=1e-6)


def test_the_server_was_asked(finished) -> None:
    served = read_json(finished.path / "served.json")
    assert served["rows"] == 4096
    assert served["max_logit_difference"] < 1e-5


def test_the_same_command_again_changes_nothing(finished, c2al) -> None:
    kept = ("seeds/*/*/*", "data/*", "export/1/**/*", "schema.json", "cohorts.json", "export.json")
    before = times_of(finished.path, *kept)
    written = ("config.json", "metrics.json", "metrics_by_seed.json")
    contents = {name: (finished.path / name).read_bytes() for name in written}
    outcome = c2al("run", *finished.words)
    assert outcome.status == 0, outcome.error
    assert times_of(finished.path, *kept) == before
    assert {name: (finished.path / name).read_bytes() for name in written} == contents
    assert "epoch" not in outcome.error
    assert [path.name for path in (finished.path / "export").iterdir()] == ["1"]


def test_another_configuration_in_the_same_folder_is_an_error(finished, c2al) -> None:
    before = times_of(finished.path, "**/*")
    outcome = c2al("run", *finished.words, "--model.num_blocks=2", "--training.epochs=2")
    assert outcome.status == 1
    assert f"{finished.path} holds a run of another configuration" in outcome.error
    assert "they differ in ['model.num_blocks (1 there, 2 now)', 'training.epochs (1 there, 2 now)']" in outcome.error
    assert "Choose another --run-dir, or remove the folder" in outcome.error
    assert times_of(finished.path, "**/*") == before


@pytest.mark.slow
def test_step_by_step_gives_the_same(finished, c2al, tmp_path) -> None:
    """Seed 0 is trained here; the models of seed 1 and the export are there already."""
    copy_run(finished, tmp_path, "seeds/1", "export", "export.json")
    run = ("--run-dir", tmp_path)
    words = [word for word in finished.words if not word.startswith("--run-dir")]
    steps = (
        (("prepare", *words, *run), f"{tmp_path / 'data'}, {tmp_path / 'schema.json'}"),
        (("train", *run, "--arm", "baseline"), str(tmp_path / "seeds/1/baseline/model.keras")),
        (("discover", *run), "Chosen: user_value in top 5 %"),
        (("train", *run, "--arm", "c2al"), str(tmp_path / "seeds/1/c2al/model.keras")),
        (("evaluate", *run), "Cohorts that got worse"),
        (("report", *run), str(tmp_path / "report.html")),
    )
    for step, says in steps:
        outcome = c2al(*step)
        assert outcome.status == 0, outcome.error
        assert says in outcome.output
    for name in ("schema.json", "cohorts.json", "metrics_by_seed.json", "metrics.json"):
        assert read_json(tmp_path / name) == read_json(finished.path / name)
    for seed in (0, 1):
        for arm in ARMS:
            logits = [np.load(path / f"seeds/{seed}/{arm}/test_logits.npy") for path in (finished.path, tmp_path)]
            np.testing.assert_array_equal(*logits)


PREPARED = ("config.json", "schema.json", "data")
BASELINES = (*PREPARED, "seeds/0/baseline", "seeds/1/baseline")


@pytest.mark.parametrize(
    ("there", "step", "first"),
    [
        ((), "train --arm baseline", "c2al prepare CONFIG"),
        ((), "discover", "c2al prepare CONFIG"),
        ((), "evaluate", "c2al prepare CONFIG"),
        ((), "export", "c2al prepare CONFIG"),
        ((), "report", "c2al prepare CONFIG"),
        (("config.json",), "train --arm baseline", "c2al prepare CONFIG"),
        (PREPARED, "train --arm c2al", "c2al discover"),
        (PREPARED, "discover", "c2al train --run-dir DIR --arm baseline"),
        (PREPARED, "evaluate", "c2al train --run-dir DIR --arm baseline"),
        (PREPARED, "export", "c2al train --run-dir DIR --arm c2al"),
        (PREPARED, "report", "c2al evaluate"),
        (BASELINES, "train --arm c2al", "c2al discover"),
        ((*BASELINES, "cohorts.json"), "evaluate", "c2al train --run-dir DIR --arm c2al"),
        ((*BASELINES, "cohorts.json"), "export", "c2al train --run-dir DIR --arm c2al"),
        ((*BASELINES, "cohorts.json", "seeds/0/c2al"), "evaluate", "c2al train --run-dir DIR --arm c2al"),
        ((*BASELINES, "cohorts.json", "seeds", "export.json"), "report", "c2al evaluate"),
        ((*BASELINES, "cohorts.json", "seeds", "metrics.json"), "report", "c2al export"),
    ],
)
def test_a_step_before_its_time_names_the_one_to_run_first(finished, c2al, tmp_path, there, step, first) -> None:
    folder = copy_run(finished, tmp_path / "run", *dict.fromkeys(name for name in there if name != "seeds"))
    if "seeds" in there:
        shutil.copytree(finished.path / "seeds", folder / "seeds", dirs_exist_ok=True)
    outcome = c2al(*step.split(), "--run-dir", folder)
    assert outcome.status == 1
    expected = first if "DIR" in first else f"{first} --run-dir DIR"
    assert f"Run `{expected.replace('DIR', str(folder))}` first" in outcome.error
    assert outcome.error.count("c2al: ") == 1


def test_without_a_seed_the_best_one_is_exported(finished, c2al, monkeypatch) -> None:
    """As in the whole run, which leaves the choice to `export_best`, too."""

    def export_best(run: RunFolder, seed: int | None = None) -> types.SimpleNamespace:
        return types.SimpleNamespace(directory=Path(f"{run.path}, {seed}"))

    monkeypatch.setattr("c2al_pipelines.run.steps.export_best", export_best)
    assert c2al("export", "--run-dir", finished.path).output == f"{finished.path}, None\n"


@pytest.mark.slow
def test_another_seed_can_be_exported(finished, c2al, tmp_path) -> None:
    folder = copy_run(finished, tmp_path / "run", *BASELINES, "seeds/0/c2al", "seeds/1/c2al", "cohorts.json")
    shutil.copytree(finished.path / "export", folder / "export")
    shutil.copy(finished.path / "metrics.json", folder)
    outcome = c2al("export", "--run-dir", folder, "--seed", 7)
    assert outcome.status == 1
    assert "`--seed` must be one of the run's seeds, [0, 1]. Received: 7" in outcome.error
    other = 1 - read_json(finished.path / "export.json")["seed"]
    outcome = c2al("export", "--run-dir", folder, "--seed", other)
    assert (outcome.status, outcome.output.strip()) == (0, str(folder / "export" / "2"))
    assert read_json(folder / "export.json")["seed"] == other
    assert read_json(folder / "metrics.json")["exported_seed"] == other
    assert c2al("evaluate", "--run-dir", folder).status == 0
    assert read_json(folder / "metrics.json")["exported_seed"] == other


def weights(path: Path, arm: str) -> list[np.ndarray]:
    import c2al_tf.model  # noqa: F401  registers what the file is made of

    return keras.saving.load_model(path / f"seeds/0/{arm}/model.keras", compile=False).get_weights()


@pytest.mark.slow
def test_a_killed_run_ends_where_an_unbroken_one_ends(start_script, script, small_words, tmp_path, end_at) -> None:
    """Property 10, end to end: killed in the baseline's first epoch and in C2AL's second, and interrupted between."""
    settings = {"training__batch_size": 50, "training__epochs": 2, "training__checkpoint_steps": 20, "seeds": 1}
    paths = {name: tmp_path / name for name in ("unbroken", "killed")}
    unbroken, killed = (small_words(path, model__dropout=0.1, **settings) for path in paths.values())
    assert script("run", *unbroken).status == 0
    for arm, epoch, number in (
        ("baseline", 0, signal.SIGKILL),
        ("baseline", 1, signal.SIGINT),
        ("c2al", 1, signal.SIGKILL),
    ):
        folder = paths["killed"] / "seeds" / "0" / arm
        error = end_at(start_script("run", *killed), folder / "checkpoints", epoch, number)
        assert not (folder / "model.keras").exists()
        if number == signal.SIGINT:
            assert error.endswith("c2al: interrupted. The same command keeps what is finished and does the rest.\n")
    assert script("run", *killed).status == 0
    for arm in ARMS:
        for a, b in zip(*(weights(path, arm) for path in paths.values()), strict=True):
            np.testing.assert_array_equal(a, b)
    for name in ("cohorts.json", "metrics.json", "metrics_by_seed.json"):
        assert read_json(paths["killed"] / name) == read_json(paths["unbroken"] / name)
    assert not list(paths["killed"].rglob("checkpoints"))
