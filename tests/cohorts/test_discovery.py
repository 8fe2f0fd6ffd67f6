import json
import math

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from c2al_tf.blocks import resample_counts
from c2al_tf.cohorts import (
    Axis,
    Cohort,
    Discovery,
    Guard,
    Interval,
    Values,
    count_cohorts,
    count_sizes,
    cut_axes,
    discover_cohorts,
    rank_cohorts,
    sample_rows,
    table,
)
from c2al_tf.cohorts.chance import FIT_DRAWS, random_signs
from c2al_tf.cohorts.divergence import DIVERGENCES
from c2al_tf.cohorts.measurement import measure_axis

AXES = (
    Axis(("value",)),
    Axis(("country",)),
    Axis(("age",), edges={"age": (18, 30, 45, 60, 80)}),
    Axis(("country", "age"), edges={"age": (18, 45, 80)}, max_cohorts=6),
)
SMALL = Guard(min_positives=1)


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
    settings = {"guard": SMALL, "num_resamples": 20, "num_draws": 199, "progress": False} | settings
    return discover_cohorts(predictions, columns, axes, labels=labels, **settings)


@pytest.mark.parametrize("divergence", DIVERGENCES)
@pytest.mark.parametrize("seed", range(5))
def test_a_planted_pair_is_found_among_decoys(divergence, seed):
    predictions, columns, labels = planted(seed, rows=12_000)
    best = discover(predictions, columns, labels, divergence=divergence).best
    assert [cohort.name for cohort in best.cohorts] == ["value_top_5", "value_bottom_5"]
    assert best.p_value == 1 / 200
    assert best.head.positive_rate > best.tail.positive_rate
    assert best.interval[0] > 0


def test_at_most_5_percent_of_permuted_data_sets_have_a_pair_that_passes():
    # With the default level of the guard, 1 %, 0.1 of 10 are expected; without correction most pass.
    assert permuted_tries_that_pass(10, 0.01) == 0


@pytest.mark.slow
def test_the_guard_keeps_its_level():
    # Standard deviation 7; the step test of independent axes would be exact.
    assert 20 <= permuted_tries_that_pass(1000, 0.05) <= 50 + 2 * 7


def permuted_tries_that_pass(tries, level):
    passed = 0
    for seed in range(tries):
        predictions, columns, _ = planted(seed, rows=1500)
        predictions = np.random.default_rng((seed, 1)).permutation(predictions)
        found = discover(predictions, columns, num_resamples=2, seed=seed)
        passed += any(pair.p_value <= level for pair in found.pairs if pair.p_value is not None)
    return passed


def users_in_groups(seed, crossed=False):
    """300 users of 200 rows with an effect of each user in the predictions, in 5 groups without one."""
    rng = np.random.default_rng(seed)
    users = np.repeat(np.arange(300), 200)
    if crossed:
        shares = rng.dirichlet(np.full(5, 0.5), 300)
        groups = np.concatenate([rng.choice(5, 200, p=share) for share in shares])
    else:
        groups = rng.integers(5, size=300)[users]
    logits = -3 + rng.normal(size=300)[users] + 0.5 * rng.normal(size=len(users))
    return 1 / (1 + np.exp(-logits)), {"group": groups}, users


@pytest.mark.parametrize("crossed", [False, True])
def test_rows_of_one_user_are_one_observation(crossed):
    passed = {True: 0, False: 0}
    for seed in range(8):
        predictions, columns, users = users_in_groups(seed, crossed)
        for known in passed:
            units = users if known else None
            axes = [Axis(("group",), categories=("group",))]
            found = discover(predictions, columns, axes=axes, units=units, num_resamples=2)
            passed[known] += any(pair.accepted for pair in found.pairs)
    assert passed[True] <= 1
    assert passed[False] == 8  # taken for independent rows, they differ in every data set


