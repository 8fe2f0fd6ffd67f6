"""What the figures are held against: FLOPs counted from the layers of the model that is trained."""

import keras
import pytest
from c2al_pipelines.benchmarks.ranking_models import step_flops
from c2al_pipelines.benchmarks.vocabulary import arithmetic_seconds
from c2al_pipelines.benchmarks.workers.keras_steps import MODELS
from c2al_pipelines.benchmarks.workers.problem import Problem

PROBLEM = Problem(26_000, batch_size=8)


def _products(model: keras.Model) -> list[int]:
    """Multiplications of a row in each kernel that is multiplied with."""
    return [
        variable.shape[0] * variable.shape[1] for variable in model.trainable_variables if "kernel" in variable.path
    ]


@pytest.mark.parametrize("name", ["DCN-V2", "our DCN-V2"])
def test_flops_of_the_ranking_model_are_those_of_its_kernels(name: str) -> None:
    kernels = _products(MODELS[name](PROBLEM))
    assert 13 * 256 in kernels  # the features themselves get no gradient
    assert step_flops(PROBLEM) == 2 * 8 * (3 * sum(kernels) - 13 * 256)


def test_flops_of_the_mlp_are_those_of_its_kernels() -> None:
    assert arithmetic_seconds(PROBLEM, peak=1.0) == 2 * 8 * 3 * sum(_products(MODELS["MLP"](PROBLEM)))


def test_models_compared_have_the_same_weights() -> None:
    pytest.importorskip("keras_rs", reason="`make bench` installs keras-rs")
    counts = {name: MODELS[name](PROBLEM).count_params() for name in MODELS if name != "MLP"}
    assert len(set(counts.values())) == 1, counts
