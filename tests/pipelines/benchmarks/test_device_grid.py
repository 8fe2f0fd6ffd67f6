"""Batches with their labels and weights, and the smallest grid: lambda 0 is the baseline, another lambda is not."""

import dataclasses
from typing import Any

import keras
import numpy as np
import pytest

from c2al_tf.config import ModelConfig
from c2al_tf.data.inputs.labels import task_labels

if keras.backend.backend() != "jax":
    pytest.skip("needs Keras on JAX: `make test-jax`", allow_module_level=True)

import jax
from c2al_pipelines.benchmarks import device_grid
from c2al_pipelines.benchmarks.device_grid import COHORTS, Grid, cosine, draw_batch, run
from c2al_pipelines.benchmarks.device_rows import draw_rows, make_schema
from c2al_pipelines.benchmarks.device_table import SLICES, table
from c2al_pipelines.datasets.ads_world import SyntheticAds

TINY = ModelConfig(embedding_dim=4, backbone="mlp", shared_units=(8,), head_units=())
"""The backbone that compiles fastest."""
SMALL = Grid((8000, 4000), 2000, 2, (0.0, 0.3), (0.3,), 256, world=SyntheticAds(click_rate=0.02), model=TINY)


def _batch(grid: Grid) -> device_grid.Batch:
    schema = make_schema(grid.world)
    return jax.tree.map(np.asarray, jax.jit(lambda key: draw_batch(grid, schema, key))(jax.random.key(1)))


def test_a_share_of_the_negatives_stands_for_all() -> None:
    grid = dataclasses.replace(SMALL, batch=40_000)
    batch = _batch(grid)
    click = batch.labels["primary"][:, 0]
    assert {*np.unique(batch.weight[click == 1])} == {1.0}
    assert {*np.unique(batch.weight[click == 0])} == {10.0}
    weighted = (batch.weight * click).sum() / batch.weight.sum()
    assert abs(weighted - grid.world.click_rate) < 5 * grid.world.click_rate / np.sqrt(click.sum())


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
    rows = jax.jit(lambda key: draw_rows(grid.world, key, grid.batch))(own)
    for name, number in COHORTS.items():
        expected = task_labels(batch.labels["primary"][:, 0], np.asarray(rows.cohort == number))
        assert expected.sum() > 0
        np.testing.assert_array_equal(batch.labels[name][:, 0], expected)


def test_lambda_0_is_the_baseline_and_another_is_not() -> None:
    result, shorter = run(SMALL)
    assert [SMALL.steps(rows) for rows in SMALL.rows] == [4, 2]
    assert shorter["grid"]["rows"] == 4000
    assert shorter["ne"]["baseline"] != result["ne"]["baseline"]
    zero, other, decayed = result["ne_diff"]
    for part in SLICES:
        assert max(map(abs, zero[part]["by_seed"])) < 1e-3  # percent: rounding
        assert min(map(abs, other[part]["by_seed"])) > 2e-3
        assert decayed[part]["by_seed"] != other[part]["by_seed"]
        assert result["ne"]["bayes"][part] < result["ne"]["baseline"][part]
    assert result["rows"]["overall"] == 2 * 2048
    assert sum(result["rows"][part] for part in SLICES[1:]) == result["rows"]["overall"]
    assert "lambda 0.3, " in table(result)
    assert "lambda 0.3 to 0, " in table(result)


def test_the_rate_is_that_of_cosine_decay() -> None:
    schedule = keras.optimizers.schedules.CosineDecay(0.005, 7)
    for number in (0, 3, 7):
        np.testing.assert_allclose(cosine(0.005, np.int32(number), np.int32(7)), schedule(number), atol=1e-9)


@pytest.mark.parametrize(("field", "value"), [("rows", (5, 0)), ("seeds", 0), ("negative_share", 0.0)])
def test_sizes_are_checked(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"`{field}` must be .* Received: {field}=0"):
        dataclasses.replace(SMALL, **{field: value})
