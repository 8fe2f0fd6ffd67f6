"""The ratio, the turns, and what is written of a result."""

import math

import pytest
from c2al_pipelines.benchmarks.results import Result, alternate, compare


@pytest.mark.parametrize(("unit", "ratio"), [("rows/s", 2.0), ("GB/s", 2.0), ("ms", 0.5), ("MB", 0.5)])
def test_ratio_says_how_many_times_better_ours_is(unit: str, ratio: float) -> None:
    assert Result("b", "c", ours=20.0, peer=10.0, peer_name="p", unit=unit).ratio == ratio


@pytest.mark.parametrize(("goal", "reached"), [(1.9, True), (2.0, True), (2.1, False), (None, None)])
def test_a_goal_is_reached_at_that_ratio(goal: float | None, reached: bool | None) -> None:
    assert Result("b", "c", 20.0, 10.0, "p", "rows/s", goal=goal).reached is reached


@pytest.mark.parametrize(("ours", "peer"), [(None, 10.0), (10.0, None), (10.0, 0.0)])
def test_a_missing_side_leaves_no_ratio(ours: float | None, peer: float | None) -> None:
    result = Result("b", "c", ours, peer, "p", "rows/s", goal=1.0)
    assert result.ratio is None
    assert result.reached is None


def test_of_takes_the_medians_and_the_ranges() -> None:
    result = Result.of("b", "c", [3.0, 1.0, 2.0], [40.0, 10.0, 30.0, 20.0], peer_name="p", unit="ms")
    assert (result.ours, result.ours_range) == (2.0, (1.0, 3.0))
    assert (result.peer, result.peer_range) == (25.0, (10.0, 40.0))


def test_of_no_rounds_is_a_missing_side() -> None:
    result = Result.of("b", "c", [1.0], [], peer_name="p", unit="ms", note="gone")
    assert (result.peer, result.peer_range, result.ratio) == (None, None, None)


def test_json_has_the_seven_keys_first_and_comes_back() -> None:
    result = Result.of("b", "c", [1.0, 3.0], [4.0], peer_name="p", unit="ms", goal=2.0, note="n")
    entry = result.as_json()
    assert list(entry)[:7] == ["benchmark", "case", "ours", "peer", "peer_name", "unit", "ratio"]
    assert entry["ratio"] == 2.0
    assert Result.from_json(entry | {"ours_range": [1.0, 3.0], "peer_range": [4.0, 4.0]}) == result


def test_sides_take_turns_and_the_order_is_reversed_each_round() -> None:
    calls: list[str] = []

    def measured(name: str) -> float:
        calls.append(name)
        return float(len(calls))

    figures = alternate({name: lambda name=name: measured(name) for name in "abc"}, rounds=3)
    assert "".join(calls) == "abccbaabc"
    assert figures == {"a": [1.0, 6.0, 7.0], "b": [2.0, 5.0, 8.0], "c": [3.0, 4.0, 9.0]}


def test_alternate_needs_a_round() -> None:
    with pytest.raises(ValueError, match="`rounds` must be at least 1. Received: rounds=0"):
        alternate({"a": lambda: math.nan}, rounds=0)


def test_compare_measures_both_in_the_same_rounds() -> None:
    time = iter(range(100))
    result = compare("b", "c", lambda: next(time), lambda: next(time), rounds=3, peer_name="p", unit="ms")
    assert result.ours_range == (0, 4)  # 0, 3, 4
    assert result.peer_range == (1, 5)  # 1, 2, 5
