import dataclasses
import hashlib
import math
import tracemalloc

import numpy as np
import pytest
from c2al_pipelines.datasets.ads_world import (
    BLOCK_ROWS,
    EFFECT_FIELDS,
    HEAD,
    LATENT_FIELDS,
    MAJORITY,
    PAIRS,
    TAIL,
    make_world,
    random_stream,
)
from c2al_pipelines.datasets.synthetic_ads import (
    SyntheticAds,
    count_shard_rows,
    generate,
    make_schema,
    open_source,
    planted_cohorts,
    raw_columns,
)

from c2al_tf.data.columns.checks import check_columns
from c2al_tf.data.columns.raw import concatenate
from c2al_tf.data.columns.readers import read_columns
from c2al_tf.data.columns.shards import split_files
from c2al_tf.data.preparation.prepare import prepare

SMALL = SyntheticAds(num_rows=3 * BLOCK_ROWS + 10, validation_rows=100, test_rows=400_000)


def _rows(parameters, split, **shard):
    batches = list(generate(parameters, split, **shard))
    columns = {name: np.concatenate([batch[name] for batch, _ in batches]) for name in batches[0][0]}
    return columns, np.concatenate([probability for _, probability in batches])


def _equal(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def test_rows():
    return _rows(SMALL, "test")


@pytest.mark.parametrize(
    ("split", "digest", "expected_clicks"),
    [
        ("train", "da19bac7ff1addcf28961f2240ba273268392e45d68fcf7f3966a57e71c42ea5", 238.93197232154517),
        ("validation", "7025d4b19a02060910ade564a049ed299d1c796d72c804161cd0d2a1455024e4", 241.14680622656107),
        ("test", "b8b65941f052c78eff50cca2cb4c63c512fa9dae2be37a1b6168aab86f6186f4", 246.13224223184827),
    ],
)
def test_the_default_world_stays_what_was_measured_on(split, digest, expected_clicks):
    columns, probability = next(generate(SyntheticAds(), split))
    found = hashlib.sha256()
    for name, column in sorted(columns.items()):
        found.update(name.encode())
        found.update("\n".join(column.tolist()).encode() if column.dtype == object else column.tobytes())
    assert found.hexdigest() == digest
    assert probability.sum() == pytest.approx(expected_clicks, rel=1e-12)


def test_same_seed_same_rows_other_seed_other_rows():
    rows = _rows(SMALL, "validation")[0]
    assert _equal(rows, _rows(SyntheticAds(**vars(SMALL)), "validation")[0])
    assert not _equal(rows, _rows(SyntheticAds(**{**vars(SMALL), "seed": 1}), "validation")[0])


def test_splits_differ():
    assert not _equal(_rows(SMALL, "validation")[0], {n: c[:100] for n, c in _rows(SMALL, "test")[0].items()})


@pytest.mark.parametrize("num_shards", [2, 3])
def test_shards_are_the_split(num_shards):
    whole = list(generate(SMALL, "train"))
    for shard in range(num_shards):
        part = list(generate(SMALL, "train", shard=shard, num_shards=num_shards))
        assert len(part) == len(whole[shard::num_shards])
        assert all(_equal(a, b) for (a, _), (b, _) in zip(part, whole[shard::num_shards], strict=True))
        assert count_shard_rows(SMALL, "train", shard, num_shards) == sum(len(p) for _, p in part)


def test_a_longer_log_begins_with_the_shorter():
    long, short = _rows(SMALL, "validation")[0], SyntheticAds(**{**vars(SMALL), "validation_rows": 60})
    assert _equal({name: column[:60] for name, column in long.items()}, _rows(short, "validation")[0])


def test_number_of_rows_and_size_of_batches():
    sizes = [len(probability) for _, probability in generate(SMALL, "train")]
    assert sizes == [BLOCK_ROWS] * 3 + [10]


def test_click_rates_and_cohort_sizes(test_rows):
    columns, probability = test_rows
    head, tail = (cohort.contains(columns) for cohort in planted_cohorts(SMALL))
    assert head.mean() == pytest.approx(0.05, abs=0.002)
    assert tail.mean() == pytest.approx(0.05, abs=0.002)
    assert columns["user_value"][head].min() > columns["user_value"][~head].max()
    assert columns["user_value"][tail].max() < columns["user_value"][~tail].min()
    assert probability.mean() == pytest.approx(0.0037, rel=0.03)
    assert probability[head].mean() == pytest.approx(2.2 * 0.0037, rel=0.06)
    assert probability[tail].mean() == pytest.approx(0.52 * 0.0037, rel=0.06)
    # Clicks are drawn from the probabilities: their sum is within five standard deviations.
    assert abs(columns["click"].sum() - probability.sum()) < 5 * np.sqrt(probability.sum())


@pytest.mark.parametrize("click_rate", [0.001, 0.1])
def test_click_rates_at_both_ends(click_rate):
    parameters = SyntheticAds(click_rate=click_rate, test_rows=400_000)
    columns, probability = _rows(parameters, "test")
    cohorts = make_world(parameters).cohort(columns["user_value"])
    assert probability.mean() == pytest.approx(click_rate, rel=0.01)
    for cohort, rate in enumerate(parameters.cohort_click_rates):
        assert probability[cohorts == cohort].mean() == pytest.approx(rate, rel=0.03)
    # The clicks themselves: within four standard deviations, 20 % of 400 clicks and 2 % of 40,000.
    expected = click_rate * len(probability)
    assert abs(columns["click"].sum() - expected) < 4 * np.sqrt(expected)


def test_a_longer_log_takes_no_more_memory():
    parameters = SyntheticAds(num_rows=8 * BLOCK_ROWS)
    make_world(parameters)

    def peak(num_blocks):
        tracemalloc.start()
        for _, _ in zip(range(num_blocks), generate(parameters, "train"), strict=False):
            pass
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    assert peak(8) < 1.05 * peak(2)


def test_a_world_of_many_users_and_ads_is_small():
    world = make_world(SyntheticAds(num_users=400_000, num_ads=200_000, num_advertisers=20_000))
    arrays = [*world.distributions.values(), *(values for _, values in world.derived.values()), world.user_log_value]
    arrays += [*world.effects.values(), *world.latents.values()]
    # 27 bytes a user, 21 an ad, 25 an advertiser.
    assert sum(array.nbytes for array in arrays) < 27 * 400_000 + 21 * 200_000 + 25 * 20_000 + 20_000


def test_extra_ids_have_main_effects_and_leave_the_strength_of_all_as_asked_for():
    none = {"majority_strength": 0.0, "cohort_strength": 0.0, "decoy_spread": 0.0, "value_slope": 0.0}
    parameters = SyntheticAds(test_rows=200_000, num_extra_ids=12, extra_id_values=300, zipf_exponent=0.0, **none)
    columns, probability = _rows(parameters, "test")
    extra = [name for name in columns if name.startswith("extra_id")]
    assert extra == [f"extra_id_{i:02d}" for i in range(12)]
    assert all(len(np.unique(columns[name])) == 300 for name in extra)
    majority = make_world(parameters).cohort(columns["user_value"]) == MAJORITY
    logits = np.log(probability / (1 - probability))[majority]
    # 12 of 19 fields with an effect are extra ones; a world has few categories, devices and hours, so its own luck.
    assert logits.std() == pytest.approx(0.4, rel=0.15)
    effects = make_world(parameters).effects
    shares = [effects[name][columns[name][majority]].var() / logits.var() for name in extra]
    assert sum(shares) == pytest.approx(12 / (12 + len(EFFECT_FIELDS)), abs=0.12)


def test_ids_of_millions_of_values_are_hashed():
    parameters = SyntheticAds(num_users=1_000_001, num_ads=1_000_000)
    buckets = {spec.name: spec.num_hash_buckets for spec in open_source(parameters).features}
    assert (buckets["user_id"], buckets["ad_id"]) == (1_000_001, None)
    assert raw_columns(parameters)["user_id"].dtype == "int64"


def test_the_schema_of_the_world_knows_every_value():
    parameters = SyntheticAds(num_users=100_000)
    schema = make_schema(parameters)
    assert [column.name for column in schema.columns.values()] == list(raw_columns(parameters))
    features = {feature.name: feature for feature in schema.features}
    assert features["user_id"].vocabulary == tuple(range(100_000))
    assert len(features["age_group"].vocabulary) == 7
    head, tail = planted_cohorts(parameters)
    assert features["user_value"].boundaries[0] == pytest.approx(tail.conditions[0].high, rel=0.03)
    assert features["user_value"].boundaries[-1] == pytest.approx(head.conditions[0].low, rel=0.03)
    check_columns(next(generate(parameters, "test"))[0], schema, "test")


def test_divergence_is_largest_along_user_value(test_rows):
    columns, probability = test_rows
    head, tail = (cohort.contains(columns) for cohort in planted_cohorts(SMALL))
    planted = probability[head].mean() / probability[tail].mean()
    for axis in ("age_group", "advertiser_size", "surface"):
        rates = [probability[columns[axis] == value].mean() for value in set(columns[axis])]
        assert 1.1 < max(rates) / min(rates) < planted


def test_cohorts_have_pairs_of_their_own():
    assert not set(PAIRS[HEAD]) & set(PAIRS[MAJORITY])
    assert not set(PAIRS[TAIL]) & set(PAIRS[MAJORITY])
    assert not set(PAIRS[TAIL]) & set(PAIRS[HEAD])


def test_cohorts_without_pairs_of_their_own_are_the_majority_at_another_click_rate():
    """A row's logit is the same in each cohort, but for the cohort's intercept."""
    same = dataclasses.replace(SMALL, own_pairs=False)
    world = make_world(same)
    fields, user_value = world.draw_fields(random_stream(same, "test", 0))
    logits = world.logits(same, fields, user_value)
    everyone = dataclasses.replace(world, tail_below=-math.inf, head_from=math.inf)
    cohorts, biases = world.cohort(user_value), np.array(world.biases)
    expected = everyone.logits(same, fields, user_value) + biases[cohorts] - biases[MAJORITY]
    np.testing.assert_allclose(logits, expected, rtol=1e-9)
    assert not np.allclose(make_world(SMALL).logits(SMALL, fields, user_value), logits, atol=0.1)


@pytest.mark.parametrize("share", [0.01, 0.2])
def test_cohorts_have_the_share_asked_for(share):
    sized = dataclasses.replace(SMALL, cohort_share=share, test_rows=200_000)
    columns, _ = _rows(sized, "test")
    for cohort in planted_cohorts(sized):
        assert cohort.contains(columns).mean() == pytest.approx(share, rel=0.05)


@pytest.mark.parametrize("cohort", [MAJORITY, HEAD, TAIL])
def test_interactions_have_the_strength_asked_for_in_their_cohort_only(cohort):
    none = {"main_strength": 0.0, "decoy_spread": 0.0, "value_slope": 0.0}
    strengths = {"majority_strength": 0.5, "cohort_strength": 0.0} if cohort == MAJORITY else {"majority_strength": 0.0}
    parameters = SyntheticAds(test_rows=300_000, **none, **{"cohort_strength": 0.5, **strengths})
    columns, probability = _rows(parameters, "test")
    cohorts = make_world(parameters).cohort(columns["user_value"])
    logits = np.log(probability / (1 - probability))
    assert logits[cohorts == cohort].std() == pytest.approx(0.5, rel=0.1)
    if cohort != MAJORITY:
        assert logits[cohorts == MAJORITY].std() == pytest.approx(0.0, abs=1e-6)


def test_latent_vectors_have_a_mean_of_length_1():
    world = make_world(SMALL)
    fields, _ = world.draw_fields(np.random.default_rng(0))
    for name in LATENT_FIELDS:
        vectors = world.latents[name][fields[name]]
        np.testing.assert_allclose(vectors.mean(axis=0), 1 / np.sqrt(2), atol=0.03)
        np.testing.assert_allclose(np.cov(vectors.T), np.eye(2), atol=0.05)


def test_the_source_hides_the_truth():
    source = open_source(SMALL)
    batch = next(iter(source.splits["validation"]()))
    assert set(batch) == {feature.name for feature in source.features} | {"click"}
    assert source.num_rows == {"train": SMALL.num_rows, "validation": 100, "test": 400_000}


def test_prepare_gives_the_model_the_cohorts_as_buckets(tmp_path):
    small = SyntheticAds(num_rows=100_000, validation_rows=50, test_rows=50)
    schema = prepare(open_source(small), tmp_path, progress=False)
    user_value = next(feature for feature in schema.features if feature.name == "user_value")
    head, tail = planted_cohorts(small)
    assert user_value.boundaries[0] == pytest.approx(tail.conditions[0].high, rel=0.03)
    assert user_value.boundaries[-1] == pytest.approx(head.conditions[0].low, rel=0.03)


def test_negatives_are_sampled_as_the_log_is_drawn(tmp_path):
    """A longer log begins with the rows of a shorter one, also sampled."""
    rows = []
    for blocks in (1, 3):
        log = SyntheticAds(num_rows=blocks * BLOCK_ROWS, validation_rows=50, test_rows=50, click_rate=0.02)
        schema = prepare(open_source(log), tmp_path, negative_sampling=0.1, progress=False)
        rows.append(concatenate(list(read_columns(split_files(tmp_path, "train"), schema.columns))))
    clicks = _rows(log, "train")[0]["click"]
    assert rows[1]["click"].sum() == clicks.sum()
    assert len(rows[1]["click"]) == pytest.approx(clicks.sum() + 0.1 * (1 - clicks).sum(), rel=0.03)
    assert rows[1][schema.weight].sum() == pytest.approx(len(clicks), rel=0.03)
    for name, column in rows[0].items():
        np.testing.assert_array_equal(rows[1][name][: len(column)], column)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"num_rows": 0}, "`num_rows` must be at least 1. Received: num_rows=0"),
        ({"num_ads": 10, "num_advertisers": 20}, "`num_ads` must be at least 20"),
        ({"click_rate": 0.5}, "`click_rate` must be in"),
        ({"head_lift": 400.0}, "a click rate in"),
        ({"num_extra_ids": -1}, "`num_extra_ids` must be at least 0. Received: num_extra_ids=-1"),
    ],
)
def test_bad_parameters(parameters, message):
    with pytest.raises(ValueError, match=message):
        SyntheticAds(**parameters)


def test_bad_split_and_shard():
    with pytest.raises(ValueError, match=r"must be one of \['train', 'validation', 'test'\]. Received: split='dev'"):
        next(generate(SMALL, "dev"))
    with pytest.raises(ValueError, match=r"must be in \[0, 2\). Received: shard=2"):
        next(generate(SMALL, "train", shard=2, num_shards=2))
