"""Batches with their labels and weights, and the smallest grid: lambda 0 is the baseline, another lambda is not."""

import dataclasses

import keras
import numpy as np
import pytest

from c2al_tf.config import ModelConfig
from c2al_tf.data.inputs.labels import task_labels

if keras.backend.backend() != "jax":
    pytest.skip("needs Keras on JAX: `make test-jax`", allow_module_level=True)

import jax
from c2al_pipelines.benchmarks import device_grid
from c2al_pipelines.benchmarks.device_grid import COHORTS, Grid, draw_batch, interval, run, table
from c2al_pipelines.benchmarks.device_rows import draw_rows, make_schema

SMALL = Grid(rows=8000, test_rows=2000, seeds=2, lambdas=(0.0, 0.3), batch=256, click_rate=0.02)


def _batch(grid: Grid) -> device_grid.Batch:
    schema = make_schema(grid.parameters)
    return jax.tree.map(np.asarray, jax.jit(lambda key: draw_batch(grid, schema, key))(jax.random.key(1)))


def test_a_share_of_the_negatives_stands_for_all() -> None:
    grid = dataclasses.replace(SMALL, batch=40_000)
    batch = _batch(grid)
    click = batch.labels["primary"][:, 0]
    assert {*np.unique(batch.weight[click == 1])} == {1.0}
    assert {*np.unique(batch.weight[click == 0])} == {10.0}
    weighted = (batch.weight * click).sum() / batch.weight.sum()
    assert abs(weighted - grid.click_rate) < 5 * grid.click_rate / np.sqrt(click.sum())


def test_rows_that_are_lacking_have_no_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_grid, "_SPARE", 0.5)
    weight = _batch(SMALL).weight
    assert 0.3 < (weight > 0).mean() < 0.7
    assert np.all(np.diff((weight > 0).astype(int)) <= 0)


def test_labels_of_cohorts_follow_the_rule() -> None:
    grid = dataclasses.replace(SMALL, batch=20_000, negative_share=1.0)
    batch = _batch(grid)
    assert np.all(batch.weight == 1)
    own = jax.random.split(jax.random.key(1), 3)[0]
    rows = jax.jit(lambda key: draw_rows(grid.parameters, key, grid.batch))(own)
    for name, number in COHORTS.items():
        expected = task_labels(batch.labels["primary"][:, 0], np.asarray(rows.cohort == number))
        assert expected.sum() > 0
        np.testing.assert_array_equal(batch.labels[name][:, 0], expected)


def test_lambda_0_is_the_baseline_and_another_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    # The backbone that compiles fastest.
    tiny = ModelConfig(embedding_dim=4, backbone="mlp", shared_units=(8,), head_units=())
    monkeypatch.setattr(device_grid, "MODEL", tiny)
    result = run(SMALL)
    assert SMALL.steps == 4
    zero, other = result["ne_diff"]
    for part in device_grid.SLICES:
        assert max(map(abs, zero[part]["by_seed"])) < 1e-3  # percent: rounding
        assert min(map(abs, other[part]["by_seed"])) > 2e-3
        assert result["ne"]["bayes"][part] < result["ne"]["baseline"][part]
    assert result["rows"]["overall"] == 2 * 2048
    assert sum(result["rows"][part] for part in device_grid.SLICES[1:]) == result["rows"]["overall"]
    assert "lambda 0.3" in table(result)


def test_the_interval_is_students() -> None:
    found = interval([1.0, 2.0, 3.0])
    assert [round(found[name], 3) for name in ("percent", "low", "high")] == [2.0, -0.484, 4.484]
    assert interval([1.0])["low"] is None


@pytest.mark.parametrize(("field", "value"), [("seeds", 0), ("negative_share", 0.0)])
def test_sizes_are_checked(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"`{field}` must be .* Received: {field}={value}"):
        dataclasses.replace(SMALL, **{field: value})
