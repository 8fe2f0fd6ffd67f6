"""The answer, its reason, and what would decide."""

import numpy as np
import pytest

from c2al_tf.blocks import Variation, resample_counts
from c2al_tf.evaluation import ALL, Evaluation, recommend
from c2al_tf.evaluation.claims import claim
from c2al_tf.evaluation.intervals import NEDifference, ne_differences


def difference(percent, *, seeds=1e-8, each=1e-8, num_seeds=5):
    """A figure whose mean has the variance seeds / K, unless its rows have more."""
    variation = Variation(num_seeds, 1000, seeds, each, each / num_seeds)
    margin = 100 * variation.margin
    return NEDifference(percent, percent - margin, percent + margin, (percent,) * num_seeds, variation)


def evaluation(**differences):
    return Evaluation(
        {}, {"c2al": differences}, "baseline", "", {"c2al": claim(differences, differences.keys() & {ALL, "tail"})}, ""
    )


SURE = difference(-0.3)
"""Margin 0.012 %."""
WIDE = difference(-0.3, seeds=1e-5)
"""Margin 0.39 %."""


@pytest.mark.parametrize(
    ("overall", "tail", "other", "answer", "gains"),
    [
        (SURE, difference(0.0), difference(0.0), "use", (ALL,)),
        (SURE, difference(-2.0), difference(0.0), "use", (ALL, "tail")),
        (SURE, difference(0.0), difference(1.0), "use", (ALL,)),
        (difference(-0.1, seeds=1e-5), difference(-2.0), difference(0.0), "use", ("tail",)),
        (difference(-0.1, seeds=1e-5), difference(-2.0), difference(1.0), "undecided", ("tail",)),
        (difference(-0.1, seeds=1e-5), difference(0.0), difference(1.0), "do not use", ()),
        (difference(0.3), difference(-2.0), difference(0.0), "do not use", ("tail",)),
        (difference(0.3), difference(0.0), difference(0.0), "do not use", ()),
        (difference(0.0), difference(0.0), difference(0.0), "do not use", ()),
        (WIDE, difference(0.0), difference(0.0), "undecided", ()),
    ],
)
def test_gains_losses_and_bounds_decide(overall, tail, other, answer, gains):
    found = recommend(evaluation(**{ALL: overall, "tail": tail, "other": other}), "c2al", ["tail"])
    assert (found.answer, found.gains) == (answer, gains)
    assert (found.needed is not None) == (answer == "undecided")


def test_without_effect_few_evaluations_say_use():
    """All rows and two cohorts are looked at; by each one's own interval 7 % would say so."""
    rng = np.random.default_rng(0)
    trials, seeds, blocks = 150, 4, 200
    counts = resample_counts(blocks, 300)
    answers = []
    for _ in range(trials):
        reference = rng.gamma(2.0, size=(seeds, 3, blocks))
        change = 3e-3 * rng.normal(size=(seeds, 3, 1)) + 3e-2 * rng.normal(size=(1, 3, blocks))
        found = dict(
            zip((ALL, "head", "tail"), ne_differences(reference * (1 + change), reference, counts), strict=True)
        )
        claims = claim(found, [*found])
        whole = Evaluation({}, {"c2al": found}, "baseline", "", {"c2al": claims}, "")
        answers.append(recommend(whole, "c2al", ["head", "tail"]).answer)
    assert answers.count("use") <= 0.025 * trials + 2 * (0.025 * trials) ** 0.5


def test_what_would_decide_decides():
    """The components are known: with as many seeds, or rows, as it says, the interval is narrow enough."""
    for seeds, each in ((1e-5, 1e-8), (5e-6, 4e-6), (1.1e-5, 1e-5)):
        overall = difference(-0.1, seeds=seeds, each=each)
        needed = recommend(evaluation(**{ALL: overall}), "c2al").needed
        assert needed is not None
        if needed.seeds is not None:
            enough = difference(-0.1, seeds=seeds, each=each, num_seeds=needed.seeds)
            assert enough.high < 0 or enough.low > -0.05
            fewer = difference(-0.1, seeds=seeds, each=each, num_seeds=needed.seeds - 1)
            assert fewer.low <= -0.05
            assert fewer.high >= 0


def test_where_rows_decide_seeds_alone_do_not():
    shared = Variation(5, 1000, 1e-9, 2e-6, 2e-6)  # all seeds err alike: the rows' own noise
    margin = 100 * shared.margin
    rows = NEDifference(-0.1, -0.1 - margin, -0.1 + margin, (-0.1,) * 5, shared)
    needed = recommend(evaluation(**{ALL: rows}), "c2al").needed
    assert needed.seeds is None
    assert 100 * shared.projected(5, needed.rows).margin < 0.1
    seeds = recommend(evaluation(**{ALL: difference(-0.1, seeds=1e-5, each=1e-12)}), "c2al").needed
    assert seeds.rows is None
    both = Variation(5, 1000, 2e-6, 6e-7, 6e-7)
    margin = 100 * both.margin
    needed = recommend(
        evaluation(**{ALL: NEDifference(-0.05, -0.05 - margin, -0.05 + margin, (-0.05,) * 5, both)}), "c2al"
    ).needed
    assert (needed.seeds, needed.rows) == (None, None)
    assert 100 * both.projected(*needed.both).margin < 0.05


def test_one_seed_and_few_positives_decide_nothing():
    one = recommend(evaluation(**{ALL: difference(-0.3, num_seeds=1)}), "c2al")
    assert (one.answer, one.needed) == ("undecided", None)
    assert "one seed" in one.reason()
    none = recommend(evaluation(**{ALL: NEDifference(None, None, None, (None,) * 3)}), "c2al")
    assert none.answer == "undecided"
    assert "too few" in none.reason()


def test_the_reason_names_who_gains_and_who_loses():
    found = recommend(evaluation(**{ALL: SURE, "tail": difference(-2.0), "old": difference(1.0)}), "c2al", ["tail"])
    reason = found.reason({"tail": "new users", "old": "old users"})
    assert "all rows and new users" in reason
    assert "worse: old users" in reason


def test_the_form_of_files():
    found = recommend(evaluation(**{ALL: difference(-0.1, seeds=1e-5), "tail": difference(0.0)}), "c2al", ["tail"])
    assert found.to_json({ALL: "everyone"}) == {
        "answer": "undecided",
        "reason": found.reason({ALL: "everyone"}),
        "gains": [],
        "losses": [],
        "worth": 0.05,
        "needed": str(found.needed),
    }
    assert recommend(evaluation(**{ALL: SURE}), "c2al").to_json()["needed"] is None


def test_what_cannot_be_is_refused():
    some = evaluation(**{ALL: SURE})
    with pytest.raises(ValueError, match="worth=0"):
        recommend(some, "c2al", worth=0.0)
    with pytest.raises(ValueError, match="'c3al'"):
        recommend(some, "c3al")
    with pytest.raises(ValueError, match="tail"):
        recommend(some, "c2al", ["tail"])
