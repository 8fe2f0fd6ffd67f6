"""The figures of attention and gradients: units, and what they say."""

from c2al_pipelines.report.inside import describe_inside


def summary(layers=("fm_0",), tasks=()):
    measures = {"entropy": 0.8, "gini": 0.3, "effective_rank": 2.0, "near_zero": 0.1}
    by_seed = {name: [value] * 3 for name, value in measures.items()}
    points = [{"step": step, "cosine": -0.1, "low": -0.2, "high": 0.1} for step in (10, 50)]
    gradients = {task: {"conflict": 0.4, "cosine": -0.1, "norm_ratio": 0.2, "course": points} for task in tasks}
    ends = {"first": measures, "last": measures, "steps": [10, 50], "by_seed": by_seed}
    return {"layers": dict.fromkeys(layers, ends), "tasks": dict.fromkeys(layers, gradients) if tasks else {}}


def test_one_arm_has_a_panel_for_each_layer() -> None:
    arms = {"baseline": summary(("fm_0", "fm_1")), "C2AL": summary(("fm_0", "fm_1"), ["young"])}
    found = describe_inside(arms, {"C2AL": "baseline"}, {"young": "age is young"})
    svg = found["gradients"].svg
    for text in ("training step", "cosine with the primary gradient", "age is young", "fm_0", "fm_1"):
        assert f">{text}<" in svg
    assert ">entropy of the attention (share of its maximum)<" in found["density"].svg
    assert "first measurement, after step 10; filled: the last, after step 50" in found["density"].sentence
    assert found["conflict"] == 0.4


def test_several_arms_have_a_panel_each() -> None:
    arms = {name: summary(tasks=["young"]) for name in ("a", "b")}
    found = describe_inside({"baseline": summary(), **arms}, {"a": "baseline", "b": "baseline"}, {})
    assert all(f">{text}<" in found["gradients"].svg for text in ("a", "b", "young"))
    assert "no difference is shown: a, b" in found["words"]


def test_without_an_attention_there_is_nothing_to_say() -> None:
    assert describe_inside({"mlp": summary(layers=())}, {}, {}) is None
