"""The features of a `keras.utils.FeatureSpace`, with what they learnt."""

from typing import Any

import keras
import numpy as np

from ...feature import CategoricalFeature, Feature, NumericFeature
from .unknown import Unknown

_IDENTITY = type(keras.utils.FeatureSpace.float().preprocessor)
_LOOKUPS = (keras.layers.StringLookup, keras.layers.IntegerLookup)


def from_feature_space(name: str, declared: Any, unknown: Unknown) -> Feature:
    """The feature that gives a model what a FeatureSpace's gives: the same vocabulary, boundaries or scale.

    Raises:
        ValueError: If it is not adapted, or preprocessed by a layer of another kind.
    """
    layer = declared.preprocessor
    if isinstance(layer, (*_LOOKUPS, keras.layers.Hashing)):
        return _categorical(name, declared, unknown)
    if isinstance(layer, keras.layers.Discretization):
        boundaries = _adapted(name, layer.bin_boundaries)
        return NumericFeature(name, boundaries=tuple(float(x) for x in boundaries), missing="slot")
    if isinstance(layer, keras.layers.Normalization):
        learnt = _adapted(name, None if layer.mean is None else (layer.mean, layer.variance))
        mean, variance = (float(np.ravel(each)[0]) for each in learnt)
        return NumericFeature(name, "standard", mean, max(variance**0.5, keras.config.epsilon()), missing="slot")
    if isinstance(layer, keras.layers.Rescaling) and layer.scale > 0:
        return NumericFeature(name, "standard", -layer.offset / layer.scale, 1 / layer.scale, missing="slot")
    if isinstance(layer, _IDENTITY):
        return NumericFeature(name, "standard", missing="slot")
    raise ValueError(
        f"Feature `{name}` must be looked up, hashed, discretized, normalized, rescaled by a scale above 0, or a float "
        f"as it is; give it among `features` or `ignore` it. Received: {layer}"
    )


def _categorical(name: str, declared: Any, unknown: Unknown) -> Feature:
    layer, of_strings = declared.preprocessor, declared.dtype == "string"
    if isinstance(layer, keras.layers.Hashing):
        buckets = layer.num_bins
        return CategoricalFeature(name, "string" if of_strings else "int64", num_hash_buckets=buckets, missing="slot")
    values = _adapted(name, layer.get_vocabulary(include_special_tokens=False))
    values = values if of_strings else [int(value) for value in values]
    return unknown.feature(name, "string" if of_strings else "int64", missing="slot", vocabulary=values)


def _adapted(name: str, learnt: Any) -> Any:
    if learnt is None or not len(learnt):
        raise ValueError(
            f"Feature `{name}` must have learnt its values: call the FeatureSpace's `adapt`. Received: none"
        )
    return learnt
