"""The rows that contenders train on."""

import dataclasses
import json

import numpy as np
import pytest
from c2al_pipelines.benchmarks.workers.problem import Problem, draw_batches, draw_ids, task_labels


def test_every_process_draws_the_same_rows_within_the_table() -> None:
    problem = Problem(2600, batch_size=50, num_batches=2)
    sent = json.loads(json.dumps(dataclasses.asdict(problem)))
    first, again = draw_batches(problem), draw_batches(Problem.from_json(sent))
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.ids, other.ids)
        np.testing.assert_array_equal(one.dense, other.dense)
        np.testing.assert_array_equal(one.label, other.label)
        np.testing.assert_array_equal(one.ids // 100, np.tile(np.arange(26), (50, 1)))
    assert not np.array_equal(first[0].ids, first[1].ids)


def test_a_cohort_has_the_positives_with_even_ids_in_its_field() -> None:
    problem = Problem(2600, batch_size=200, num_batches=1)
    (batch,) = draw_batches(problem)
    primary, *cohorts = task_labels(problem, batch)
    np.testing.assert_array_equal(primary, batch.label)
    assert len(cohorts) == len(problem.lambdas)
    for field, label in enumerate(cohorts):
        assert label.dtype == np.float32
        np.testing.assert_array_equal(label == 1, (batch.label == 1) & (batch.ids[:, field] % 2 == 0))


def test_frequencies_follow_the_power_law() -> None:
    """Within a few percent of rank^-zipf where a rank is not dominated by rounding down: ids of rank 10 to 100."""
    zipf, num_ids = 1.05, 1000
    ids = draw_ids(np.random.default_rng(0).random(2_000_000), num_ids, zipf)
    counts = np.sort(np.bincount(ids, minlength=num_ids))[::-1]
    slope = np.polyfit(np.log(np.arange(10, 100)), np.log(counts[10:100]), 1)[0]
    assert slope == pytest.approx(-zipf, abs=0.1)
    assert ids.min() >= 0
    assert ids.max() < num_ids
    assert (counts > 0).all()


def test_exponent_zero_is_uniform() -> None:
    counts = np.bincount(draw_ids(np.random.default_rng(0).random(100_000), 10, 0.0))
    assert counts.min() > 9_500
    assert counts.max() < 10_500
