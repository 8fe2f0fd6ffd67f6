"""Curves: what a point changes, and how points are written."""

from pathlib import Path

import pytest
from c2al_pipelines.datasets.synthetic_ads import planted_cohorts
from c2al_pipelines.experiments.curve_figure import draw_curves
from c2al_pipelines.experiments.curves import CURVES, as_markdown, main, point_config
from c2al_pipelines.run.config import load_config

BASE = Path(__file__).parents[3] / "pipelines" / "configs" / "planted_curves.yaml"


@pytest.mark.parametrize("name", CURVES)
def test_a_point_changes_one_thing(name) -> None:
    config, curve = load_config(BASE), CURVES[name]
    base = point_config(config, "num_rows", config.data.synthetic_ads.num_rows)
    points = [point_config(config, curve.name, value) for value in curve.values]
    assert base in points, "all curves share a point"
    for value, point in list(zip(curve.values, points, strict=True))[:: len(points) - 1]:  # each draws a world
        ads, model = point.data.synthetic_ads, point.model
        changed = {k for k, v in vars(ads).items() if v != vars(base.data.synthetic_ads)[k]}
        changed |= {k for k, v in vars(model).items() if v != vars(base.model)[k]}
        assert len(changed) <= 1
        assert [cohort.cohort() for cohort in point.cohorts.given] == [
            type(c)(c.name, tuple(type(x)(x.column, x.low, x.high) for x in c.conditions)) for c in planted_cohorts(ads)
        ]
        if name == "strength" and not value:
            assert changed == {"own_pairs"}


def entry(value, percent, name="all", arm="c2al"):
    figures = {"percent": percent, "low": percent - 0.1, "high": percent + 0.1, "seeds": 4}
    return {"curve": "rows", "value": value, "arm": arm, "slice": name, **figures} | {
        "ne_baseline": 0.9,
        "ne_arm": 0.89,
        "ne_truth": 0.85,
    }


def test_points_are_rows_of_a_table_and_dots_of_a_figure() -> None:
    entries = [entry(v, -0.2 * v, name) for v in (1.0, 2.0) for name in ("all", "head", "tail", "rest")]
    text = as_markdown(entries)
    assert "| rows | 2 | c2al | -0.40 [-0.50, -0.30] |" in text
    assert "| 0.9000 0.8900 0.8500 |" in text
    svg = draw_curves(entries, {"rows": "rows seen, in millions"})
    assert svg.startswith("<svg")
    assert "rows seen, in millions" in svg
    assert "tail cohort" in svg


def test_what_cannot_be_is_refused(tmp_path) -> None:
    with pytest.raises(ValueError, match=r"Received: \['row'\]"):
        main(BASE, ("row",), tmp_path)
    with pytest.raises(ValueError, match=r"with arms. Received: .*demo.yaml"):
        main(BASE.with_name("demo.yaml"), ("rows",), tmp_path)
