import json
import math

import numpy as np
import pyarrow.parquet as pq
import pytest

from c2al_tf.cohorts import (
    Axis,
    Discovery,
    Guard,
    count_cohorts,
    cut_axes,
    discover_cohorts,
    rank_cohorts,
    sample_rows,
)
from c2al_tf.cohorts.divergence import DIVERGENCES, jensen_shannon
from c2al_tf.cohorts.resampling import permutation_p_values

AXES = (
    Axis(("value",)),
    Axis(("country",)),
    Axis(("age",), edges={"age": (18, 30, 45, 60, 80)}),
    Axis(("country", "age"), edges={"age": (18, 45, 80)}, max_cohorts=6),
)
SMALL = Guard(min_rows=50, min_positives=1)


def planted(seed, rows=4000, effect=1.0):
    """Users of high value are predicted higher, by `effect` in log-odds between the quantiles 95 % and 5 %."""
    rng = np.random.default_rng(seed)
    columns = {
        "value": rng.lognormal(size=rows).astype(np.float32),
        "country": rng.choice(np.array(list("abcdef"), dtype=object), rows, p=[0.4, 0.2, 0.1, 0.1, 0.1, 0.1]),
        "age": rng.integers(18, 80, rows),
    }
    rank = np.argsort(np.argsort(columns["value"])) / rows
    logits = -3 + effect * (1.0 * (rank >= 0.95) - (rank < 0.05)) + 0.5 * rng.normal(size=rows)
    predictions = 1 / (1 + np.exp(-logits))
    return predictions, columns, (rng.random(rows) < predictions).astype(np.float32)


def discover(predictions, columns, labels=None, axes=AXES, **settings):
    settings = {"guard": SMALL, "num_bootstrap": 20, "num_permutations": 199, "progress": False} | settings
    return discover_cohorts(predictions, columns, axes, labels=labels, **settings)


@pytest.mark.parametrize("divergence", DIVERGENCES)
@pytest.mark.parametrize("seed", range(5))
def test_a_planted_pair_is_found_among_decoys(divergence, seed):
    predictions, columns, labels = planted(seed)
    best = discover(predictions, columns, labels, divergence=divergence).best
    assert [cohort.name for cohort in best.cohorts] == ["value_top_5", "value_bottom_5"]
    assert best.p_value == 1 / 200
    assert best.head.positive_rate > best.tail.positive_rate
    assert best.interval[0] > 0


def test_at_most_5_percent_of_permuted_data_sets_have_a_pair_that_passes():
    # With the default level of the guard, 1 %, two of 200 are expected.
    assert permuted_tries_that_pass(200, SMALL) <= 10


@pytest.mark.slow
def test_the_guard_keeps_its_level():
    passed = permuted_tries_that_pass(1000, Guard(min_rows=50, min_positives=1, max_p_value=0.05))
    # Standard deviation 7; resembling axes make the guard somewhat stricter than its level.
    assert 20 <= passed <= 50 + 2 * 7


def permuted_tries_that_pass(tries, guard):
    passed = 0
    for seed in range(tries):
        predictions, columns, labels = planted(seed, rows=1500)
        predictions = np.random.default_rng((seed, 1)).permutation(predictions)
        found = discover(predictions, columns, labels, guard=guard, num_bootstrap=1, seed=seed)
        passed += any(pair.accepted for pair in found.pairs)
    return passed


def test_without_the_correction_more_than_5_percent_would_pass():
    passed = 0
    for seed in range(40):
        predictions, columns, _ = planted(seed, rows=1500)
        predictions = np.random.default_rng((seed, 1)).permutation(predictions)
        counts = count_cohorts(predictions, columns, cut_axes(AXES[:2], columns))
        table = counts.histograms[:5]
        pairs = [np.array([[i, j]]) for i in range(5) for j in range(i)]
        alone = [
            permutation_p_values(jensen_shannon, [(table, pair)], 99, np.random.default_rng(seed))[0][0]
            for pair in pairs
        ]
        passed += min(alone) <= 0.05
    assert passed > 0.05 * 40 * 2