def test_a_pair_is_tested_against_its_own_rows():
    """One truly different cohort does not make the others look different."""
    accepted = 0
    for seed in range(8):
        rng = np.random.default_rng(seed)
        alike = np.exp(rng.uniform(np.log(1e-6), 0, 8000))
        predictions = np.concatenate([np.full(400_000, 1e-3), alike])
        columns = {"group": np.repeat(np.array(["c", "a", "b"], dtype=object), [400_000, 4000, 4000])}
        found = discover(predictions, columns, axes=[Axis(("group",))], num_resamples=2)
        by_names = {frozenset(c.conditions[0].values[0] for c in pair.cohorts): pair for pair in found.pairs}
        accepted += by_names[frozenset("ab")].accepted
        assert by_names[frozenset("ac")].accepted
    assert accepted <= 1


def test_the_ranking_does_not_favour_small_cohorts():
    """Few rows in many buckets diverge by themselves."""
    first = 0
    for seed in range(10):
        rng = np.random.default_rng(seed)
        parts = [(1200, 0.0, "a"), (1200, 0.45, "b"), (200_000, 0.0, "c"), (200_000, 0.6, "d")]
        logits = np.concatenate([-3 + shift + rng.normal(size=n) for n, shift, _ in parts])
        group = np.repeat(np.array([name for *_, name in parts], dtype=object), [n for n, *_ in parts])
        small, large = (np.isin(group, list(names)) for names in ("ab", "cd"))
        columns = {
            "small": np.where(small, group, "").astype(object),
            "large": np.where(large, group, "").astype(object),
        }
        axes = [Axis(("small",)), Axis(("large",))]
        found = discover(1 / (1 + np.exp(-logits)), columns, axes=axes, guard=Guard(min_share=0.0))
        assert len(found.pairs) == 2
        first += found.pairs[0].axis == "large"
    assert first == 10


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_the_interval_holds_the_estimate_and_covers_the_truth(divergence):
    covered = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        group = np.repeat(np.array(["a", "b"], dtype=object), [4000, 2000])
        predictions = 1 / (1 + np.exp(3 - 0.5 * (group == "b") - 0.7 * rng.normal(size=6000)))
        axes = [Axis(("group",))]
        (pair,) = discover(
            predictions, {"group": group}, axes=axes, divergence=divergence, num_resamples=100, num_buckets=50
        ).pairs
        low, high = pair.interval
        assert low <= pair.divergences[divergence] <= high
        covered += low <= TRUE_DIVERGENCES[divergence] <= high
    assert covered >= 51  # of 60; 57 are expected


def true_divergences():
    rng = np.random.default_rng(0)
    histograms = [
        np.histogram(1 - np.log(1 / (1 + np.exp(3 - s - 0.7 * rng.normal(size=10**6)))) / np.log(1e-6), 50, (0, 1))[0]
        for s in (0.5, 0.0)
    ]
    return {name: float(measure.measure(*histograms)) for name, measure in DIVERGENCES.items()}


TRUE_DIVERGENCES = true_divergences()


def test_all_baselines_decide():
    predictions, columns, _ = planted(0)
    other = np.where(columns["country"] == "a", 0.2, 0.01)
    seeds = np.stack([predictions, predictions, other])
    alone = discover(other, columns)
    together = discover(seeds, columns)
    assert (alone.num_seeds, together.num_seeds) == (1, 3)
    assert alone.best.axis == "country"
    mean = {pair.cohorts: pair.divergences["js"] for pair in together.pairs}
    each = [{pair.cohorts: pair.divergences["js"] for pair in discover(p, columns).pairs} for p in seeds]
    best = together.best.cohorts
    # Head and tail change places with the mean prediction.
    found = [next(d[c] for c in (best, best[::-1]) if c in d) for d in each]
    assert mean[best] == pytest.approx(np.mean(found), abs=0.01)
    assert together.best.interval[1] - together.best.interval[0] > alone.best.interval[1] - alone.best.interval[0]


def test_stability_is_the_share_of_baselines_and_resamples_that_agree():
    predictions, columns, _ = planted(0)
    other = np.where(columns["country"] == "a", 0.2, 0.01)
    sure = discover(np.stack([predictions] * 2), columns)
    assert sure.stability == 1.0
    torn = discover(np.stack([predictions, predictions, other]), columns)
    assert torn.stability == pytest.approx(1 / 3) or torn.stability == pytest.approx(2 / 3)
    alike = discover(np.random.default_rng(0).random(4000), columns)
    assert (alike.stability, alike.best_by_axis) == (None, {})


