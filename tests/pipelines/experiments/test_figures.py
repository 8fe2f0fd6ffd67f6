"""Which arms a figure shows."""

import numpy as np
import pytest
from c2al_pipelines.experiments.figures import draw_figures
from c2al_pipelines.experiments.result import Result
from c2al_pipelines.run.arms import Arm, Choice

from c2al_tf.evaluation import evaluate_by_cohort

TITLES = {"all": "overall", "rest": "everyone else"}


@pytest.fixture(scope="module")
def result():
    """Maps an arm, its lambdas and its divergence to a result on made-up rows."""
    rng = np.random.default_rng(0)
    labels, logits = (rng.random(400) < 0.3).astype(np.float32), rng.normal(size=(2, 400))
    slices = {"rest": np.arange(400) % 2 == 0}

    def make(name, divergence=None, lambdas=(0.3, 0.3), pair=None, **arm) -> Result:
        arms = {"baseline": logits, name: logits + 0.1 * rng.normal(size=logits.shape)}
        evaluation = evaluate_by_cohort(arms, labels, slices, progress=False)
        chosen = Arm(name, cohorts=Choice(**arm), lambdas=lambdas)
        return Result(chosen, (0, 1), (pair or name,), evaluation, lambdas, divergence)

    return make


def test_pairs_are_compared_at_one_lambda_and_lambdas_on_one_pair(result) -> None:
    lambdas = [result(f"weak_{k}", 0.5, (0.1 * k, 0.1 * k)) for k in (1, 2)]
    mixed = result("mixed", 0.5, (0.3, 0.1))
    pairs = [result("targeted", 0.5), result("second", 0.4, by="rank", rank=1), result("third", 0.2, by="rank", rank=2)]
    again = result("again", 0.5, pair="targeted", by="rank")
    drawings = draw_figures([*lambdas, mixed, *pairs, again], TITLES, (0.3,))
    figures = {name: drawing.svg for name, drawing in drawings.items()}
    assert set(figures) == {"arms.svg", "lambdas.svg", "divergence.svg"}
    assert all(f">{name}<" in figures["arms.svg"] for name in ("weak_1", "mixed", "targeted", "third", "again"))
    shown = [r.arm.name for r in (*lambdas, mixed, *pairs, again) if f">{r.arm.name}<" in figures["divergence.svg"]]
    assert shown == ["targeted", "second", "third"]
    assert all(f">{weight:g}<" in figures["lambdas.svg"] for weight in (0.1, 0.2, 0.3))


def test_two_points_are_no_curve(result) -> None:
    assert set(draw_figures([result("a", 0.5), result("b", 0.4, (0.1, 0.1))], TITLES, (0.3,))) == {"arms.svg"}
    assert draw_figures([], TITLES, (0.3,)) == {}
