"""Sums by seed and slice become NE, differences with intervals, a table and a figure."""

from typing import Any

import numpy as np
import pytest
from c2al_pipelines.benchmarks.device_figure import draw
from c2al_pipelines.benchmarks.device_table import SLICES, interval, summarize, table

_GRID = {"rows": 2_000_000, "seeds": 2, "batch": 256}


def _result(lambdas: tuple[float, ...] = (0.5,), decayed: tuple[float, ...] = (1.0,)) -> dict[str, Any]:
    sums = {name: np.full((2, 4), value) for name, value in (("rows", 100.0), ("clicks", 50.0), ("entropy", 34.0))}
    baseline = sums | {"loss": np.full((2, 1, 4), 60.0)}
    arms = sums | {"loss": np.array([[[59.4] * 4, [60.0] * 4], [[58.8] * 4, [60.6] * 4]])}
    made = {"device": "a card", "jax": "0", "trained_rows_per_second": 1.0, "seconds": {"train": 1.0}}
    return made | {"grid": _GRID} | summarize(baseline, arms, lambdas, decayed)


def test_differences_are_in_percent_of_the_baselines_loss() -> None:
    fixed, falling = _result()["ne_diff"]
    assert (fixed["lambda"], fixed["decayed"], falling["lambda"], falling["decayed"]) == (0.5, False, 1.0, True)
    for part in SLICES:
        np.testing.assert_allclose(fixed[part]["by_seed"], [-1, -2])
        np.testing.assert_allclose(falling[part]["by_seed"], [0, 1], atol=1e-9)


def test_ne_is_the_loss_over_the_entropy_of_the_click_rate() -> None:
    result = _result()
    for part in SLICES:
        assert result["click_rate"][part] == 0.5
        assert result["ne"]["bayes"][part] == pytest.approx(0.34 / np.log(2))
        assert result["ne"]["baseline"][part] == pytest.approx(0.6 / np.log(2))


def test_the_interval_is_students() -> None:
    found = interval([1.0, 2.0, 3.0])
    assert [round(found[name], 3) for name in ("percent", "low", "high")] == [2.0, -0.484, 4.484]
    assert interval([1.0])["low"] is None


def test_the_table_and_the_figure_name_every_weight() -> None:
    lines, figure = table(_result()), draw([_result()])
    assert "lambda 0.5, NE_diff, %      -1.500 [-7.853, +4.853]" in lines
    for name in ("lambda 0.5", "lambda 1 to 0"):
        assert name in lines
        assert name in figure
