import json

import pytest

from c2al_tf.cohorts import Cohort, CohortSummary, Discovery, Guard, Pair, Values
from c2al_tf.cohorts.results import AxisSummary


def summary(axis, value):
    return CohortSummary(Cohort(f"{axis}_{value}", (Values(axis, (value,)),)), 50, 5, 0.1, (20, 30), 500, 50)


AXES = {axis: {value: summary(axis, value) for value in "abcd"} for axis in "xy"}


def pair(axis, head, tail, divergence, **reasons):
    divergences = {"js": divergence, "kl": 0.0}
    return Pair(axis, AXES[axis][head], AXES[axis][tail], divergences, (0.0, 0.5), 0.01, 0.01, reasons)


def discovery(*pairs):
    axes = tuple(AxisSummary(axis, tuple(cohorts.values())) for axis, cohorts in AXES.items())
    ranked = tuple(sorted(pairs, key=lambda pair: -pair.divergences["js"]))
    return Discovery("js", 400, 3, Guard(), axes, ranked, 0.75)


FOUND = discovery(
    pair(
        "x",
        "a",
        "b",
        0.9,
        positives="tail cohort `x is b` has 0 positives in 50 training rows; 100 are needed",
    ),
    pair("x", "c", "a", 0.8),
    pair("y", "a", "b", 0.7),
    pair("y", "b", "c", 0.6),
    pair("y", "a", "d", 0.5),
    pair("y", "d", "b", 0.4),
    pair("y", "a", "c", 0.1),
    pair("y", "c", "d", 0.1, chance="chance explains it"),
)


def names(cohorts):
    return [cohort.name for cohort in cohorts]


def test_best_is_the_most_divergent_accepted_pair():
    assert not FOUND.pairs[0].accepted
    assert FOUND.best == FOUND.pairs[1]
    assert names(FOUND.best.cohorts) == names(FOUND.cohorts()) == ["x_c", "x_a"]


def test_more_cohorts_are_spread_on_one_axis():
    # From (a, b): d adds 0.5 + 0.4, c adds 0.1 + 0.6. Axis x has no third cohort.
    assert names(FOUND.cohorts(3)) == ["y_a", "y_b", "y_d"]


def test_no_more_cohorts_than_differ_beyond_chance():
    # c against d is refused.
    with pytest.raises(ValueError, match=r"No axis has 4 cohorts of which every two pass the guard; the most is 3"):
        FOUND.cohorts(4)
    with pytest.raises(ValueError, match="Received: num_cohorts=1"):
        FOUND.cohorts(1)


def test_nothing_accepted_says_why():
    refused = discovery(FOUND.pairs[0])
    text = (
        r"No pair passes the guard: 1 pairs on 2 axes[^\n]*\n- axis `x`, `x is a` against `x is b`: tail .* 0 positives"
    )
    with pytest.raises(ValueError, match=text):
        _ = refused.best
    with pytest.raises(ValueError, match=text):
        refused.cohorts(3)
    with pytest.raises(ValueError, match="The most divergent: none"):
        _ = discovery().best


def test_positive_rate():
    assert AXES["x"]["a"].positive_rate == 0.1
    assert CohortSummary(AXES["x"]["a"].cohort, 50, None, 0.1, (50,), 50, None).positive_rate is None


def test_json_round_trip():
    assert Discovery.from_json(json.loads(json.dumps(FOUND.to_json(), allow_nan=False))) == FOUND


@pytest.mark.parametrize(
    ("path", "match"),
    [
        ((), "The JSON of a discovery .* Unknown: .'colour'."),
        (("guard",), "The JSON of a guard"),
        (("axes", 0), "The JSON of an axis"),
        (("axes", 0, "cohorts", 0), "The JSON of a cohort's summary"),
        (("axes", 0, "cohorts", 0, "cohort"), "The JSON of a cohort "),
        (("pairs", 0), "The JSON of a pair"),
    ],
)
def test_unknown_keys_in_json(path, match):
    wrong = FOUND.to_json()
    place = wrong
    for key in path:
        place = place[key]
    place["colour"] = "red"
    with pytest.raises(ValueError, match=match):
        Discovery.from_json(wrong)


def test_a_pair_of_unknown_cohorts():
    wrong = FOUND.to_json()
    wrong["pairs"][0]["head"] = "z"
    with pytest.raises(ValueError, match=r"Received: \['z'\]; there are \['x_a', "):
        Discovery.from_json(wrong)
