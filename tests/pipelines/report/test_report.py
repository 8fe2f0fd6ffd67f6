import dataclasses
import functools
import html
import json
import re
import tempfile
from pathlib import Path

import numpy as np
import pytest
from c2al_pipelines.report import figures, inside
from c2al_pipelines.report.evidence import slice_labels
from c2al_pipelines.report.report import write_report
from scipy.special import expit

from c2al_tf.blocks import Variation
from c2al_tf.cohorts import (
    Axis,
    Cohort,
    Discovery,
    Guard,
    Values,
    count_cohorts,
    cut_axes,
    discover_cohorts,
    prediction_histogram,
    rank_cohorts,
)
from c2al_tf.evaluation import Recommendation, evaluate_by_cohort, recommend
from c2al_tf.evaluation.intervals import NEDifference
from c2al_tf.evaluation.recommendation import Needed
from c2al_tf.files import read_json, write_json

ROWS = 8000
SURFACES = np.array(["feed", "reels", "stories", "rare"], dtype=object)


def make_run(run_dir, shift, seeds=3):
    """Writes a run's files; `shift` moves C2AL's logits towards the labels (above 0) or away, by surface."""
    files, cohorts = made_files(tuple(shift.items()), seeds)
    for name, text in files.items():
        (run_dir / f"{name}.json").write_text(text)
    return cohorts


@functools.lru_cache
def made_files(shifts, seeds):
    shift = dict(shifts)
    rng = np.random.default_rng(0)
    surface = rng.choice(SURFACES, ROWS, p=[0.45, 0.3, 0.24, 0.01])
    truth = np.select([surface == "feed", surface == "reels"], [-2.0, -0.5], -3.0) + 0.3 * rng.normal(size=ROWS)
    labels = (rng.random(ROWS) < expit(truth)).astype(np.float32)
    baseline = truth + 0.3 * rng.normal(size=(seeds, ROWS))
    by_row = np.array([shift.get(name, shift["else"]) for name in surface])
    c2al = baseline + (2 * labels - 1) * by_row * (1 + 0.01 * rng.normal(size=(seeds, 1)))
    columns = {"surface": surface}
    predictions = expit(baseline[0])
    discovery = discover_cohorts(
        predictions, columns, [Axis(("surface",))], labels=labels, guard=Guard(min_share=0.02), progress=False
    )
    slices = {s.cohort.name: s.cohort.contains(columns) for s in discovery.axes[0].cohorts}
    head, tail = discovery.best.cohorts
    evaluation = evaluate_by_cohort(
        {"baseline": baseline, "c2al": c2al}, labels, slices, named=[head.name, tail.name], progress=False
    )
    histogram = prediction_histogram(predictions).tolist()
    details = {
        "title": "A <tiny> run",
        "dataset": "8,000 made-up rows",
        "seeds": seeds,
        "rows": {"train": ROWS, "validation": ROWS, "test": ROWS},
        "training_seconds": {"baseline": [60.0] * seeds, "c2al": [66.0] * seeds},
        "parameters": {"baseline": 1234, "c2al_training": 1357, "c2al_serving": 1234},
        "export_bytes": {"baseline": 2_000_000, "c2al": 2_000_000},
        "exported_seed": 0,
        "histograms": {"all": {"counts": histogram}},
        "attention": {"block 1": {"edges": [0, 0.1, 0.2, 0.3], "baseline": [90, 9, 1], "c2al": [70, 20, 10]}},
        "planted": {"head": "reels", "tail": "stories", "found": True, "bayes_ne": {"all": 0.8, head.name: 0.9}},
        "hardware": "2 cores",
    }
    files = {
        "metrics": evaluation.to_json("c2al")
        | {"recommendation": recommend(evaluation, "c2al", [head.name, tail.name]).to_json(slice_labels(discovery))},
        "metrics_by_seed": evaluation.seeds_to_json("c2al"),
        "cohorts": discovery.to_json(),
        "config": {"cohorts": {"num_cohorts": 2, "lambdas": [0.3]}},
        "details": details,
    }
    with tempfile.TemporaryDirectory() as folder:
        for name, value in files.items():
            write_json(Path(folder) / f"{name}.json", value)
        return {name: (Path(folder) / f"{name}.json").read_text() for name in files}, (str(head), str(tail))


