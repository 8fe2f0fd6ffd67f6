import keras
import numpy as np
import pytest

from c2al_tf.layers import TaskHead


def test_starts_at_the_log_odds_of_the_prior() -> None:
    head = TaskHead((4,), prior=0.003)
    logits = np.asarray(head(np.zeros((2, 3), np.float32)))
    np.testing.assert_allclose(1 / (1 + np.exp(-logits)), 0.003, rtol=1e-5)


def test_linear_head_by_hand() -> None:
    head = TaskHead()
    head.build((None, 2))
    head.logit.kernel.assign([[2.0], [-1.0]])
    head.logit.bias.assign([0.5])
    np.testing.assert_allclose(head(np.array([[1.0, 3.0]], np.float32)), [[2 - 3 + 0.5]])


def test_layer(check_layer) -> None:
    check_layer(lambda **kwargs: TaskHead((4,), 0.1, auxiliary=True, **kwargs), np.ones((2, 3), np.float32))


def test_logits_are_float32_under_mixed_precision() -> None:
    logits = TaskHead((4,), dtype="mixed_bfloat16")(np.ones((2, 3), np.float32))
    assert keras.backend.standardize_dtype(logits.dtype) == "float32"


@pytest.mark.parametrize("prior", [0.0, 1.0, -0.1])
def test_a_task_without_positives_or_negatives(prior: float) -> None:
    with pytest.raises(ValueError, match=f"`prior` must lie between 0 and 1.*Received: prior={prior} for task head"):
        TaskHead(prior=prior)


def test_bad_units() -> None:
    with pytest.raises(ValueError, match=r"`hidden_units` must be at least 1 each. Received: hidden_units=\(0,\)"):
        TaskHead((0,))
