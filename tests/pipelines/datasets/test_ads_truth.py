import dataclasses
import json
import math

import numpy as np
import pytest
from c2al_pipelines.datasets.ads_truth import Truth, measure_truth, merge_truths
from c2al_pipelines.datasets.ads_world import BLOCK_ROWS
from c2al_pipelines.datasets.synthetic_ads import SyntheticAds, generate, planted_cohorts

from c2al_tf.evaluation.scoring import slice_metrics

PARAMETERS = SyntheticAds(test_rows=3 * BLOCK_ROWS + 100, click_rate=0.02)


def test_by_hand():
    # H(1/2) = log 2, H(1/4) = 2 log 2 - 3/4 log 3; the mean of p is 3/8, that of y 1/2.
    truth = Truth.of(np.array([0.5, 0.25]), np.array([1.0, 0.0]))
    entropy = 3 * math.log(2) - 0.75 * math.log(3)
    assert (truth.rows, truth.clicks, truth.click_rate) == (2, 1, 0.375)
    assert truth.entropy == pytest.approx(entropy)
    assert truth.bayes_ne == pytest.approx(entropy / 2 / -(0.375 * math.log(0.375) + 0.625 * math.log(0.625)))
    assert truth.ne == pytest.approx((math.log(2) - math.log(0.75)) / 2 / math.log(2))


def test_without_rows_or_clicks_there_is_no_ne():
    assert (Truth().click_rate, Truth().bayes_ne, Truth().ne) == (None, None, None)
    assert Truth.of(np.array([0.5]), np.array([0.0])).ne is None


@pytest.fixture(scope="module")
def whole():
    return measure_truth(PARAMETERS, "test")


def test_ne_is_that_of_a_model_that_knows_the_truth(whole):
    batches = list(generate(PARAMETERS, "test"))
    value, click = (np.concatenate([columns[name] for columns, _ in batches]) for name in ("user_value", "click"))
    probability = np.concatenate([probability for _, probability in batches])
    head, tail = (cohort.contains({"user_value": value}) for cohort in planted_cohorts(PARAMETERS))
    masks = {"all": np.ones(len(value), bool), "majority": ~head & ~tail, "head": head, "tail": tail}
    logits = np.log(probability) - np.log1p(-probability)
    for name, mask in masks.items():
        figures = slice_metrics(logits[mask], click[mask])
        assert (whole[name].rows, whole[name].clicks) == (figures["rows"], figures["positives"])
        assert whole[name].ne == pytest.approx(figures["ne"], rel=1e-9)
        # What the clicks happen to give lies around what is expected.
        assert whole[name].ne == pytest.approx(whole[name].bayes_ne, rel=0.1)
    # A model that does not know the cohorts' pairs, only their click rates, cannot have the Bayes-optimal NE.
    constant = slice_metrics(np.full(head.sum(), np.log(0.044)), click[head])["ne"]
    assert whole["head"].bayes_ne < 0.95 * constant


def test_shards_merge_to_the_whole(whole):
    parts = [measure_truth(PARAMETERS, "test", shard=i, num_shards=3) for i in range(3)]
    merged = merge_truths(parts)
    for name, truth in merged.items():
        assert dataclasses.astuple(truth) == pytest.approx(dataclasses.astuple(whole[name]), rel=1e-12)
    assert merged["all"].rows == PARAMETERS.test_rows


def test_json_keeps_every_bit(whole):
    for truth in whole.values():
        assert Truth.from_json(json.loads(json.dumps(truth.to_json()))) == truth