def read_report(run_dir):
    path = write_report(run_dir)
    assert path == run_dir / "report.html"
    return path.read_text(encoding="utf-8")


def text_of(page):
    """What a reader sees outside of the figures."""
    page = re.sub(r"<(svg|style)\b.*?</\1>", " ", page, flags=re.DOTALL)
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page)))


@pytest.fixture(autouse=True)
def unrendered(request, monkeypatch):
    """A test's own figures are drawn and not rendered, which takes longest; those of `better` are."""
    if "tmp_path" in request.fixturenames:
        for module in (figures, inside):
            monkeypatch.setattr(module, "as_svg", lambda figure: "<svg></svg>")


@pytest.fixture(scope="module")
def better(tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("better")
    cohorts = make_run(run_dir, {"else": 0.1, "feed": -0.03, "stories": -0.05})
    return run_dir, cohorts, read_report(run_dir)


def test_page_stands_alone(better):
    _, _, page = better
    links = re.findall(r"""\b(?:src|href|action|data|poster|srcset)\s*=\s*["']?([^"'\s>]*)""", page)
    assert [link for link in links if not link.startswith("#")] == []
    assert not re.search(r"@import|<script|<link|<iframe|<img|url\(\s*['\"]?(?!#)", page)
    # Names of XML vocabularies are not addresses that a browser opens.
    assert set(re.findall(r"https?://[^\"'\s<]+", page)) <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }


def test_page_has_its_parts(better):
    _, (head, tail), page = better
    text = text_of(page)
    for section in (
        "What was compared",
        "The pair found, and why",
        "Who gains, who loses",
        "All figures, both models",
        "Inside the model: attention and gradients",
        "What it costs",
        "How sure we are",
        "What to do next",
    ):
        assert section in text
    assert page.count("<svg") == 4
    assert f"{head} (head cohort)" in text.replace("  ", " ")
    assert f"{tail} (tail cohort)" in text.replace("  ", " ")
    assert "discovery found it" in text.replace("  ", " ")
    assert "refused" in text
    assert "The 5 refused pairs (5 too few positives to learn from; 3 too small a share of the rows)" in text.replace(
        "  ", " "
    )
    assert "at least 2 % is needed" in text
    assert "How stable is the choice? That is not known: it is the only pair that passes the guard." in text
    assert "comes first in" not in text
    assert "For slices that were not named beforehand an interval alone does not make them better or worse." in text
    assert "The choice is not stable" not in text
    assert "+10.0 %" in text, "training time"
    assert "resamples seeds and rows" in text
    assert "A &lt;tiny&gt; run" in page


@pytest.mark.parametrize(
    ("share", "words"), [(0.1, "a tenth of the negatives at weight 10"), (0.3, "30 % of the negatives at weight 3.33")]
)
def test_sampled_negatives_are_said_beside_the_rows(tmp_path, better, share, words):
    assert "of the negatives" not in text_of(better[2])
    make_run(tmp_path, {"else": 0.1})
    config = read_json(tmp_path / "config.json")
    write_json(tmp_path / "config.json", config | {"data": {"negative_sampling": share}})
    assert f"8,000 for training ( all positives, and {words} ), " in text_of(read_report(tmp_path))


@pytest.mark.parametrize(("ne", "worse"), [(0.5, True), (0.99, False)])
def test_the_yardstick_stands_beside_the_baseline(tmp_path, better, ne, worse):
    assert "gradient boosting" not in better[2]
    make_run(tmp_path, {"else": 0.1})
    write_json(tmp_path / "config.json", read_json(tmp_path / "config.json") | {"yardstick": True})
    with pytest.raises(ValueError, match=r"The report needs yardstick.json"):
        write_report(tmp_path)
    metrics = {"all": {"ne": ne, "log_loss": 0.31, "auc": 0.777}, "rest": {"ne": None, "log_loss": None, "auc": None}}
    about = {"model": "Boosting", "trees": 7, "rows": 1000, "total_rows": 8000}
    write_json(tmp_path / "yardstick.json", about | {"metrics": metrics})
    text = text_of(read_report(tmp_path))
    assert "Boosting, 7 trees, trained on 1,000 of the 8,000 training rows, always the same ones." in text
    assert f"{ne:.4f}" in text
    assert "0.7770" in text
    assert text.count("a gain over a baseline that boosting beats convinces nobody".capitalize()) == (2 if worse else 0)


