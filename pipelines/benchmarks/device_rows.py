"""Rows of the planted world of `ads_world`, drawn on a device by JAX; TensorFlow need not be there.

The world's tables are drawn by NumPy, as for the log in files; its rows are others than the log's, of the same
distribution. Ids are drawn in float32: of a field with more than a million values the rare ones would never be drawn.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from c2al_tf.schema import CategoricalFeature, NumericFeature, Schema
from c2al_tf.types import Tensor

from ..datasets.ads_world import (
    HEAD,
    MAJORITY,
    NAMES,
    ROW_WEIGHT,
    TAIL,
    USER_WEIGHT,
    SyntheticAds,
    World,
    make_world,
    random_stream,
)

_NUM_BUCKETS = 20
"""Buckets of `user_value`: the outer ones are about the planted cohorts, as in the log."""


class Rows(NamedTuple):
    """Rows of the log, (rows,) each: value indices by field, `user_value`, cohort, and the true logit of a click."""

    fields: dict[str, Tensor]
    user_value: Tensor
    cohort: Tensor
    logit: Tensor


def draw_rows(parameters: SyntheticAds, key: Tensor, count: int) -> Rows:
    """Draws rows of the planted world: the equation of `ads_world`, in float32."""
    world = make_world(parameters)
    *keys, last = jax.random.split(key, len(world.distributions) + 1)
    fields = {}
    for (name, distribution), own in zip(world.distributions.items(), keys, strict=True):
        index = jnp.searchsorted(_float32(distribution), jax.random.uniform(own, (count,)))
        fields[name] = jnp.minimum(index, len(distribution) - 1)
    for name, (parent, values) in world.derived.items():
        fields[name] = jnp.asarray(values, jnp.int32)[fields[parent]]
    of_user = _float32(world.user_log_value)[fields["user_id"]]
    log_value = USER_WEIGHT * of_user + ROW_WEIGHT * jax.random.normal(last, (count,))
    user_value = jnp.exp(log_value)
    in_cohorts = [user_value >= world.head_from, user_value < world.tail_below]
    cohort = jnp.select(in_cohorts, [HEAD, TAIL], MAJORITY)
    logit = parameters.value_slope * log_value + _of_fields(parameters, world, fields, cohort)
    return Rows(fields, user_value, cohort, logit)


def _of_fields(parameters: SyntheticAds, world: World, fields: dict[str, Tensor], cohort: Tensor) -> Tensor:
    """What a row's fields add to its logit: main effects, its cohort's bias, its cohort's pairs."""
    latents = {name: _float32(vectors)[fields[name]] for name, vectors in world.latents.items()}
    planted = []
    of_cohorts = zip(world.biases, parameters.cohort_strengths, parameters.cohort_pairs, strict=True)
    for bias, strength, pairs in of_cohorts:
        # Not `einsum`: some devices round the factors of a product of matrices to fewer bits.
        interaction = sum((latents[f] * latents[g]).sum(axis=-1) for f, g in pairs)
        planted.append(bias + strength / (2 * math.sqrt(len(pairs))) * interaction)
    effects = sum(_float32(effect)[fields[name]] for name, effect in world.effects.items())
    return effects + jnp.select([cohort == number for number in range(len(planted))], planted)


def make_schema(parameters: SyntheticAds) -> Schema:
    """The fields of the planted world; the buckets of `user_value` hold equally many rows."""
    sizes = parameters.id_values | {name: len(values) for name, values in NAMES.items()}
    features = [CategoricalFeature(name, "int64", vocabulary=tuple(range(size))) for name, size in sizes.items()]
    _, value = make_world(parameters).draw_fields(random_stream(parameters, "train", 0))
    boundaries = tuple(np.quantile(value, np.arange(1, _NUM_BUCKETS) / _NUM_BUCKETS).tolist())
    scaled = np.log1p(value)
    numeric = NumericFeature("user_value", "log", float(scaled.mean()), float(scaled.std()), boundaries)
    return Schema((*features, numeric))


def encode(schema: Schema, rows: Rows) -> dict[str, Tensor]:
    """The model's inputs, as `CategoricalFeature` and `NumericFeature` define them."""
    inputs = {name: 2 + index for name, index in rows.fields.items()}
    (numeric,) = (feature for feature in schema.features if isinstance(feature, NumericFeature))
    value = rows.user_value
    inputs[numeric.name] = 1 + jnp.searchsorted(_float32(numeric.boundaries), value, side="right")
    return inputs | {f"{numeric.name}_value": (jnp.log1p(value) - numeric.mean) / numeric.std}


def _float32(values: Any) -> Tensor:
    return jnp.asarray(values, jnp.float32)
