"""Each failure signature, provoked in a run that is well but for it."""

import dataclasses

import pytest
from c2al_pipelines.report.diagnosis import diagnose, not_judged
from c2al_pipelines.report.evidence import Evidence, last_auxiliary_ne

from c2al_tf.cohorts import Cohort, CohortSummary, Discovery, Guard, Pair, Values
from c2al_tf.cohorts.results import AxisSummary

HEAD, TAIL, OTHER = (Cohort(name, (Values("surface", (name,)),)) for name in ("head", "tail", "other"))


def discovery(rows=(1000, 500, 700), positives=(300, 200, 250), reasons=None) -> Discovery:
    """Pairs head-tail, which `reasons` refuse, and head-other."""
    head, tail, other = (
        CohortSummary(cohort, 100, 10, 0.1, (1.0,), n, p)
        for cohort, n, p in zip((HEAD, TAIL, OTHER), rows, positives, strict=True)
    )
    pairs = (
        Pair("surface", head, tail, {"js": 0.2}, (0.1, 0.3), 0.001, 0.001, reasons or {}),
        Pair("surface", head, other, {"js": 0.1}, (0.05, 0.2), 0.001, 0.001, {}),
    )
    return Discovery("js", 300, 2, Guard(), (AxisSummary("surface", (head, tail, other)),), pairs, 0.9)


def difference(percent: float) -> dict[str, float]:
    return {"percent": percent, "low": percent - 0.2, "high": percent + 0.2}


def metrics(overall=0.0, head=-0.5, tail=-0.4, worse=(), head_ne=0.8):
    ne_diff = {"all": difference(overall), "head": difference(head), "tail": difference(tail)}
    baseline = {"all": {"ne": 0.9}, "head": {"ne": head_ne}, "tail": {"ne": None}}
    return {"ne_diff": ne_diff, "baseline": baseline, "worse": list(worse), "better": []}


def arm(entropy=0.8, near_zero=0.1, noise=(-0.001, 0.0, 0.001), **ratios: float):
    """Measures in three seeds, or as many as there is noise for."""
    measures = {"entropy": entropy, "gini": 0.3, "effective_rank": 2.0, "near_zero": near_zero}
    by_seed = {name: [value + each for each in noise] for name, value in measures.items()}
    tasks = {name: {"conflict": 0.5, "cosine": 0.0, "norm_ratio": ratio} for name, ratio in ratios.items()}
    layers = {name: {"first": measures, "last": measures, "by_seed": by_seed} for name in ("fm_0", "fm_1")}
    return {"layers": layers, "tasks": {"fm_0": tasks, "fm_1": tasks} if tasks else {}}


WELL = Evidence(
    metrics(),
    [{"c2al": {"all": {"ne": ne}}} for ne in (0.9, 0.901)],
    discovery(),
    (HEAD, TAIL),
    (0.3,),
    {"baseline": arm(), "c2al": arm(0.85, head=0.2, tail=0.1)},
    {"head": 0.9, "tail": 0.95},
)


def test_a_run_that_is_well() -> None:
    assert diagnose(WELL) == []
    assert not_judged(WELL) == []


