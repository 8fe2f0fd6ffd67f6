import json

import numpy as np
import pytest

from c2al_tf.evaluation import evaluate_by_cohort
from c2al_tf.evaluation.scoring import slice_metrics

ROWS, SEEDS = 4000, 3


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    labels = (rng.random(ROWS) < 0.2).astype(np.float32)
    group = rng.integers(4, size=ROWS)
    base = rng.normal(size=(SEEDS, ROWS)) + labels - 1.5
    # The arm gains on group 0, loses on groups 2 and 3, more on 3, and is the baseline on group 1.
    shift = np.array([0.4, 0.0, -0.4, -0.8])[group] * (2 * labels - 1)
    arm = base + shift * (1 + 0.1 * rng.normal(size=(SEEDS, 1)))
    slices = {f"group_{g}": group == g for g in range(4)}
    return {"baseline": base, "c2al": arm}, labels, slices


def test_overall_difference_is_the_weighted_mean_of_a_partition(data):
    logits, labels, slices = data
    weights = np.random.default_rng(1).random(ROWS)
    result = evaluate_by_cohort(logits, labels, slices, weights=weights)
    for k in range(SEEDS):
        z = logits["baseline"][k]
        losses = weights * (np.log1p(np.exp(z)) - labels * z)
        mass = {name: losses[mask].sum() / losses.sum() for name, mask in slices.items()}
        mean = sum(mass[name] * result.ne_diff["c2al"][name].by_seed[k] for name in slices)
        assert result.ne_diff["c2al"]["all"].by_seed[k] == pytest.approx(mean, rel=1e-10)


def test_figures_are_those_of_each_slice_alone(data):
    logits, labels, slices = data
    result = evaluate_by_cohort(logits, labels, slices)
    assert list(result.metrics["c2al"]) == ["all", *slices]
    for arm, seeds in logits.items():
        for name, mask in slices.items():
            for k in range(SEEDS):
                alone = slice_metrics(seeds[k][mask], labels[mask])
                assert result.metrics[arm][name][k] == pytest.approx(alone, rel=1e-12)
    for name, d in result.ne_diff["c2al"].items():
        c2al, baseline = (result.metrics[arm][name][0]["ne"] for arm in ("c2al", "baseline"))
        assert d.by_seed[0] == pytest.approx(100 * (c2al / baseline - 1), rel=1e-9)


def test_equal_logits_count_half_and_rows_by_weight_in_every_slice(data):
    logits, labels, slices = data
    weights = 0.5 + np.random.default_rng(3).random(ROWS)
    rounded = {arm: np.round(z) for arm, z in logits.items()}
    result = evaluate_by_cohort(rounded, labels, slices, weights=weights)
    for name, mask in slices.items():
        alone = slice_metrics(rounded["c2al"][0][mask], labels[mask], weights[mask])
        assert result.metrics["c2al"][name][0]["auc"] == pytest.approx(alone["auc"], rel=1e-12)


def test_zero_weight_rows_change_nothing(data):
    logits, labels, slices = data
    kept = np.arange(ROWS) % 5 > 0
    weights = np.where(kept, 0.5 + np.random.default_rng(2).random(ROWS), 0.0)
    units = np.arange(ROWS) // 3
    junk = {arm: np.where(kept, z, np.nan) for arm, z in logits.items()}
    whole = evaluate_by_cohort(junk, labels, slices, weights=weights, units=units)
    rest = evaluate_by_cohort(
        {arm: z[:, kept] for arm, z in logits.items()},
        labels[kept],
        {name: mask[kept] for name, mask in slices.items()},
        weights=weights[kept],
        units=units[kept],
    )
    assert whole == rest


def test_better_and_worse_slices_the_largest_change_first(data):
    result = evaluate_by_cohort(*data)
    claims = result.claims["c2al"]
    assert claims.worse[:2] == ("group_3", "group_2")
    assert "group_0" in claims.better
    assert not {"group_0", "group_1"} & set(claims.worse)
    assert claims.q_values.keys() == result.ne_diff["c2al"].keys() - {"all"}
    assert result.ne_diff["c2al"]["group_0"].high < 0
    assert result.ne_diff["c2al"]["group_1"].percent == 0


def test_slices_named_beforehand_are_judged_by_their_own_intervals(data):
    logits, labels, slices = data
    result = evaluate_by_cohort(logits, labels, slices, named=["group_2"])
    assert result.claims["c2al"].q_values.keys() == slices.keys() - {"group_2"}
    assert "group_2" in result.claims["c2al"].worse
    assert f"The other {len(slices) - 1} slices are tested together" in result.claims_in_words
    with pytest.raises(ValueError, match=r"`named` must name slices. Received: \['nobody'\]; there are \['all', "):
        evaluate_by_cohort(logits, labels, slices, named=["nobody"])


def test_with_one_seed_no_slice_is_called_anything(data):
    logits, labels, slices = data
    one = evaluate_by_cohort({arm: z[0] for arm, z in logits.items()}, labels, slices, named=["group_3"])
    claims = one.claims["c2al"]
    assert (claims.better, claims.worse, claims.q_values) == ((), (), {})
    assert one.claims_in_words == "With one seed no slice is called better or worse."