def test_stability_is_among_accepted_pairs_alone():
    """A refused pair that diverges more changes nothing."""
    predictions, columns, labels = planted(0, rows=12_000)
    without = discover(predictions, columns, labels, AXES[:1])
    tiny = np.where(np.arange(12_000) < 40, "x", np.where(np.arange(12_000) < 80, "y", "")).astype(object)
    shifted = np.where(tiny == "x", 0.99, np.where(tiny == "y", 1e-5, predictions))
    found = discover(shifted, columns | {"tiny": tiny}, labels, [*AXES[:1], Axis(("tiny",))])
    assert not found.pairs[0].accepted
    assert found.pairs[0].axis == "tiny"
    assert (found.best.axis, found.stability) == ("value", pytest.approx(without.stability, abs=0.15))


def test_the_divergence_of_users_that_resemble_themselves_is_no_difference():
    """The design effect takes off what dependent rows add."""
    left = {True: 0.0, False: 0.0}
    for seed in range(8):
        predictions, columns, users = users_in_groups(seed)
        for known in left:
            units = users if known else None
            axes = [Axis(("group",), categories=("group",))]
            found = discover(predictions, columns, axes=axes, units=units, num_resamples=2)
            left[known] += float(np.mean([pair.divergences["js"] for pair in found.pairs]))
    assert abs(left[True]) < 0.4 * left[False]


def test_resamples_lie_around_the_estimate():
    """A resample has chance's part twice; the interval and the stability must not."""
    predictions, columns, _ = planted(0)
    counts = count_cohorts(predictions, columns, cut_axes(AXES[1:2], columns))
    signs = random_signs(FIT_DRAWS + 99, counts.num_blocks, np.random.default_rng(0))
    draws = resample_counts(counts.num_blocks, 50)
    summary = rank_cohorts(counts, guard=SMALL).axes[0]
    every = slice(0, len(summary.cohorts))
    measured = measure_axis(summary, counts, every, 4000, "js", SMALL, signs, draws, np.random.default_rng(1))
    np.testing.assert_allclose(measured.resampled.mean(1)[0], measured.divergences["js"], atol=1e-12)


def test_the_calibration_of_all_baselines_is_asked():
    rng = np.random.default_rng(0)
    group = rng.choice(np.array(["a", "b"], dtype=object), 20_000)
    labels = rng.random(20_000) < 0.1
    right, wrong = np.full(20_000, 0.1), np.where(group == "a", 0.2, 0.05)
    (pair,) = discover(np.stack([right, wrong]), {"group": group}, labels, [Axis(("group",))]).pairs
    assert pair.label_p_value == 1 / 200


def test_labels_that_do_not_differ_refuse_a_pair():
    """A model that reads the axis predicts differently along it, also where it overfits."""
    rng = np.random.default_rng(0)
    group = rng.choice(np.array(["a", "b"], dtype=object), 20_000)
    spread = np.where(group == "a", 1.0, 0.2)
    logits = -2 + spread * rng.normal(size=20_000)
    logits[group == "b"] += np.log(np.mean(1 / (1 + np.exp(-logits[group == "a"])))) - np.log(
        np.mean(1 / (1 + np.exp(-logits[group == "b"])))
    )
    predictions = 1 / (1 + np.exp(-logits))
    equal = rng.random(20_000) < predictions.mean()
    axes = [Axis(("group",))]
    (pair,) = discover(predictions, {"group": group}, equal, axes).pairs
    assert pair.p_value == 1 / 200
    assert set(pair.reasons) == {"labels"}
    assert "chance explains the differences of positive rate and calibration" in pair.reasons["labels"]
    # Rates that differ, or predictions that are off in one cohort alone, are a difference.
    for labels, p in (
        (rng.random(20_000) < np.where(group == "a", 0.2, 0.1), predictions),
        (equal, np.where(group == "a", predictions, predictions / 2)),
    ):
        (pair,) = discover(p, {"group": group}, labels, axes).pairs
        assert pair.accepted


