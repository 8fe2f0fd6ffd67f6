import numpy as np
import pytest

from c2al_tf.layers import FieldMixing


def test_every_output_is_a_linear_combination_of_the_fields() -> None:
    X = np.random.default_rng(0).normal(size=(2, 5, 3)).astype(np.float32)
    layer = FieldMixing(4)
    Z = np.asarray(layer(X))
    W = np.asarray(layer.kernel)
    np.testing.assert_allclose(Z[1, 2], sum(W[field, 2] * X[1, field] for field in range(5)), rtol=1e-4)


def test_layer(check_layer) -> None:
    check_layer(lambda **kwargs: FieldMixing(4, **kwargs), np.ones((2, 5, 3), np.float32))


def test_bad_number() -> None:
    with pytest.raises(ValueError, match=r"`num_outputs` must be at least 1. Received: num_outputs=0"):
        FieldMixing(0)