def test_worse_cohorts_come_first(better):
    run_dir, _, page = better
    worse = read_json(run_dir / "metrics.json")["worse"]
    assert worse == ["surface_stories", "surface_feed"]
    table = page[page.index("All 5 slices") :]
    rows = re.findall(r'<td class="name">(.*?)</td>', table)
    assert [row.split(" (")[0] for row in rows[:3]] == ["surface is stories", "surface is feed", "all rows"]
    headline = text_of(page[: page.index("Who gains, who loses")])
    assert re.search(r"Who gets worse: +surface is stories \(\+[\d.]+ %\); +surface is feed \(\+", headline)


@pytest.mark.parametrize(
    ("shift", "answer", "headline", "advice"),
    [
        (0.1, "use", "Use it", "Before it serves:"),
        (0.0, "do not use", "Do not use it", "No gain on the targeted cohorts: NE_diff of surface is "),
        (-0.1, "do not use", "Do not use it", "Try lambda 0.1 instead of 0.3"),
    ],
)
def test_the_recommendation_is_the_headline(tmp_path, shift, answer, headline, advice):
    make_run(tmp_path, {"else": shift})
    page = read_report(tmp_path)
    metrics = read_json(tmp_path / "metrics.json")
    difference = metrics["ne_diff"]["all"]
    side = 1 if difference["high"] < 0 else -1 if difference["low"] > 0 else 0
    assert side == np.sign(shift)
    recommendation = metrics["recommendation"]
    assert recommendation["answer"] == answer
    assert f'<strong class="big">{headline}</strong>' in page
    assert f"NE over all rows changes by {difference['percent']:+.3f} % [" in recommendation["reason"]
    assert "together with the targeted cohorts]" in recommendation["reason"]
    first_screen = text_of(page[: page.index("Who gains, who loses")])
    assert " ".join(recommendation["reason"].split()) in first_screen
    assert advice in text_of(page)


def test_what_would_decide_is_said_where_nothing_is_decided(tmp_path):
    make_run(tmp_path, {"else": 0.0})
    metrics = read_json(tmp_path / "metrics.json")
    wide = Variation(3, 1000, seeds=1e-5, each=1e-8, rows=1e-8)
    needed = Needed(40, None)
    found = NEDifference(-0.1, -0.3, 0.1, (-0.1,) * 3, wide)
    undecided = Recommendation("undecided", (), (), found, 0.05, needed)
    write_json(tmp_path / "metrics.json", metrics | {"recommendation": undecided.to_json()})
    page = read_report(tmp_path)
    assert '<strong class="big">Undecided</strong>' in page
    assert "If the figure stays, this would decide: 40 paired seeds in all." in page


def test_the_reason_speaks_of_cohorts_in_words(better):
    reason = read_json(better[0] / "metrics.json")["recommendation"]["reason"]
    assert "surface is reels" in reason
    assert "worse: surface is stories and surface is feed" in reason
    assert "surface_" not in reason


@pytest.mark.parametrize("shift", [0.1, -0.1, 0.0])
def test_one_seed_claims_nothing(tmp_path, shift):
    make_run(tmp_path, {"else": shift}, seeds=1)
    page = read_report(tmp_path)
    text = text_of(page)
    assert '<strong class="big">Undecided</strong>' in page
    assert "with one seed, which does not say what another would have given" in text
    assert "over rows alone" in text
    for claim in ("Use it", "Do not use it", "Who gets worse", "no cohort beyond chance", "is called worse."):
        assert claim not in text.replace("no slice is called better or worse.", "")
    assert text.count("With one seed no slice is called better or worse.") == 2
    shown = page[: page.index("What was compared")]
    assert not re.search(r'<b class="(better|worse)"|reading (better|worse)"', shown)
    assert "What one seed leaves out" in text