def test_refused_pairs_stay_with_the_reason():
    predictions, columns, labels = planted(0)
    axes = [Axis(("age",), edges={"age": (17, 18, 21, 50, 80)})]
    found = discover(predictions, columns, labels, axes, guard=Guard(min_rows=300, min_positives=20))
    reasons = {tuple(cohort.name for cohort in pair.cohorts): pair.reasons for pair in found.pairs}
    assert len(reasons) == 6
    empty = next(pair for pair in found.pairs if pair.tail.rows == 0)
    assert (empty.interval, empty.p_value, set(empty.divergences.values())) == ((0, 0), None, {0.0})
    assert "tail cohort `age in [17, 18)` has 0 rows; at least 300 are needed" in empty.reasons
    assert any("age in [18, 21)` has 1" in reason for pair in reasons.values() for reason in pair)
    (noise,) = (pair for pair in found.pairs if pair.p_value is not None)
    assert not noise.accepted
    assert "permutation of the predictions over the rows explains the divergence: p = 0." in noise.reasons[0]
    assert "corrected for 1 pairs" in noise.reasons[0]


def test_too_few_positives():
    predictions, columns, _ = planted(0)
    labels = np.zeros(4000)
    labels[columns["value"] > np.median(columns["value"])] = 1
    found = discover(predictions, columns, labels, guard=Guard(min_rows=50, min_positives=20))
    top = found.pairs[0]
    assert [cohort.name for cohort in top.cohorts] == ["value_top_5", "value_bottom_5"]
    assert top.reasons[0].endswith("has 0 positives in 200 rows; at least 20 are needed")
    assert top.reasons[0].startswith("tail cohort `value in bottom 5 % (below ")


def test_a_share_that_is_too_small():
    predictions, columns, labels = planted(0)
    found = discover(predictions, columns, labels, guard=Guard(min_rows=50, min_share=0.1, min_positives=0))
    assert any("holds 5 % of the rows; at least 10 % is needed" in r for pair in found.pairs for r in pair.reasons)


def test_without_labels_the_mean_prediction_names_the_head():
    predictions, columns, labels = planted(0)
    found = discover(predictions, columns)
    assert found.best.head.positives is found.best.head.positive_rate is None
    assert found.best.head.cohort.name == "value_top_5"
    assert all(pair.head.mean_prediction >= pair.tail.mean_prediction for pair in found.pairs)
    # With labels the observed rate decides, against the predictions if need be.
    assert discover(predictions, columns, 1 - labels).best.head.cohort.name == "value_bottom_5"


def test_all_divergences_side_by_side_and_ranked_by_the_chosen():
    predictions, columns, labels = planted(0)
    for name in DIVERGENCES:
        found = discover(predictions, columns, labels, divergence=name)
        pair = found.pairs[3]
        values = [pair.divergences[name] for pair in found.pairs]
        assert values == sorted(values, reverse=True)
        for other, measure in DIVERGENCES.items():
            assert pair.divergences[other] == pytest.approx(measure(pair.head.histogram, pair.tail.histogram))


def test_the_same_seed_gives_the_same_discovery_and_json_keeps_it():
    predictions, columns, labels = planted(0)
    found = discover(predictions, columns, labels)
    assert discover(predictions, columns, labels) == found
    assert discover(predictions, columns, labels, seed=1) != found
    assert Discovery.from_json(json.loads(json.dumps(found.to_json(), allow_nan=False))) == found


@pytest.mark.parametrize("weighted", [False, True])
def test_shards_give_the_discovery_of_the_whole(weighted):
    predictions, columns, labels = planted(0)
    weights = np.random.default_rng(1).choice([0.0, 2.0], len(labels)) if weighted else np.ones(len(labels))
    shards = [np.arange(i, 4000, 3) for i in range(3)]
    sampled = [i[weights[i] > 0] for i in shards]
    sample = sum(sample_rows({n: c[i] for n, c in columns.items()}, row_numbers=i) for i in sampled)
    cuts = cut_axes(AXES, sample.columns)
    counts = sum(
        count_cohorts(predictions[i], {n: c[i] for n, c in columns.items()}, cuts, labels=labels[i], weights=weights[i])
        for i in shards
    )
    merged = rank_cohorts(counts, guard=SMALL, num_bootstrap=20, num_permutations=199).to_json()
    whole = discover(predictions, columns, labels, weights=weights).to_json()
    # Sums of predictions round by their order; all else is equal.
    for found, expected in zip(merged["axes"], whole["axes"], strict=True):
        for cohort, same in zip(found["cohorts"], expected["cohorts"], strict=True):
            assert cohort.pop("mean_prediction") == pytest.approx(same.pop("mean_prediction"), rel=1e-12)
    assert merged == whole


