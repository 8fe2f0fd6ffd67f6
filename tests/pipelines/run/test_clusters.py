"""Clusters in h are described by what makes them, in words that any row can be checked against."""

import numpy as np
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
    assert [cohort.name for cohort in cohorts] == [f"latent_{k}" for k in range(len(cohorts))]
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


def test_edges_hold_on_numbers_between_those_seen() -> None:
    """A tree's (low, high] and an interval's [low, high) hold the same rows, on floats at the threshold too."""
    rng = np.random.default_rng(1)
    value = rng.integers(0, 8, ROWS).astype(np.float32) / 8
    h = np.stack([value > 0.4, value <= 0.4], axis=1) + 0.01 * rng.normal(size=(ROWS, 2))
    cohorts = describe_clusters(h, {"value": value}, 2)
    members = [set(value[cohort.contains({"value": value})].tolist()) for cohort in cohorts]
    assert set.union(*members) == set(value.tolist())
    assert all(max(m) < 0.4 or min(m) > 0.4 for m in members)


def test_a_probe_tells_what_is_linear_in_h() -> None:
    rng = np.random.default_rng(0)
    h, test = rng.normal(size=(2, ROWS, 4))
    assert probe(h, test, h[:, 0] > 1, test[:, 0] > 1) > 0.99
    assert abs(probe(h, test, rng.random(ROWS) < 0.2, rng.random(ROWS) < 0.2) - 0.5) < 0.05
    assert probe(h, test, np.zeros(ROWS, bool), test[:, 0] > 1) is None
