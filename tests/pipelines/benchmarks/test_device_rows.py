"""Rows drawn by JAX follow the planted world's equation, and its cohort sizes and click rates within chance."""

import numpy as np
import pytest
from c2al_pipelines.datasets.ads_world import BLOCK_ROWS, COHORT_NAMES, SyntheticAds, make_world, random_stream
from scipy.special import expit

jax = pytest.importorskip("jax", reason="`make test-jax` installs JAX")
from c2al_pipelines.benchmarks import device_rows  # noqa: E402

PARAMETERS = SyntheticAds(click_rate=0.02)
NUM_ROWS = 4 * BLOCK_ROWS


@pytest.fixture(scope="module")
def rows() -> device_rows.Rows:
    draw = jax.jit(lambda key: device_rows.draw_rows(PARAMETERS, key, NUM_ROWS))
    return jax.tree.map(np.asarray, draw(jax.random.key(7)))


def test_logits_and_cohorts_are_those_of_the_world(rows: device_rows.Rows) -> None:
    world = make_world(PARAMETERS)
    np.testing.assert_array_equal(rows.cohort, world.cohort(rows.user_value))
    np.testing.assert_allclose(rows.logit, world.logits(PARAMETERS, rows.fields, rows.user_value), atol=1e-4)
    for name, (parent, values) in world.derived.items():
        np.testing.assert_array_equal(rows.fields[name], values[rows.fields[parent]])


def test_cohort_sizes_and_click_rates_agree_within_chance(rows: device_rows.Rows) -> None:
    world = make_world(PARAMETERS)
    blocks = [world.draw_fields(random_stream(PARAMETERS, "test", i)) for i in range(NUM_ROWS // BLOCK_ROWS)]
    cohorts = np.concatenate([world.cohort(value) for _, value in blocks])
    logits = np.concatenate([world.logits(PARAMETERS, *block) for block in blocks])
    for number, name in enumerate(COHORT_NAMES):
        ours, theirs = rows.cohort == number, cohorts == number
        assert _within_chance(ours, theirs), name
        assert _within_chance(expit(rows.logit[ours]), expit(logits[theirs])), name


def test_every_field_is_distributed_as_in_the_world(rows: device_rows.Rows) -> None:
    for name, distribution in make_world(PARAMETERS).distributions.items():
        shares = np.bincount(rows.fields[name], minlength=len(distribution)) / NUM_ROWS
        assert np.abs(np.cumsum(shares) - distribution).max() < 2 / np.sqrt(NUM_ROWS), name  # Kolmogorov: 1 in 1,500


def test_inputs_are_ids_and_a_scaled_value(rows: device_rows.Rows) -> None:
    schema = device_rows.make_schema(PARAMETERS)
    inputs = jax.tree.map(np.asarray, device_rows.encode(schema, rows))
    assert {*inputs} == {*schema.inputs}
    for feature in schema.features:
        assert 0 < inputs[feature.name].min() <= inputs[feature.name].max() < feature.num_ids
    np.testing.assert_array_equal(inputs["country"], 2 + rows.fields["country"])
    edges = np.float32(schema.features[-1].boundaries)
    np.testing.assert_array_equal(inputs["user_value"], 1 + np.digitize(rows.user_value, edges))
    assert abs(inputs["user_value_value"].mean()) < 0.02
    assert abs(inputs["user_value_value"].std() - 1) < 0.02


def _within_chance(ours: np.ndarray, theirs: np.ndarray) -> bool:
    """Whether two means differ by less than five standard errors."""
    error = np.sqrt(ours.var() / len(ours) + theirs.var() / len(theirs))
    return abs(ours.mean() - theirs.mean()) < 5 * error