@pytest.mark.parametrize(
    ("changes", "name", "seen", "advice"),
    [
        (
            {"metrics": metrics(0.7, worse=["all"])},
            "overall worse",
            "NE_diff over all rows is +0.700 % [+0.500, +0.900]",
            "Try lambda 0.1 instead of 0.3",
        ),
        (
            {"metrics": metrics(head=-0.1, tail=0.1)},
            "no gain on the targeted cohorts",
            "surface is head is -0.100 % [-0.300, +0.100]; NE_diff of surface is tail is +0.100 % [-0.100, +0.300]; "
            "the pair passes the guard",
            "try 0.9 (`cohorts.lambdas`). The next accepted pair is surface is head against surface is other.",
        ),
        (
            {"metrics": metrics(head=-0.1, tail=0.1), "discovery": discovery(reasons={"chance": "p = 0.4"})},
            "the pair is chance",
            "the guard refuses the pair: p = 0.4",
            "Target another pair (`cohorts.given`). The next accepted pair is surface is head against",
        ),
        (
            {"metrics": metrics(head=-0.1, tail=0.1), "discovery": discovery(reasons={"share": "0.1 % of the rows"})},
            "no gain on the targeted cohorts",
            "the guard refuses the pair: 0.1 % of the rows",
            "wrong pair",
        ),
        (
            {"attention": {"baseline": arm(), "c2al": arm(0.8005, 0.1, (0.002, -0.003, 0.004), head=0.2)}},
            "attention is not denser than the baseline's",
            "entropy of fm_1 0.800 in the baseline and 0.801 in C2AL; near zero of fm_1 0.100 in the",
            "`model.density_penalty`",
        ),
        (
            {"attention": {"baseline": arm(0.95, 0.049), "c2al": arm(0.95, 0.049, head=0.2)}},
            "attention is dense already",
            "fm_0 of the baseline: entropy 95.0 % of the maximum, 4.9 % of the weights near zero",
            "`model.num_outputs`",
        ),
        (
            {"attention": {"baseline": arm(), "c2al": arm(0.85, head=0.009, tail=0.001)}},
            "the auxiliary gradient does not reach the attention",
            "fm_0: the largest of lambda times an auxiliary gradient is 0.009 of the primary one",
            "Raise lambda to 3 ",
        ),
        (
            {"attention": {"baseline": arm(), "c2al": arm(0.85)}},
            "the auxiliary gradient does not reach the attention",
            "it is frozen",
            "`frozen`",
        ),
        (
            {"seeds": [{"c2al": {"all": {"ne": ne}}} for ne in (0.9, 0.91)]},
            "unstable training",
            "C2AL's NE moves by up to 0.55 % from seed to seed",
            "`training.decay: cosine`",
        ),
        (
            {"discovery": discovery(positives=(300, 99, 10))},
            "cohort too small",
            "surface is tail has 99 positives in 500 training rows",
            "`cohorts.guard.min_positives` at 100",
        ),
        (
            {"discovery": discovery(rows=(10_001, 500, 700))},
            "cohorts too unequal",
            "surface is head has 10,001 training rows; surface is tail has 500 training rows",
            "a lambda of its own",
        ),
        (
            {"metrics": metrics(head_ne=0.99)},
            "noisy labels",
            "the baseline's NE on surface is head is 0.9900",
            "check how they are made",
        ),
        (
            {"auxiliary_ne": {"head": 0.999, "tail": 1.0}},
            "the auxiliary task is not learnt",
            "validation NE of the task tail is 1.0000 in the last epoch",
            "`training.epochs`",
        ),
    ],
)
def test_each_signature_alone(changes, name, seen, advice) -> None:
    (signature,) = diagnose(dataclasses.replace(WELL, **changes))
    assert signature.name == name
    assert seen in signature.seen
    assert advice in signature.advice


@pytest.mark.parametrize(
    "changes",
    [
        {"metrics": metrics(0.7)},  # above 0, but not beyond chance
        {"metrics": metrics(head=-0.5, tail=0.5)},  # one gains
        {"metrics": metrics(head_ne=0.989)},
        {"metrics": metrics(head_ne=None)},
        {"attention": {"baseline": arm(), "c2al": arm(0.75, 0.05, head=0.2)}},  # fewer near zero
        {"attention": {"baseline": arm(noise=(0, 0)), "c2al": arm(noise=(0, 0), head=0.2)}},  # two seeds tell nothing
        {"attention": {"baseline": arm(0.96, 0.05), "c2al": arm(0.97, 0.05, head=0.2)}},  # not dense: zeros
        {"attention": {"baseline": arm(), "c2al": arm(0.85, head=0.001, tail=0.01)}},  # one reaches it
        {"discovery": discovery(rows=(10_000, 500, 700), positives=(100, 100, 0))},
        {"discovery": discovery(positives=(None, None, None))},
        {"discovery": discovery(reasons={"chance": "p = 0.4"})},  # but it gains
        {"auxiliary_ne": {"head": None, "tail": 0.99}},
        {"chosen": (HEAD,)},
    ],
)
def test_what_is_near_one_and_none(changes) -> None:
    assert diagnose(dataclasses.replace(WELL, **changes)) == []


def test_overall_worse_without_a_gain_is_not_mended_by_more_lambda() -> None:
    bad = dataclasses.replace(WELL, metrics=metrics(0.7, 0.5, 0.5, worse=["all"]))
    worse, no_gain = diagnose(bad)
    assert (worse.name, no_gain.name) == ("overall worse", "no gain on the targeted cohorts")
    assert "lambda" not in no_gain.advice


def test_one_seed_and_no_measurement_claim_nothing() -> None:
    bare = Evidence(metrics(0.7, 0.5, 0.5), WELL.seeds[:1], WELL.discovery, WELL.chosen)
    assert diagnose(bare) == []
    assert [reason.split(":")[0] for reason in not_judged(bare)] == [
        "Gains, losses and stability",
        "Attention",
        "Auxiliary tasks",
    ]


def test_the_last_epochs_auxiliary_ne() -> None:
    histories = [
        {"epochs": [{"val_head_ne": 2.0}, {"val_head_ne": 0.8, "val_primary_ne": 0.7}]},
        {"epochs": [{"val_head_ne": 0.9}]},
        {"epochs": []},
    ]
    assert last_auxiliary_ne(histories, (HEAD, TAIL)) == {"head": pytest.approx(0.85)}
    assert last_auxiliary_ne([{"epochs": [{"val_tail_ne": None}]}], (TAIL,)) == {"tail": None}
