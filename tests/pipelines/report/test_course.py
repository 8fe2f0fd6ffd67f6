"""What diagnostics become: means, courses, and words that hold over seeds."""

import math

import pytest
from c2al_pipelines.report.course import attention_changes, attention_in_words, attention_of_arms, summarize_diagnostics


def test_a_summary_of_two_seeds() -> None:
    """Conflict 1 of 4, cosine (0.1 + 0.3 - 0.4 + 0.4) / 4, norms 1 + 2 + 3 + 2 over 10 + 10 + 10 + 10."""
    cosines, norms = ((0.1, 0.3), (-0.4, 0.4)), ((1.0, 2.0), (3.0, 2.0))
    by_seed = [
        [
            row
            for step, (cosine, norm) in enumerate(zip(*values, strict=True))
            for row in (
                {"step": step, "layer": "fm", "task": "t", "cosine": cosine, "norm": norm, "primary_norm": 10.0},
                {"step": step, "layer": "fm", "entropy": entropy + step, "gini": math.nan}
                | {"effective_rank": 2.0, "near_zero": 0.5},
            )
        ]
        for entropy, values in ((0.25, (cosines[0], norms[0])), (0.75, (cosines[1], norms[1])))
    ]
    found = summarize_diagnostics(by_seed)
    layer = found["layers"]["fm"]
    for place, entropy in (("first", 0.5), ("last", 1.5)):
        assert layer[place] == {"entropy": entropy, "gini": None, "effective_rank": 2.0, "near_zero": 0.5}
    assert layer["steps"] == [0, 1]
    assert (layer["by_seed"]["entropy"], layer["by_seed"]["gini"]) == ([1.25, 1.75], [None, None])
    task = found["tasks"]["fm"]["t"]
    course = task.pop("course")
    assert task == pytest.approx({"conflict": 0.25, "cosine": 0.1, "norm_ratio": 0.2})
    assert course[0] == pytest.approx({"step": 0, "cosine": -0.15, "low": -0.4, "high": 0.1})
    assert course[1] == pytest.approx({"step": 1, "cosine": 0.35, "low": 0.3, "high": 0.4})
    assert summarize_diagnostics([[], []]) == {"layers": {}, "tasks": {}}


def summary(values, measure="entropy"):
    """One layer with this measure at the end of each seed; the others are the same in all."""
    by_seed = {name: [0.5] * len(values) for name in ("entropy", "gini", "effective_rank", "near_zero")}
    return {"layers": {"fm_0": {"by_seed": by_seed | {measure: list(values)}}}}


BASELINE = (0.80, 0.81, 0.82)


@pytest.mark.parametrize(
    ("measure", "values", "side"),
    [
        ("entropy", (0.84, 0.85, 0.861), "denser"),
        ("entropy", (0.76, 0.77, 0.781), "sparser"),
        ("entropy", (0.84, 0.81, 0.90), "unclear"),  # 0.040 in the mean, seeds from 0 to 0.08
        ("entropy", (0.84, 0.85), "unknown"),
        ("gini", (0.76, 0.77, 0.781), "denser"),
        ("near_zero", (0.84, 0.85, 0.861), "sparser"),
        ("effective_rank", (0.84, 0.85, 0.861), "unclear"),  # says nothing of density
    ],
)
def test_a_change_is_called_by_its_interval_over_paired_seeds(measure, values, side) -> None:
    changes = attention_changes(summary(BASELINE, measure), summary(values, measure))
    assert {c.measure: c.side for c in changes}[measure] == side


def test_the_interval_of_a_change() -> None:
    """Differences 0.01, 0.02 and 0.03: 0.02 with the margin 4.302653 x 0.01 / sqrt(3)."""
    changes = attention_changes(summary((0.8, 0.8, 0.8, 0.1)), summary((0.81, 0.82, 0.83)))
    found = next(c for c in changes if c.measure == "entropy")
    assert (found.reference, found.arm) == pytest.approx((0.8, 0.82))
    assert (found.low, found.high) == pytest.approx((0.02 - 0.0248414, 0.02 + 0.0248414), abs=1e-6)


def test_seeds_without_a_measurement_are_left_out_of_the_pairs() -> None:
    changes = attention_changes(summary((0.8, None, 0.8, 0.8)), summary((0.81, 0.9, 0.82, 0.83)))
    assert changes[0].arm == pytest.approx(0.82)
    assert attention_changes({}, summary((0.8,))) == []


def test_words_say_what_was_measured() -> None:
    denser = attention_changes(summary(BASELINE), summary((0.84, 0.85, 0.861)))
    assert attention_in_words(denser, "C2AL", "baseline") == (
        "Entropy at the end of training, baseline and C2AL: fm_0 0.810 and 0.850. By the 95 % intervals over paired "
        "seeds: C2AL is denser in fm_0."
    )
    unclear = attention_changes(summary(BASELINE), summary((0.84, 0.81, 0.90)))
    assert attention_in_words(unclear, "C2AL", "baseline").endswith("no difference is shown in fm_0.")
    two = attention_changes(summary(BASELINE[:2]), summary((0.84, 0.85)))
    assert attention_in_words(two, "C2AL", "baseline").endswith("do not tell whether one is denser.")


def test_arms_are_named_by_what_is_shown() -> None:
    arms = {"wide": (0.84, 0.85, 0.861), "same": (0.84, 0.81, 0.90), "few": (0.84, 0.85)}
    words = attention_of_arms({arm: attention_changes(summary(BASELINE), summary(v)) for arm, v in arms.items()})
    assert words.endswith(
        "denser than the reference's: wide; no difference is shown: same; fewer than 3 paired seeds do not tell: few."
    )