def test_metrics_of_another_version_are_evaluated_again(tmp_path):
    make_run(tmp_path, {"else": 0.1})
    metrics = read_json(tmp_path / "metrics.json")
    del metrics["recommendation"]
    write_json(tmp_path / "metrics.json", metrics)
    with pytest.raises(ValueError, match=r"metrics.json was written by another version. Run `c2al evaluate` again"):
        write_report(tmp_path)


def course(first, last, by_seed=(-0.001, 0.0, 0.001)):
    """Entropy and share near zero of the first and of the last measurement, the latter in each of three seeds."""
    ends = [
        {"entropy": entropy, "gini": 0.25, "effective_rank": 1.5, "near_zero": near_zero}
        for entropy, near_zero in (first, last)
    ]
    seeds = {name: [value + noise for noise in by_seed] for name, value in ends[1].items()}
    return {"first": ends[0], "last": ends[1], "steps": [10, 50], "by_seed": seeds}


def with_diagnostics(run_dir, c2al):
    points = [{"step": step, "cosine": -0.05, "low": -0.1, "high": 0.0} for step in (10, 50)]
    task = {"conflict": 0.3, "cosine": -0.05, "norm_ratio": 0.125, "course": points}
    diagnostics = {
        "baseline": {"layers": {"fm_0": course((0.9, 0.02), (0.8, 0.1))}, "tasks": {}},
        "c2al": {
            "layers": {"fm_0": course((0.9, 0.02), c2al, (0.001, -0.001, 0.0))},
            "tasks": {"fm_0": {"surface_reels": task}},
        },
    }
    write_json(run_dir / "details.json", read_json(run_dir / "details.json") | {"diagnostics": diagnostics})
    return re.sub(" +", " ", text_of(read_report(run_dir)))


@pytest.mark.parametrize(("c2al", "sparse"), [((0.8, 0.1), True), ((0.82, 0.1), False)])
def test_attention_that_is_not_denser_is_named(tmp_path, c2al, sparse):
    make_run(tmp_path, {"else": 0.0})
    text = with_diagnostics(tmp_path, c2al)
    assert f"baseline and C2AL: fm_0 0.800 and {c2al[0]:.3f}" in text
    assert ("no difference is shown in fm_0" in text) is sparse
    assert ("Attention is not denser than the baseline" in text) is sparse


def test_the_course_of_attention_and_gradients(tmp_path):
    make_run(tmp_path, {"else": 0.1})
    assert "In the course of training" not in text_of(read_report(tmp_path))
    text = with_diagnostics(tmp_path, (0.85, 0.05))
    assert (
        "fm_0 C2AL 0.900 \N{RIGHTWARDS ARROW} 0.850 0.250 \N{RIGHTWARDS ARROW} 0.250 1.500 \N{RIGHTWARDS ARROW} 1.500 "
        "0.020 \N{RIGHTWARDS ARROW} 0.050"
    ) in text
    assert "fm_0 C2AL surface is reels 30 % \N{MINUS SIGN}0.05 0.125" in text
    assert "gradients in conflict with the primary one in 30 % of the measurements" in text
    page = (tmp_path / "report.html").read_text()
    for title in ("Attention before and after training", "Gradient conflict over time"):
        assert f"<b>{title}</b>" in page
    assert "after step 10" in text


def test_every_figure_has_a_title_and_a_sentence(better):
    figures = re.findall(r"<figure.*?</figure>", better[2], flags=re.DOTALL)
    assert len(figures) == better[2].count("<svg") > 0
    for figure in figures:
        assert re.search(r"<figcaption><b>[^<]{9,}</b>[^<]{40,}</figcaption>\s*<svg", figure)


