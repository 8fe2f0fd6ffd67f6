import keras
import numpy as np
import pytest

from c2al_tf.layers import Experts, MixtureHead

RNG = np.random.default_rng(0)


def test_a_mixture_by_hand() -> None:
    """Two experts of one unit on h = (1, 3): relu(2 - 3) = 0 and relu(1 + 3) = 4; gate softmax(0, log 3) = 1/4, 3/4."""
    experts = Experts(2, 1)
    experts.build((None, 2))
    experts.experts.kernel.assign([[2.0, 1.0], [-1.0, 1.0]])
    experts.experts.bias.assign([0.0, 0.0])
    both = experts(np.array([[1.0, 3.0]], np.float32))
    np.testing.assert_allclose(both, [[1, 3, 0, 4]])
    head = MixtureHead(2, 1)
    head.build(both.shape)
    head.gate.kernel.assign([[0.0, np.log(3.0)], [0.0, 0.0]])
    head.logit.kernel.assign([[2.0]])
    head.logit.bias.assign([0.5])
    np.testing.assert_allclose(head(both), [[2 * (4 * 3 / 4) + 0.5]], rtol=1e-6)


def test_a_mixture_equals_the_sum_over_experts() -> None:
    keras.utils.set_random_seed(0)
    h = RNG.normal(size=(5, 3)).astype(np.float32)
    experts, head = Experts(4, 6), MixtureHead(4, 6, (8,))
    logits = head(experts(h))
    kernel, bias = (np.asarray(v) for v in (experts.experts.kernel, experts.experts.bias))
    scores = np.exp(h @ np.asarray(head.gate.kernel))
    gate = scores / scores.sum(axis=1, keepdims=True)
    mixed = sum(
        gate[:, [i]] * np.maximum(h @ kernel[:, 6 * i : 6 * i + 6] + bias[6 * i : 6 * i + 6], 0) for i in range(4)
    )
    hidden = np.asarray(head.hidden[0](mixed))
    np.testing.assert_allclose(logits, head.logit(hidden), rtol=1e-5, atol=1e-6)


def test_layers(check_layer) -> None:
    check_layer(lambda **kwargs: Experts(3, 2, **kwargs), RNG.normal(size=(2, 4)).astype(np.float32))
    inputs = RNG.normal(size=(2, 4 + 6)).astype(np.float32)
    check_layer(lambda **kwargs: MixtureHead(3, 2, (4,), prior=0.1, auxiliary=True, **kwargs), inputs)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="num_experts=0"):
        Experts(0, 2)
    with pytest.raises(ValueError, match=r"more than 6 units. Received: shape \(None, 6\)"):
        MixtureHead(3, 2).build((None, 6))
