"""The search against a function with a known best; what it trains stays within its budget."""

import math

import numpy as np
import pytest
from c2al_pipelines.run.config import TuneConfig
from c2al_pipelines.tuning.search import pairs_to_try, search

from c2al_tf.cohorts import Axis, discover_cohorts


def bowl(noise=0.0, best_rank=3):
    """NE_diff is lowest, -0.5, for one pair at lambdas 0.3 and 1; seeds differ by noise that all arms share."""
    asked = []

    def measure(arm, at):
        asked.append((arm.cohorts.rank, arm.lambdas, at))
        if arm.lambdas is None:
            return -0.1
        head, tail = (math.log(weight / best) for weight, best in zip(arm.lambdas, (0.3, 1.0), strict=True))
        shared = noise * np.random.default_rng(at).normal()
        return -0.5 + 0.1 * (head**2 + tail**2) + 0.4 * (arm.cohorts.rank != best_rank) + shared

    return measure, asked


def test_the_best_pair_and_weights_are_found() -> None:
    measure, asked = bowl(noise=0.05)
    found = search(TuneConfig(budget=60, search_seeds=3), [0, 1, 3], measure, first=(0.1, 0.1))
    best = found[0]
    assert best.arm.cohorts.rank == 3
    assert best.finished
    assert len(best.by_seed) == 3
    assert abs(math.log(best.arm.lambdas[0] / 0.3)) < 1
    assert abs(math.log(best.arm.lambdas[1] / 1.0)) < 1
    assert len({*asked}) <= 60 + 2, "the last configuration is measured to its end"


def test_the_runs_own_weights_and_learnt_ones_come_first() -> None:
    measure, asked = bowl()
    search(TuneConfig(budget=4, search_seeds=1), [0, 1], measure, first=(0.1, 5.0))
    assert asked[0] == (0, (0.1, 2.0), 0), "within the range"
    assert asked[1] == (0, None, 0)


def test_configurations_that_fall_behind_are_stopped() -> None:
    measure, _ = bowl()
    found = search(TuneConfig(budget=40, search_seeds=4), [0, 1, 3], measure, first=(0.1, 0.1))
    stopped = [candidate for candidate in found if not candidate.finished]
    assert stopped
    assert all(len(candidate.by_seed) < 4 for candidate in stopped)
    assert not any(candidate.finished for candidate in found[found.index(stopped[0]) :]), "the finished come first"


def test_the_same_answers_give_the_same_proposals() -> None:
    """So that an interrupted search, which finds its models trained, goes on where it stopped."""
    asked = []
    for _ in range(2):
        measure, each = bowl(noise=0.1)
        search(TuneConfig(budget=20), [0, 1, 3], measure, first=(0.1, 0.1), seed=7)
        asked.append(each)
    assert asked[0] == asked[1]


def test_without_a_figure_nothing_is_chosen() -> None:
    found = search(TuneConfig(budget=3, search_seeds=2), [], lambda arm, at: math.nan, first=(0.1, 0.1))
    assert not any(candidate.finished for candidate in found)


def test_given_cohorts_leave_the_weights_to_choose() -> None:
    found = search(TuneConfig(budget=6, search_seeds=1), [], lambda arm, at: 0.0, first=(0.1, 0.1))
    assert {candidate.arm.cohorts.by for candidate in found} == {"targeted"}


def test_pairs_are_the_most_divergent_and_of_several_axes() -> None:
    rng = np.random.default_rng(0)
    rows = 60_000
    columns = {"a": rng.integers(0, 4, rows), "b": rng.integers(0, 4, rows)}
    probability = np.clip(0.05 + 0.1 * columns["a"] + 0.01 * columns["b"], 0.01, 0.9)
    labels = (rng.random(rows) < probability).astype(np.float32)
    axes = [Axis(("a",), categories=("a",)), Axis(("b",), categories=("b",))]
    discovery = discover_cohorts(np.stack([probability] * 2), columns, axes, labels=labels)
    accepted = sorted((p for p in discovery.pairs if p.accepted), key=lambda p: -p.divergences["js"])
    ranks = pairs_to_try(discovery, 3)
    assert ranks[:2] == [0, 1]
    assert [accepted[rank].axis for rank in ranks].count("a") == 2
    assert len(pairs_to_try(discovery, 2)) == 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"budget": 0}, "budget=0"),
        ({"least_lambda": 1.0, "most_lambda": 0.5}, "least_lambda=1.0"),
        ({"worth": 0.0}, "worth=0.0"),
    ],
)
def test_a_budget_that_cannot_be_is_refused(settings, message) -> None:
    with pytest.raises(ValueError, match=message):
        TuneConfig(**settings)
