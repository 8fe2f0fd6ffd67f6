"""A pair that is in use, on newer rows."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from scipy.special import expit, logit

from c2al_tf.cohorts import GIVEN, Cohort, Discovery, Values, cut_axes, find_drift, pair_in_use, rank_cohorts
from c2al_tf.cohorts.counts import count_cohorts

CITIES = ("Bern", "Oslo", "Rome")


def discover(rates: dict[str, float], given: tuple[Cohort, ...] = (), rows: int = 20_000, **options: Any) -> Discovery:
    """Cohorts of cities whose clicks have these rates."""
    rng = np.random.default_rng(rows + len(given))
    city = rng.choice(np.array(CITIES, object), rows)
    rate = np.vectorize(rates.get)(city)
    predictions, labels = expit(logit(rate) + rng.normal(0, 1, rows)), rng.random(rows) < rate
    cuts = cut_axes(["city"], {"city": city}, given=given)
    return rank_cohorts(count_cohorts(predictions, {"city": city}, cuts, labels=labels), **options)


BEFORE = {"Bern": 0.1, "Oslo": 0.3, "Rome": 0.15}


@pytest.fixture(scope="module")
def before() -> Discovery:
    return discover(BEFORE)


def test_rows_of_the_same_kind_have_not_drifted(before) -> None:
    assert {cohort.name for cohort in pair_in_use(before).cohorts} == {"city_Bern", "city_Oslo"}
    now = discover(BEFORE, pair_in_use(before).cohorts, rows=15_000)
    assert find_drift(before, now) == []
    assert pair_in_use(now).cohorts == pair_in_use(before).cohorts
    assert find_drift(now, discover(BEFORE, pair_in_use(now).cohorts, rows=16_000)) == []


def test_another_divergence_is_named_with_both_intervals(before) -> None:
    (drift,) = find_drift(before, discover({**BEFORE, "Bern": 0.2, "Rome": 0.2}, pair_in_use(before).cohorts))
    assert drift.startswith("city_Oslo | city_Bern: js was 0.")


def test_a_pair_that_diverges_more_is_named(before) -> None:
    drift = find_drift(before, discover({**BEFORE, "Rome": 0.02}, pair_in_use(before).cohorts))
    assert len(drift) == 1
    assert "city_Rome: js is" in drift[0]
    assert "more than that of city_Oslo | city_Bern" in drift[0]


def test_head_and_tail_that_change_places_are_named(before) -> None:
    (drift,) = find_drift(before, discover({"Bern": 0.3, "Oslo": 0.1, "Rome": 0.15}, pair_in_use(before).cohorts))
    assert "changed places: city_Bern is the head now" in drift


def test_a_pair_that_the_guard_refuses_is_named(before) -> None:
    same = dict.fromkeys(CITIES, 0.2)
    refused, *others = find_drift(before, discover(same, pair_in_use(before).cohorts))
    assert "the guard refuses this pair now: " in refused
    assert "js was" in others[0]


def test_rates_that_are_nearly_equal_change_places_by_chance(before) -> None:
    """Accepted for their calibration, with equal rates."""
    old = pair_in_use(before)
    head, tail = (dataclasses.replace(each, rows=10_000, positives=2000) for each in (old.head, old.tail))
    then = dataclasses.replace(before, pairs=(dataclasses.replace(old, head=head, tail=tail),))
    swapped = dataclasses.replace(old, axis=GIVEN, head=tail, tail=head)
    given = dataclasses.replace(before.axes[0], name=GIVEN)
    assert find_drift(then, dataclasses.replace(before, axes=(given,), pairs=(swapped,))) == []


def test_a_wide_interval_does_not_hide_another_pair(before) -> None:
    now = discover(BEFORE, pair_in_use(before).cohorts)
    best = next(pair for pair in now.pairs if pair.axis == "city")
    more = [
        dataclasses.replace(best, divergences={**best.divergences, "js": js}, interval=interval)
        for js, interval in ((0.6, (0.0, 0.69)), (0.5, (0.45, 0.55)))
    ]
    (drift,) = find_drift(before, dataclasses.replace(now, pairs=(*more, *now.pairs)))
    assert "js is 0.5000 [0.4500, 0.5500], more than that of" in drift


def test_what_does_not_belong_together_is_refused(before) -> None:
    with pytest.raises(ValueError, match="must be given to the discovery"):
        find_drift(before, discover(BEFORE))
    with pytest.raises(ValueError, match="one measure. Received: js and kl"):
        find_drift(before, discover(BEFORE, pair_in_use(before).cohorts, divergence="kl"))
    alone = discover(BEFORE, (Cohort("one", (Values("city", ("Rome",)),)),))
    with pytest.raises(ValueError, match="needs two given cohorts"):
        pair_in_use(alone)
