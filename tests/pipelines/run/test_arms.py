import pytest
from c2al_pipelines.run import recipe
from c2al_pipelines.run.arms import Arm, Choice
from c2al_pipelines.run.config import DataConfig, RunConfig

from c2al_tf.config import ModelConfig, TrainingConfig


def test_an_arm_differs_from_the_run_in_what_it_names() -> None:
    arm = Arm("wide", model={"shared_units": [8, 4]}, training={"epochs": 2})
    assert arm.model_of(ModelConfig(num_blocks=3)) == ModelConfig(num_blocks=3, shared_units=(8, 4))
    assert arm.training_of(TrainingConfig(batch_size=7)) == TrainingConfig(batch_size=7, epochs=2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "a b"}, "An arm's `name` must consist of letters.* Received: name='a b'"),
        ({"labels": "mask"}, "`labels` must be one of 'conflict', 'membership', 'masked'. Received: labels='mask'"),
        ({"lambdas": (0.1,)}, r"Arm `a` has no cohorts, and so no lambda .* Received: lambdas=\(0.1,\)"),
        ({"cohorts": Choice(), "lambdas": (-1.0,)}, "`lambdas` must be finite and at least 0 each"),
        ({"cohorts": Choice(), "lambdas": ()}, "`lambdas` must be finite and at least 0 each"),
        ({"cohorts": Choice(), "objective": "group_dro", "lambdas": (0.1,)}, "`group_dro` finds its own weights"),
        ({"cohorts": Choice(), "objective": "uncertainty", "lambdas": (0.1,)}, "`uncertainty` finds its own weights"),
        ({"cohorts": Choice(), "objective": "reweighting", "labels": "masked"}, "`reweighting` has no auxiliary tasks"),
        ({"frozen_at": "reference"}, "`frozen_at` needs `frozen`"),
        ({"lambda_decay": True}, "`lambda_decay` needs lambdas"),
        ({"cohorts": Choice(), "objective": "uncertainty", "lambda_decay": True}, "`lambda_decay` needs lambdas"),
        ({"training": {"jit_compile": True}}, "`jit_compile` is the run's"),
        ({"seeds": 0}, "`seeds` must be at least 1. Received: seeds=0"),
        ({"model": {"blocks": 2}}, r"Unknown keys in arm `a`: `model`. Received: \['blocks'\]; there are .*num_blocks"),
        ({"model": {"num_blocks": 0}}, "`num_blocks` must be at least 1. Received: num_blocks=0"),
        ({"training": {"epochs": "two"}}, "`epochs` must be a whole number. Received: epochs='two'"),
    ],
)
def test_an_arm_that_cannot_be(arguments, message) -> None:
    with pytest.raises(ValueError, match=message):
        Arm(**({"name": "a"} | arguments))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rank": -1}, "`rank` must be at least 0"),
        ({"number": 1}, "`number` must be at least 2"),
        ({"by": "x"}, "`by`"),
        ({"guard": False}, "targeted cohorts `guard` with `number` alone"),
        ({"by": "least", "guard": False}, r"With `by: least` a choice reads \['axes', .*, 'only', 'rank'\]"),
        ({"by": "rank", "clusters": 1}, "`clusters` must be at least 2, or 0"),
        ({"by": "rank", "clusters": 3, "crosses": 2}, "A choice has one of `axes`, `crosses` and `clusters`"),
        ({"clusters": 3}, r"With `by: targeted` a choice reads \['guard', 'number', 'only'\]"),
    ],
)
def test_a_choice_that_cannot_be(arguments, message) -> None:
    with pytest.raises(ValueError, match=message):
        Choice(**arguments)


@pytest.mark.parametrize(
    ("arms", "message"),
    [
        ((Arm("a"),), r"Arms need one named `baseline`, without cohorts. Received: \['a'\]"),
        ((Arm("baseline", cohorts=Choice()),), "Arms need one named `baseline`, without cohorts"),
        (
            (Arm("baseline"), Arm("a", reference="a")),
            r"`reference` of arm `a` must be one of \['baseline'\], before it",
        ),
        ((Arm("baseline"), Arm("a", reference="b"), Arm("b")), r"`reference` of arm `a` .* Received: 'b'"),
        (
            (Arm("baseline"), Arm("a", start="b"), Arm("b")),
            r"`start` of arm `a` must be one of \['baseline'\], before it",
        ),
        ((Arm("baseline"), Arm("b", seeds=1), Arm("a", start="b")), "at most as many seeds as its start `b`, 1"),
        ((Arm("baseline"), Arm("a"), Arm("a")), r"Arms must have distinct names. Received: \['baseline', 'a', 'a'\]"),
        ((Arm("baseline", seeds=2), Arm("a")), "Arm `a` must have at most as many seeds as .*, 2. Received: 3"),
    ],
)
def test_arms_that_do_not_go_together(arms, message) -> None:
    with pytest.raises(ValueError, match=message):
        RunConfig("t", DataConfig("census"), arms=arms, seeds=3)


@pytest.mark.parametrize(
    ("arm", "cohorts", "of_run", "expected"),
    [
        (Arm("a", cohorts=Choice()), "ht", [0.1], [0.1, 0.1]),
        (Arm("a", cohorts=Choice()), "ht", [1.0, 0.1], [1.0, 0.1]),
        (Arm("a", cohorts=Choice(), lambdas=(0.5, 0.2)), "ht", [9.0], [0.5, 0.2]),
        (Arm("a", cohorts=Choice(only="tail")), "t", [1.0, 0.1], [0.1]),
        (Arm("a", cohorts=Choice(number=4), lambdas=(0.4,), total_lambda=True), "abcd", [9.0], [0.1] * 4),
        (Arm("a", cohorts=Choice(), objective="group_dro"), "ht", [0.1], []),
        (Arm("a", cohorts=Choice(), objective="min_diff"), "ht", [0.1], [0.1, 0.1]),
    ],
)
def test_each_cohort_has_its_own_lambda(arm, cohorts, of_run, expected) -> None:
    assert list(recipe._lambdas(arm, list(cohorts), of_run).values()) == pytest.approx(expected)


@pytest.mark.parametrize(("cohorts", "lambdas"), [("ht", (1.0, 0.1)), ("abc", (1.0,))])
def test_min_diff_has_two_cohorts_and_one_lambda(cohorts, lambdas) -> None:
    arm = Arm("a", cohorts=Choice(number=len(cohorts)), objective="min_diff", lambdas=lambdas)
    with pytest.raises(ValueError, match="Arm `a`: `min_diff` has two cohorts and one penalty, so one lambda"):
        recipe._lambdas(arm, list(cohorts), [9.0])


def test_lambdas_that_do_not_fit_the_cohorts() -> None:
    with pytest.raises(
        ValueError, match=r"`lambdas` must be one, or one for each of \['a', 'b', 'c'\]. Received: \[1, 2\]"
    ):
        recipe._lambdas(Arm("a", cohorts=Choice(number=3)), list("abc"), [1, 2])


def test_the_baseline_starts_from_nothing() -> None:
    with pytest.raises(ValueError, match="Arm `baseline` is trained first, so it has no `start`"):
        RunConfig("t", DataConfig("census"), arms=(Arm("baseline", start="baseline"),))
