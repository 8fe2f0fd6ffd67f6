import pytest

from c2al_tf.cohorts import RULES, Cohort, Guard, Interval

CHILDREN = Cohort("children", (Interval("age", 0, 18),))


def test_too_little_to_learn_from():
    guard = Guard(min_share=0.01, min_positives=20)
    assert guard.size_reasons("tail", CHILDREN, 1000, 100_000, 20) == {}
    assert guard.size_reasons("tail", CHILDREN, 1000, 100_000, None) == {}
    assert guard.size_reasons("tail", CHILDREN, 0, 0, None).keys() == {"share"}
    assert guard.size_reasons("tail", CHILDREN, 19_953, 100_000, 0) == {
        "positives": "tail cohort `age in [0, 18)` has 0 positives in 19,953 training rows; at least 20 are needed"
    }
    assert guard.size_reasons("head", CHILDREN, 999, 100_000, 19) == {
        "positives": "head cohort `age in [0, 18)` has 19 positives in 999 training rows; at least 20 are needed",
        "share": "head cohort `age in [0, 18)` holds 0.999 % of the training rows; at least 1 % is needed",
    }


def test_predictions_that_do_not_differ():
    guard = Guard()
    assert guard.prediction_reasons({"js": 0.001}, 0.01, 45) == {}
    reasons = guard.prediction_reasons({"js": 0.0002}, 0.0234, 45)
    assert "p = 0.0234, corrected for 45 pairs; at most 0.01 is allowed" in reasons["chance"]
    assert "Jensen-Shannon divergence 0.0002 beyond chance; at least 0.001 is needed" in reasons["effect"]


def test_labels_that_do_not_differ():
    assert Guard().label_reasons(0.01, 45) == {}
    assert "too few positives to tell: p = 0.02, corrected for 3 pairs" in Guard().label_reasons(0.02, 3)["labels"]


def test_every_rule_has_short_words():
    guard = Guard()
    given = [
        guard.size_reasons("head", CHILDREN, 0, 100, 0),
        guard.prediction_reasons({"js": 0.0}, 1.0, 1),
        guard.label_reasons(1.0, 1),
        {"rows": ""},
    ]
    assert {rule for reasons in given for rule in reasons} == set(RULES)


@pytest.mark.parametrize(
    "wrong",
    [{"min_positives": -1}, {"min_share": 1.0}, {"min_divergence": -1.0}, {"max_p_value": 0.0}, {"max_p_value": 1.0}],
)
def test_wrong_dials(wrong):
    (name,) = wrong
    with pytest.raises(ValueError, match=f"Received: .*{name}="):
        Guard(**wrong)