def test_json_forms(data):
    logits, labels, slices = data
    slices = {**slices, "nobody": np.zeros(ROWS, dtype=bool), "all clicks": labels == 1}
    result = evaluate_by_cohort(logits, labels, slices)
    metrics = json.loads(json.dumps(result.to_json("c2al"), allow_nan=False))
    assert list(metrics) == ["baseline", "c2al", "ne_diff", "interval", "better", "worse", "claims"]
    for key in ("baseline", "c2al", "ne_diff"):
        assert list(metrics[key]) == ["all", *slices]
    assert list(metrics["c2al"]["all"]) == ["rows", "positives", "ne", "log_loss", "auc", "calibration"]
    assert list(metrics["ne_diff"]["all"]) == ["percent", "low", "high", "q_value"]
    assert metrics["c2al"]["nobody"] == {
        "rows": 0,
        "positives": 0,
        **dict.fromkeys(["ne", "log_loss", "auc", "calibration"]),
    }
    assert metrics["ne_diff"]["nobody"] == {"percent": None, "low": None, "high": None, "q_value": None}
    assert metrics["c2al"]["all clicks"]["ne"] is None
    by_seed = json.loads(json.dumps(result.seeds_to_json("c2al"), allow_nan=False))["seeds"]
    assert [entry["seed"] for entry in by_seed] == [0, 1, 2]
    for key in ("ne", "auc", "log_loss", "calibration"):
        assert metrics["c2al"]["all"][key] == pytest.approx(np.mean([e["c2al"]["all"][key] for e in by_seed]))
    assert metrics["ne_diff"]["all"]["percent"] == pytest.approx(np.mean([e["ne_diff"]["all"] for e in by_seed]))


def test_any_number_of_arms(data):
    logits, labels, slices = data
    three = evaluate_by_cohort({**logits, "other": logits["baseline"] * 0.9}, labels, slices)
    assert set(three.ne_diff) == {"c2al", "other"}
    assert three.ne_diff["c2al"] == evaluate_by_cohort(logits, labels, slices).ne_diff["c2al"]
    assert set(three.claims) == {"c2al", "other"}
    assert {"baseline", "other", "ne_diff"} <= set(three.to_json("other"))


def test_interval_says_what_it_resamples(data):
    logits, labels, slices = data
    several = evaluate_by_cohort(logits, labels, slices)
    assert "3 paired seeds and resamples seeds and rows (4,000 rows in 984 blocks, dealt at random)" in several.interval
    one = evaluate_by_cohort({arm: z[0] for arm, z in logits.items()}, labels, slices)
    assert "resamples rows alone" in one.interval
    assert "leaves out that another seed" in one.interval
    users = evaluate_by_cohort(logits, labels, slices, units=np.arange(ROWS) // 100)
    assert "one unit always together" in users.interval


def test_too_few_positives_for_an_interval():
    labels = np.arange(1000) < 30
    rng = np.random.default_rng(0)
    logits = {"baseline": rng.normal(size=(3, 1000)), "c2al": rng.normal(size=(3, 1000))}
    slices = {"ten": np.arange(1000) >= 20, "nine": np.arange(1000) >= 21, "nine negatives": np.arange(1000) < 39}
    differences = evaluate_by_cohort(logits, labels, slices).ne_diff["c2al"]
    assert {name for name, d in differences.items() if d.low is None} == {"nine", "nine negatives"}
    assert None not in {d.percent for d in differences.values()}


def test_rows_of_one_user_widen_the_interval():
    rng = np.random.default_rng(0)
    user = np.arange(20_000) // 100
    labels = rng.random(20_000) < 0.3
    base = rng.normal(size=20_000)
    arm = base + 0.5 * rng.normal(size=200)[user]
    logits = {"baseline": base, "c2al": arm}
    widths = []
    for units in (None, user):
        d = evaluate_by_cohort(logits, labels, {}, units=units).ne_diff["c2al"]["all"]
        widths.append(d.high - d.low)
    assert widths[1] > 2 * widths[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"reference": "none"}, r"`reference` must name an arm. Received: 'none'; there are \['baseline', 'c2al'\]"),
        ({"slices": {"all": np.ones(4, bool)}}, r"The slice 'all' is added by itself"),
        ({"slices": {"a": np.ones(3, bool)}}, r"Slice 'a' must be a boolean mask of shape \(4,\). Received: bool"),
        ({"slices": {"a": np.ones(4)}}, r"Slice 'a' must be a boolean mask .* Received: float64"),
        ({"units": np.ones(3)}, r"`units` must have one id per row"),
        ({"labels": np.array([0, 1, 0, np.nan])}, r"`labels` must be 0 or 1. Received: nan in row 3"),
        ({"logits": {"baseline": np.zeros((2, 4)), "c2al": np.zeros((1, 4))}}, r"Seeds are paired"),
        (
            {"logits": {"baseline": np.zeros((1, 4)), "c2al": np.array([[0, 0, np.inf, 0]])}},
            r"Logits of arm 'c2al', seed 0, must be finite. Received: inf in row 2",
        ),
    ],
)
def test_bad_input(change, message):
    arguments = {
        "logits": {"baseline": np.zeros((1, 4)), "c2al": np.zeros((1, 4))},
        "labels": np.array([0, 1, 0, 1]),
        "slices": {},
    }
    with pytest.raises(ValueError, match=message):
        evaluate_by_cohort(**{**arguments, **change})