def test_a_handful_of_positives_shows_no_difference_of_rates():
    """Their blocks' signs are all but equal, and would call anything a difference."""
    for seed in range(10):
        rng = np.random.default_rng(seed)
        group = np.repeat(np.array(["a", "b"], dtype=object), [200, 20_000])
        predictions = np.where(group == "a", 0.01, 0.1) * rng.uniform(0.5, 1.5, len(group))
        labels = rng.random(len(group)) < 0.025
        (pair,) = discover(predictions, {"group": group}, labels, [Axis(("group",))], num_resamples=2).pairs
        assert set(pair.reasons) == {"labels"}
        assert pair.label_p_value == 1.0


def test_the_labels_of_every_axis_are_its_own():
    """The second axis has no difference in its labels; the first one has."""
    rng = np.random.default_rng(0)
    first, second = (rng.choice(np.array(["a", "b"], dtype=object), 20_000) for _ in range(2))
    rate = np.where(first == "a", 0.3, 0.1)
    spread = np.where(second == "a", 0.9, 0.1)
    p = np.clip(rate * np.exp(spread * rng.normal(size=20_000) - spread**2 / 2), 0, 1)
    columns = {"first": first, "second": second}
    found = discover(p, columns, rng.random(20_000) < rate, [Axis(("first",)), Axis(("second",))])
    assert {pair.axis: set(pair.reasons) for pair in found.pairs} == {"first": set(), "second": {"labels"}}


def test_predictions_of_zero_have_a_calibration():
    rng = np.random.default_rng(0)
    group = rng.choice(np.array(["a", "b"], dtype=object), 20_000)
    predictions, labels = np.where(group == "a", 0.0, 0.1), rng.random(20_000) < 0.1
    (pair,) = discover(predictions, {"group": group}, labels, [Axis(("group",))]).pairs
    assert pair.accepted


def test_a_pair_in_one_block_has_no_interval():
    predictions, columns, _ = planted(0)
    found = discover(predictions, columns, axes=AXES[:1], units=np.zeros(4000, np.int64))
    assert {pair.interval for pair in found.pairs} == {None}
    assert {pair.accepted for pair in found.pairs} == {False}
    assert Discovery.from_json(json.loads(json.dumps(found.to_json(), allow_nan=False))) == found


def test_a_row_of_weight_0_needs_no_label():
    predictions, columns, labels = planted(0, rows=12_000)
    weights = np.ones(12_000)
    weights[5] = 0
    unknown = labels.astype(float)
    unknown[5] = np.nan
    found, wanted = (discover(predictions, columns, each, weights=weights) for each in (unknown, labels))
    assert found == wanted
    cuts = cut_axes([Axis(("value",))], columns)
    sizes = [count_sizes(columns, cuts, labels=each, weights=weights).positives for each in (unknown, labels)]
    np.testing.assert_array_equal(*sizes)
    with pytest.raises(ValueError, match=r"Labels must be 0 or 1\. Received: nan in row 5"):
        discover(predictions, columns, unknown)


def test_a_pair_too_small_to_be_tested_changes_no_other_and_has_its_divergence():
    """Its size alone refuses it: what it diverges is the same with a guard that lets it pass, the rest is not asked."""
    predictions, columns, labels = planted(0, rows=12_000)
    strict = discover(predictions, columns, labels, guard=Guard(min_positives=100))
    loose = discover(predictions, columns, labels, guard=Guard(min_positives=0, min_share=0.0))
    measured = {(pair.axis, pair.cohorts): pair for pair in loose.pairs}
    small = [pair for pair in strict.pairs if pair.too_small]
    assert 0 < len(small) < len(strict.pairs)
    for pair in strict.pairs:
        whole = measured[pair.axis, pair.cohorts]
        assert pair.divergences == whole.divergences
        assert pair.interval == (None if pair.too_small else whole.interval)
        assert (pair.p_value is None) == pair.too_small