def test_cohorts_along_a_sensitive_attribute_are_named(tmp_path, better):
    text = re.sub(r"\s+", " ", text_of(better[2]))
    assert "Sensitive attributes" not in text
    assert text.count("sensitive attribute") == 1, "at most a line"
    make_run(tmp_path, {"else": 0.1})
    for name in ("cohorts", "metrics"):  # the same run, cut along the column `race`
        file = tmp_path / f"{name}.json"
        file.write_text(file.read_text().replace("surface", "race"))
    text = re.sub(r"\s+", " ", text_of(read_report(tmp_path)))
    assert "Sensitive attributes: race" in text
    for words in (
        "The labels are not made fair",
        "proxies",
        "Law may restrict",
        "NE and calibration of each group (below)",
    ):
        assert words in text
    assert "NE and calibration of the 4 groups" in text


@pytest.mark.parametrize(("change", "unstable"), [(1.003, False), (1.01, True)])
def test_unstable_training_is_named(tmp_path, change, unstable):
    make_run(tmp_path, {"else": 0.0})
    seeds = read_json(tmp_path / "metrics_by_seed.json")
    for seed, factor in zip(seeds["seeds"], (change, 1.0, 1.0), strict=True):
        seed["c2al"]["all"]["ne"] = 0.9 * factor
    write_json(tmp_path / "metrics_by_seed.json", seeds)
    assert ("Unstable training" in text_of(read_report(tmp_path))) is unstable


def test_a_training_too_short_to_be_timed(tmp_path):
    make_run(tmp_path, {"else": 0.1})
    details = read_json(tmp_path / "details.json")
    write_json(tmp_path / "details.json", details | {"training_seconds": {"baseline": [0.0] * 3, "c2al": [0.0] * 3}})
    assert "Training time per seed" + 3 * " \N{EN DASH}" in text_of(read_report(tmp_path))


def test_three_cohorts_are_the_chosen_ones_not_the_best_pair(tmp_path):
    """The best pair is on `surface`, which has no three cohorts: those of `value` were trained."""
    rng = np.random.default_rng(0)
    value, surface = rng.integers(0, 3, ROWS), rng.choice(SURFACES[:2], ROWS)
    logits = -3.0 + 0.3 * value + 2.6 * (surface == "feed") + 0.1 * rng.normal(size=ROWS)
    labels = (rng.random(ROWS) < expit(logits)).astype(np.float32)
    columns = {"value": value, "surface": surface}
    axes = [Axis(("value",), categories=("value",)), Axis(("surface",))]
    discovery = discover_cohorts(expit(logits), columns, axes, labels=labels, progress=False)
    chosen = discovery.cohorts(3)
    assert discovery.best.axis == "surface"
    assert {cohort.columns for cohort in chosen} == {("value",)}

    make_run(tmp_path, {"else": 0.1})
    slices = {s.cohort.name: s.cohort.contains(columns) for axis in discovery.axes for s in axis.cohorts}
    by_seed = np.stack([logits, logits])
    evaluation = evaluate_by_cohort({"baseline": by_seed, "c2al": by_seed}, labels, slices, progress=False)
    recommended = {"recommendation": recommend(evaluation, "c2al").to_json()}
    write_json(tmp_path / "metrics.json", evaluation.to_json("c2al") | recommended)
    write_json(tmp_path / "metrics_by_seed.json", evaluation.seeds_to_json("c2al"))
    write_json(tmp_path / "cohorts.json", discovery.to_json())
    write_json(tmp_path / "config.json", {"cohorts": {"num_cohorts": 3, "lambdas": [0.3]}})
    page = read_report(tmp_path)
    text = text_of(page)
    assert "The cohorts found, and why" in text
    listed = ", ".join(f"<b>{cohort}</b>" for cohort in chosen)
    assert f"differ most, by the sum over their pairs, on the axis value: {listed}." in page
    assert text.count("axis value: chosen") == 3
    assert text.count("axis surface: accepted") == 1
    assert "The next accepted pair is surface is feed against surface is reels" in text
    assert "surface is feed (targeted)" not in text
    assert text.count("(targeted)") == 3


def test_an_unstable_choice_is_said(tmp_path):
    make_run(tmp_path, {"else": 0.1})
    cohorts = read_json(tmp_path / "cohorts.json")
    cohorts["pairs"][-1]["reasons"] = {}
    write_json(tmp_path / "cohorts.json", cohorts | {"stability": 0.42})
    text = text_of(read_report(tmp_path)).replace("  ", " ")
    assert "This pair comes first in 42 % of the baselines and resamples" in text
    assert "The choice is not stable. Another baseline, or other users, may well give another pair." in text
    assert "The chosen pair comes first in 42% of baselines and resamples only." in text


