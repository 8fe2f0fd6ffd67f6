"""Clusters in h are described by what makes them, in words that any row can be checked against."""

import numpy as np
import pytest
from c2al_pipelines.run.clusters import describe_clusters
from c2al_pipelines.run.representation import probe

from c2al_tf.types import MISSING_INT

ROWS = 4000


def make_rows() -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """h in three groups: the old, the young of two cities, the other young; nothing else tells them."""
    rng = np.random.default_rng(0)
    columns = {
        "age": rng.integers(10, 80, ROWS),
        "city": rng.choice(np.array(["rome", "bonn", "oslo", "lyon"], object), ROWS),
        "value": rng.normal(size=ROWS).astype(np.float32),
        "id": np.array([f"u{i}" for i in range(ROWS)], object),
    }
    group = np.where(columns["age"] >= 50, 0, np.where(np.isin(columns["city"], ["rome", "oslo"]), 1, 2))
    return 5 * np.eye(3)[group] + 0.1 * rng.normal(size=(ROWS, 3)), columns


def test_descriptions_are_the_groups() -> None:
    h, columns = make_rows()
    cohorts = describe_clusters(h, columns, 3)
    young, here = columns["age"] < 50, np.isin(columns["city"], ["rome", "oslo"])
    groups, members = (~young, young & here, young & ~here), [cohort.contains(columns) for cohort in cohorts]
    assert all(any((member <= group).all() for group in groups) for member in members)
    assert (np.sum(members, axis=0) == 1).all(), "every row is in one of them"
    assert [cohort.name for cohort in cohorts] == [f"latent_3_{k}" for k in range(len(cohorts))]
    assert {name for cohort in cohorts for name in cohort.columns} == {"age", "city"}


def test_rows_with_missing_values_are_in_no_cohort_that_reads_them() -> None:
    h, columns = make_rows()
    columns["age"] = np.where(np.arange(ROWS) % 10 == 0, MISSING_INT, columns["age"])
    columns["city"][1::10] = ""
    cohorts = describe_clusters(h, columns, 3)
    members = np.sum([cohort.contains(columns) for cohort in cohorts], axis=0)
    assert members.max() == 1
    assert (members[columns["age"] == MISSING_INT] == 0).all()
    complete = (columns["age"] != MISSING_INT) & (columns["city"] != "")
    assert (members[complete] == 1).all()


def test_a_leaf_of_missing_values_alone_is_no_cohort() -> None:
    """h tells who lacks an age: the others are the only cohort."""
    rng = np.random.default_rng(2)
    for missing, dtype in ((MISSING_INT, np.int64), (np.nan, np.float32)):
        age = np.where(rng.random(ROWS) < 0.3, missing, rng.integers(10, 80, ROWS)).astype(dtype)
        absent = age == missing if dtype is np.int64 else np.isnan(age)
        h = np.stack([absent, ~absent], axis=1) + 0.01 * rng.normal(size=(ROWS, 2))
        (cohort,) = describe_clusters(h, {"age": age}, 2)
        np.testing.assert_array_equal(cohort.contains({"age": age}), ~absent)
        assert str(cohort) == "age present"


def test_codes_without_an_order_are_split_into_values() -> None:
    rng = np.random.default_rng(3)
    code = rng.integers(0, 6, ROWS)
    h = np.stack([np.isin(code, [0, 3, 5]), np.isin(code, [1, 2, 4])], axis=1) + 0.01 * rng.normal(size=(ROWS, 2))
    cohorts = describe_clusters(h, {"code": code}, 2, ["code"])
    assert {frozenset(cohort.conditions[0].values) for cohort in cohorts} == {
        frozenset({0, 3, 5}),
        frozenset({1, 2, 4}),
    }
    with pytest.raises(ValueError, match="categories of at most 64 values. Received: id"):
        describe_clusters(h, {"id": np.arange(ROWS)}, 2, ["id"])


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ((16_777_216, 16_777_218), np.float32),  # the mean of the two is no float32
        ((1_700_000_050, 1_700_000_051), np.int64),  # nor are these
        ((-np.inf, 0.5), np.float32),
        ((0.5, np.inf), np.float32),
    ],
)
def test_an_edge_lies_between_the_values(values, dtype) -> None:
    """A tree's (low, high] and an interval's [low, high) hold the same rows."""
    rng = np.random.default_rng(1)
    second = rng.random(ROWS) < 0.5
    value = np.where(second, values[1], values[0]).astype(dtype)
    h = np.stack([second, ~second], axis=1) + 0.01 * rng.normal(size=(ROWS, 2))
    cohorts = describe_clusters(h, {"value": value}, 2)
    masks = {cohort.contains({"value": value}).tobytes() for cohort in cohorts}
    assert masks == {second.tobytes(), (~second).tobytes()}
    assert "3.4028" not in " ".join(map(str, cohorts)), "an open end is written as one"


def test_a_probe_tells_what_is_linear_in_h() -> None:
    rng = np.random.default_rng(0)
    h, test = rng.normal(size=(2, ROWS, 4))
    assert probe(h, test, h[:, 0] > 1, test[:, 0] > 1) > 0.99
    assert abs(probe(h, test, rng.random(ROWS) < 0.2, rng.random(ROWS) < 0.2) - 0.5) < 0.05
    assert probe(h, test, np.zeros(ROWS, bool), test[:, 0] > 1) is None