def test_a_difference_of_nothing_is_refused_however_sure_it_is():
    rng = np.random.default_rng(0)
    group = rng.choice(np.array(["a", "b"], dtype=object), 2_000_000)
    predictions = 1 / (1 + np.exp(3 - 0.03 * (group == "b") - rng.normal(size=2_000_000)))
    (pair,) = discover(predictions, {"group": group}, axes=[Axis(("group",))]).pairs
    assert pair.p_value == 1 / 200
    assert set(pair.reasons) == {"effect"}


def test_size_is_about_the_training_rows():
    predictions, columns, labels = planted(0, rows=12_000)
    axes = AXES[:1]
    # Few positives in a cohort, but enough to learn from in training.
    training = {name: np.tile(column, 3) for name, column in columns.items()}
    found = discover(
        predictions, columns, labels, axes, guard=Guard(), training_columns=training, training_labels=np.tile(labels, 3)
    )
    top = next(s for s in found.axes[0].cohorts if s.cohort.name == "value_top_5")
    assert (top.rows, top.training_rows, top.training_positives) == (600, 1800, 3 * top.positives)
    assert top.positives < 100 <= top.training_positives
    assert any(pair.accepted and top in (pair.head, pair.tail) for pair in found.pairs)
    without = discover(predictions, columns, labels, axes, guard=Guard())
    assert all("positives" in pair.reasons for pair in without.pairs if top.cohort in pair.cohorts)
    # The share is that of the training rows, too.
    rare = {name: np.concatenate([column, np.repeat(column[:1], 200_000)]) for name, column in columns.items()}
    found = discover(predictions, columns, None, axes, guard=Guard(min_share=0.01), training_columns=rare)
    assert all("share" in pair.reasons for pair in found.pairs if top.cohort in pair.cohorts)


def test_refused_pairs_stay_with_the_reason():
    predictions, columns, labels = planted(0)
    axes = [Axis(("age",), edges={"age": (17, 18, 21, 50, 80)})]
    found = discover(predictions, columns, labels, axes, guard=Guard(min_positives=20))
    assert len(found.pairs) == 6
    empty = next(pair for pair in found.pairs if pair.tail.rows == 0)
    assert (empty.p_value, set(empty.divergences.values())) == (None, {0.0})
    assert "tail cohort `age in [17, 18)` has 0 positives in 0 training rows" in empty.reasons["positives"]
    assert "tail cohort `age in [17, 18)` has no training row" in empty.reasons["share"]
    assert "has no row with a prediction" in empty.reasons["rows"]
    tested = [pair for pair in found.pairs if pair.p_value is not None]
    assert tested
    for noise in tested:
        assert not noise.accepted
        assert "chance explains the divergence of the predictions: p = 0." in noise.reasons["chance"]
        assert f"corrected for {len(tested)} pairs" in noise.reasons["chance"]
    assert found.refusals["rows"] == 3
    with pytest.raises(
        ValueError, match=r"No pair passes the guard: 6 pairs on 1 axes. .* The most divergent:\n- axis"
    ):
        _ = found.best


def test_the_best_pair_of_each_axis():
    predictions, columns, _ = planted(0)
    predictions = np.where(columns["country"] == "a", predictions * 2, predictions)
    found = discover(np.minimum(predictions, 1), columns)
    best = found.best_by_axis
    assert next(iter(best)) == found.best.axis
    assert {"value", "country"} <= set(best)
    for name, pair in best.items():
        assert pair == next(p for p in found.pairs if p.axis == name and p.accepted)