def test_a_pair_without_an_interval(tmp_path, monkeypatch):
    make_run(tmp_path, {"else": 0.1})
    discovery = Discovery.from_json(read_json(tmp_path / "cohorts.json"))
    pairs = (dataclasses.replace(discovery.pairs[0], interval=None), *discovery.pairs[1:])
    changed = dataclasses.replace(discovery, pairs=pairs)
    monkeypatch.setattr("c2al_pipelines.report.report.Discovery.from_json", lambda json: changed)
    assert re.search(r"[\d.]+ no interval", text_of(read_report(tmp_path)))


def test_a_slice_that_is_not_called_worse_is_not_shown_as_worse(tmp_path):
    """Its own interval lies above 0, as that of one in forty does by chance."""
    make_run(tmp_path, {"else": 0.1})
    metrics = read_json(tmp_path / "metrics.json")
    metrics["ne_diff"]["surface_rare"] = {"percent": 1.0, "low": 0.2, "high": 1.8, "q_value": 0.4}
    write_json(tmp_path / "metrics.json", metrics | {"worse": []})
    text = text_of(read_report(tmp_path)).replace("  ", " ")
    assert "Who gets worse: no cohort beyond chance." in text
    assert re.search(r"surface is rare \+1.000 \+0.200 to \+1.800 no clear change", text)
    assert "Benjamini-Hochberg" in text


@pytest.mark.parametrize("number", [1, 2, 3])
def test_given_cohorts(tmp_path, number):
    make_run(tmp_path, {"else": 0.1})
    rng = np.random.default_rng(0)
    surface = rng.choice(SURFACES, ROWS, p=[0.45, 0.3, 0.24, 0.01])
    columns, p = {"surface": surface}, np.where(surface == "reels", 0.4, 0.1)
    given = [Cohort(f"mine_{name}", (Values("surface", (name,)),)) for name in SURFACES[:number]]
    cuts = cut_axes([Axis(("surface",))], columns, given=given)
    discovery = rank_cohorts(count_cohorts(p, columns, cuts, labels=(rng.random(ROWS) < p).astype(np.float32)))
    metrics = read_json(tmp_path / "metrics.json")
    for part in ("baseline", "c2al", "ne_diff"):
        metrics[part] |= {f"mine_{name}": metrics[part][f"surface_{name}"] for name in SURFACES[:number]}
    write_json(tmp_path / "metrics.json", metrics)
    write_json(tmp_path / "cohorts.json", discovery.to_json())
    text = text_of(read_report(tmp_path)).replace("  ", " ")
    assert "given, and why" in text
    assert "The cohorts were given in the configuration: surface is feed" in text
    assert text.count("(targeted)") == number
    assert text.count("axis given: ") == number * (number - 1) // 2
    assert "comes first in" not in text


def test_optional_parts_vanish(tmp_path):
    make_run(tmp_path, {"else": 0.1})
    write_json(tmp_path / "details.json", {"title": "Bare", "dataset": "rows"})
    page = read_report(tmp_path)
    assert page.count("<svg") == 3
    text = text_of(page)
    for absent in ("Inside the model", "planted", "Hardware", "Training time", "Cost when serving", "None", "nan"):
        assert absent not in text


def test_same_run_same_page(better):
    run_dir, _, page = better
    assert read_report(run_dir) == page


def test_missing_and_broken_files_are_named(tmp_path):
    make_run(tmp_path, {"else": 0.1})
    (tmp_path / "details.json").unlink()
    with pytest.raises(ValueError, match=r"The report needs details.json"):
        write_report(tmp_path)
    (tmp_path / "details.json").write_text(json.dumps({})[:-1])
    with pytest.raises(ValueError, match=r"details.json: not valid JSON"):
        write_report(tmp_path)
    assert not (tmp_path / "report.html").exists()