@pytest.mark.parametrize("num_cohorts", [3, 5])
def test_more_than_two_cohorts(num_cohorts):
    rng = np.random.default_rng(0)
    value = rng.random(5000).astype(np.float32)
    predictions = 0.001 * 300**value
    axis = Axis(("value",), quantiles={"value": tuple(np.linspace(0, 1, 11).tolist())})
    found = discover(predictions, {"value": value}, axes=[axis], divergence="wasserstein")
    cohorts = found.cohorts(num_cohorts)
    inside = np.sum([cohort.contains({"value": value}) for cohort in cohorts], axis=0)
    assert len(cohorts) == num_cohorts
    assert inside.max() == 1
    assert [cohort.name for cohort in cohorts[:2]] == ["value_top_10", "value_bottom_10"]


def test_rows_of_weight_0_are_left_out_and_other_weights_change_nothing():
    predictions, columns, labels = planted(0)
    weights = np.random.default_rng(1).choice([0.0, 0.5, 3.0], len(labels))
    kept = weights > 0
    without = discover(predictions[kept], {name: c[kept] for name, c in columns.items()}, labels[kept])
    assert discover(predictions, columns, labels, weights=weights) == without
    assert discover(predictions, columns, labels, weights=weights + 1) == discover(predictions, columns, labels)
    without = discover(predictions[kept], {name: c[kept] for name, c in columns.items()})
    assert discover(predictions, columns, weights=weights) == without


def test_constant_predictions_let_nothing_pass():
    _, columns, labels = planted(0)
    found = discover(np.full(4000, 0.05), columns, labels)
    assert {pair.p_value for pair in found.pairs} == {1.0}


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"divergence": "euclid"}, "one of js, kl, wasserstein, cosine. Received: divergence='euclid'"),
        ({"num_permutations": 50}, "at least 99 for p-values to reach max_p_value=0.01"),
        ({"num_bootstrap": 0}, "Received: num_bootstrap=0"),
        ({"axes": []}, "at least one axis"),
        ({"axes": [Axis(("colour",))]}, "No column `colour` in the data. Columns there: value, country, age"),
        ({"predictions": np.zeros(0)}, "Received: 0 predictions"),
        ({"predictions": np.zeros(3)}, "Received: 3 predictions, but column"),
        ({"predictions": np.full(4000, np.nan)}, "Received: nan in row 0; 4,000 of 4,000"),
        ({"predictions": np.full(4000, -3.0)}, "a sigmoid turns logits into them"),
        ({"labels": np.full(4000, 2)}, "Labels must be 0 or 1. Received: 2 in row 0"),
        ({"weights": np.ones(3)}, r"the shape of the predictions, \(4000,\). Received: shape \(3,\)"),
        ({"weights": np.zeros(4000)}, "Received: only weights of 0"),
        ({"weights": np.r_[1.0, -1.0, np.ones(3998)]}, "finite and at least 0. Received: -1.0 in row 1"),
        ({"weights": np.r_[1.0, np.nan, np.ones(3998)]}, "finite and at least 0. Received: nan in row 1"),
        ({"weights": np.ones(4000), "labels": np.ones(3)}, "but labels of length 3"),
    ],
)
def test_bad_input(change, match):
    predictions, columns, labels = planted(0)
    arguments = {"predictions": predictions, "columns": columns, "labels": labels, **change}
    with pytest.raises(ValueError, match=match):
        discover(**arguments)


def test_census_children_are_refused(real_data):
    path = real_data / "census_income_kdd" / "train.parquet"
    table = pq.read_table(path, columns=["age", "education", "label"])
    labels = table["label"].to_numpy()
    _, education = np.unique(table["education"].to_numpy(), return_inverse=True)
    predictions = (np.bincount(education, labels) / np.bincount(education))[education]
    columns = {"age": table["age"].to_numpy().astype(np.float32)}
    axis = Axis(("age",), edges={"age": (0, 18, 25, 35, 45, 55, 65, math.inf)})
    found = discover(predictions, columns, labels, [axis], guard=Guard())
    refused = [pair for pair in found.pairs if pair.tail.cohort.name == "age_0_18"]
    assert len(refused) == 6
    for pair in refused:
        assert pair.reasons == ("tail cohort `age in [0, 18)` has 2 positives in 55,992 rows; at least 20 are needed",)
    assert found.pairs[0] in refused
    assert found.best.tail.cohort.name != "age_0_18"