def test_given_cohorts_are_checked_like_found_ones():
    predictions, columns, labels = planted(0, rows=12_000)
    given = (
        Cohort("rich", (Interval("value", low=5.0),)),
        Cohort("value_bottom_5", (Interval("value", high=0.2), Values("country", ("a", "b", "c")))),
        Cohort("young", (Interval("age", high=30),)),
    )
    cuts = cut_axes(AXES[:1], columns, given=given)
    assert [cut.axis for cut in cuts] == ["given", "value"]
    # What is found gets another name.
    assert {c.name for c in cuts[1].cohorts} & {c.name for c in given} == set()
    counts = count_cohorts(predictions, columns, cuts, labels=labels)
    found = rank_cohorts(counts, guard=SMALL, num_resamples=20, num_draws=199)
    assert found.given == given
    pairs = {frozenset(c.name for c in p.cohorts): p for p in found.pairs if p.axis == "given"}
    assert len(pairs) == 3
    assert pairs[frozenset(("rich", "value_bottom_5"))].accepted
    assert Discovery.from_json(json.loads(json.dumps(found.to_json(), allow_nan=False))) == found
    (lone,) = cut_axes([], columns, given=given[:1])
    one = rank_cohorts(count_cohorts(predictions, columns, [lone], labels=labels), guard=SMALL)
    assert (one.given, one.pairs, one.stability) == (given[:1], (), None)
    with pytest.raises(ValueError, match="Given cohorts must have distinct names; give a `name`. Received twice: rich"):
        cut_axes([], columns, given=given[:1] * 2)


def test_too_few_positives():
    predictions, columns, _ = planted(0)
    labels = np.zeros(4000)
    labels[columns["value"] > np.median(columns["value"])] = 1
    found = discover(predictions, columns, labels, guard=Guard(min_positives=20))
    top = found.pairs[0]
    assert [cohort.name for cohort in top.cohorts] == ["value_top_5", "value_bottom_5"]
    assert top.reasons["positives"].endswith("has 0 positives in 200 training rows; at least 20 are needed")
    assert top.reasons["positives"].startswith("tail cohort `value in bottom 5 % (below ")


def test_a_share_that_is_too_small():
    predictions, columns, labels = planted(0)
    found = discover(predictions, columns, labels, guard=Guard(min_share=0.1, min_positives=0))
    reasons = [pair.reasons["share"] for pair in found.pairs if "share" in pair.reasons]
    assert any("holds 5 % of the training rows; at least 10 % is needed" in reason for reason in reasons)


def test_without_labels_the_mean_prediction_names_the_head():
    predictions, columns, labels = planted(0)
    found = discover(predictions, columns)
    assert found.best.head.positives is found.best.head.positive_rate is None
    assert found.best.label_p_value is None
    assert found.best.head.cohort.name == "value_top_5"
    assert all(pair.head.mean_prediction >= pair.tail.mean_prediction for pair in found.pairs)
    # With labels the observed rate decides, against the predictions if need be.
    against = discover(predictions, columns, 1 - labels).pairs[0]
    assert (against.head.cohort.name, against.tail.cohort.name) == ("value_bottom_5", "value_top_5")


def test_all_divergences_side_by_side_and_ranked_by_the_chosen():
    predictions, columns, labels = planted(0)
    for name in DIVERGENCES:
        found = discover(predictions, columns, labels, divergence=name)
        pair = found.pairs[3]
        values = [pair.divergences[name] for pair in found.pairs]
        assert values == sorted(values, reverse=True)
        for other, divergence in DIVERGENCES.items():
            # Less what chance alone gives.
            plain = divergence.measure(pair.head.histogram, pair.tail.histogram)
            assert 0 < pair.divergences[other] < plain


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
        count_cohorts(
            predictions[i],
            {n: c[i] for n, c in columns.items()},
            cuts,
            labels=labels[i],
            weights=weights[i],
            row_numbers=i,
        )
        for i in shards
    )
    sizes = sum(
        count_sizes({n: c[i] for n, c in columns.items()}, cuts, labels=labels[i], weights=weights[i]) for i in shards
    )
    merged = rank_cohorts(counts, training=sizes, guard=SMALL, num_resamples=20, num_draws=199).to_json()
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
    found = discover(predictions, {"value": value}, axes=[axis], divergence="wasserstein", num_resamples=2)
    cohorts = found.cohorts(num_cohorts)
    inside = np.sum([cohort.contains({"value": value}) for cohort in cohorts], axis=0)
    assert len(cohorts) == num_cohorts
    assert inside.max() == 1
    assert [cohort.name for cohort in cohorts[:2]] == ["value_top_10", "value_bottom_10"]


