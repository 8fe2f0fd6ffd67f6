"""Each choice of cohorts, among pairs made by hand; random rows have the sizes and positives that they imitate."""

import numpy as np
import pytest
from c2al_pipelines.run.arms import Choice
from c2al_pipelines.run.choice import RandomRows, choose, random_rows

from c2al_tf.cohorts import Cohort, CohortSummary, Discovery, Guard, Pair, Values, read_once
from c2al_tf.cohorts.results import AxisSummary


def summary(name: str) -> CohortSummary:
    return CohortSummary(Cohort(name, (Values("city", (name,)),)), 100, 10, 0.1, (100.0,), 1000, 100)


def pair(head: str, tail: str, js: float, kl: float, **reasons: str) -> Pair:
    return Pair("city", summary(head), summary(tail), {"js": js, "kl": kl}, None, None, None, reasons)


PAIRS = (
    pair("a", "b", 0.5, 0.1, chance="it may be chance"),
    pair("a", "c", 0.4, 0.2),
    pair("b", "c", 0.3, 0.9),
    pair("a", "d", 0.01, 0.01, positives="too few"),
    pair("b", "d", -0.02, 0.02, effect="too small"),
    pair("c", "d", 0.1, 0.1, labels="no difference"),
)
DISCOVERY = Discovery("js", 400, 1, Guard(), (AxisSummary("city", tuple(map(summary, "abcd"))),), PAIRS, None)
TARGETED = PAIRS[1].cohorts


@pytest.mark.parametrize(
    ("choice", "names"),
    [
        (Choice(), "ac"),
        (Choice(only="head"), "a"),
        (Choice(only="tail"), "c"),
        (Choice(number=3, guard=False), "abc"),
        (Choice(by="rank"), "ac"),
        (Choice(by="rank", rank=1), "bc"),
        (Choice(by="rank", guard=False), "ab"),
        (Choice(by="rank", divergence="kl"), "bc"),
        (Choice(by="rank", divergence="kl", only="tail"), "c"),
        (Choice(by="least"), "bd"),
    ],
)
def test_choices(choice, names) -> None:
    assert [cohort.name for cohort in choose(choice, DISCOVERY, TARGETED, "js")] == list(names)


def test_pairs_that_are_too_small_make_no_cohorts_without_the_guard_either() -> None:
    with pytest.raises(ValueError, match="No axis has 4 cohorts; the most is 3"):
        choose(Choice(number=4, guard=False), DISCOVERY, TARGETED, "js")


def test_a_rank_beyond_the_pairs() -> None:
    message = "`rank` must be below the number of pairs, 2 that pass the guard. Received: rank=2"
    with pytest.raises(ValueError, match=message):
        choose(Choice(by="rank", rank=2), DISCOVERY, TARGETED, "js")


ROWS = 50_000


@pytest.fixture(scope="module")
def columns() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "age": rng.normal(40, 10, ROWS).astype(np.float32),
        "city": rng.choice(np.array(["rome", "bonn", ""], object), ROWS),
        "codes": rng.integers(0, 9, (ROWS, 2)),
        "label": (rng.random(ROWS) < 0.1).astype(np.float32),
    }


def test_random_rows_imitate_size_and_positives(columns) -> None:
    positives = int(columns["label"].sum())
    sizes = {TARGETED[0]: (5000, 1200), TARGETED[1]: (2000, 40)}
    drawn = random_rows(Choice(by="random"), sizes, ROWS, positives, list(columns))
    masks = [cohort.contains(columns) for cohort in drawn]
    assert not (masks[0] & masks[1]).any()
    for mask, (rows, own) in zip(masks, sizes.values(), strict=True):
        found = columns["label"][mask].sum()
        assert abs(found - own) < 4 * own**0.5
        assert abs(mask.sum() - rows) < 4 * rows**0.5
        age = columns["age"][mask]
        assert abs(age.mean() - 40) < 4 * 10 / len(age) ** 0.5, "members are told by nothing that a model sees"
    other = random_rows(Choice(by="random", draw=1), sizes, ROWS, positives, list(columns))
    assert 0 < (other[0].contains(columns) & masks[0]).sum() < 0.3 * masks[0].sum()
    assert [c.name for c in random_rows(Choice(by="random", only="tail"), sizes, ROWS, positives, list(columns))] == [
        "random_1"
    ]


def test_a_row_is_drawn_by_its_content(columns) -> None:
    cohort = RandomRows("r", tuple(columns), 0.5, 0.5, 0, from_above=False)
    mask = cohort.contains(columns)
    beside = Cohort("rome", (Values("city", ("rome",)),))
    np.testing.assert_array_equal(cohort.contains(read_once(columns, [cohort, beside])), mask)
    order = np.random.default_rng(1).permutation(ROWS)
    shuffled = {name: values[order] for name, values in columns.items()}
    np.testing.assert_array_equal(cohort.contains(shuffled), mask[order])
    for name in ("age", "city", "codes"):
        changed = columns | {name: np.roll(columns[name], 1, axis=0)}
        assert (cohort.contains(changed) != mask).any(), name