def test_rows_of_weight_0_are_left_out_and_other_weights_change_nothing():
    predictions, columns, labels = planted(0)
    weights = np.random.default_rng(1).choice([0.0, 0.5, 3.0], len(labels))
    kept = weights > 0
    # A row keeps its block: by its unit here, so that leaving rows out deals no other one anew.
    units = np.arange(len(labels))
    without = discover(
        predictions[kept], {name: c[kept] for name, c in columns.items()}, labels[kept], units=units[kept]
    )
    assert discover(predictions, columns, labels, weights=weights, units=units) == without
    assert discover(predictions, columns, labels, weights=weights + 1) == discover(predictions, columns, labels)


def test_columns_and_predictions_in_other_forms():
    predictions, columns, labels = planted(0)
    axes, units, weights = [Axis(("value",)), Axis(("country",))], np.arange(4000) // 2, np.arange(4000) % 3
    expected = discover(predictions, columns, labels, axes=axes, units=units, weights=weights)
    given = {"labels": pd.Series(labels, dtype="Int8"), "units": pd.Series(units), "weights": pd.Series(weights)}
    frame = pd.DataFrame(columns).astype({"country": "category"})
    assert discover(predictions[:, None], frame, axes=["value", "country"], **given).to_json() == expected.to_json()
    given = {name: tf.constant(np.asarray(values)[:, None]) for name, values in given.items()}
    tensors = {name: tf.constant(values.tolist() if name == "country" else values) for name, values in columns.items()}
    got = discover(tf.constant(predictions)[None, :, None], tensors, axes=["value", "country"], **given)
    assert got.to_json() == expected.to_json()


def test_a_column_of_strings_is_looked_through_once(monkeypatch):
    seen = []
    monkeypatch.setattr(table, "_of_objects", lambda values, what: seen.append(what) or values)
    predictions, columns, labels = planted(0, rows=400)
    discover(predictions, columns, labels, weights=np.ones(400))
    assert seen == ["column `country`"]


def test_constant_predictions_let_nothing_pass():
    _, columns, labels = planted(0)
    found = discover(np.full(4000, 0.05), columns, labels)
    assert {pair.p_value for pair in found.pairs} == {1.0}


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"divergence": "euclid"}, "one of js, kl, wasserstein, cosine. Received: divergence='euclid'"),
        ({"num_draws": 50}, "at least 99 for p-values to reach max_p_value=0.01"),
        ({"num_resamples": 1}, "Received: num_resamples=1"),
        (
            {"training_columns": {"value": np.ones(3), "country": np.array(["a"]), "age": np.ones(3)}},
            "Received: 3 training rows, but column",
        ),
        ({"training_labels": np.ones(3)}, "Received: labels without columns"),
        ({"units": np.ones(3)}, "but units of length 3"),
        ({"axes": []}, "at least one axis"),
        ({"axes": [Axis(("colour",))]}, "No column `colour` in the data. Columns there: value, country, age"),
        ({"predictions": np.zeros(0)}, "Received: 0 predictions"),
        ({"predictions": np.zeros(3)}, "Received: 3 predictions, but column"),
        ({"predictions": np.full(4000, np.nan)}, "Received: nan in row 0; 4,000 of 4,000 predictions"),
        ({"predictions": np.full(4000, -3.0)}, "a sigmoid turns logits into them"),
        ({"labels": np.full(4000, 2)}, "Labels must be 0 or 1. Received: 2 in row 0"),
        ({"weights": np.ones(3)}, r"must have shape \(4000,\), as the rows. Received: shape \(3,\)"),
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
    found = discover(predictions, columns, labels, [axis], guard=Guard(), num_draws=99)
    refused = [pair for pair in found.pairs if pair.tail.cohort.name == "age_0_18"]
    assert len(refused) == 6
    for pair in refused:
        words = "tail cohort `age in [0, 18)` has 2 positives in 55,992 training rows; at least 100 are needed"
        assert pair.reasons == {"positives": words}
    assert found.pairs[0] in refused
    assert found.best.tail.cohort.name != "age_0_18"
