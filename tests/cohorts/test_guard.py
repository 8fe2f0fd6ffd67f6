import pytest

from c2al_tf.cohorts import Cohort, Guard, Interval

CHILDREN = Cohort("children", (Interval("age", 0, 18),))


def test_reasons_in_words():
    guard = Guard(min_rows=1000, min_share=0.01, min_positives=20)
    assert guard.size_reasons("tail", CHILDREN, 1000, 100_000, 20) == ()
    assert guard.size_reasons("tail", CHILDREN, 1000, 100_000, None) == ()
    assert guard.size_reasons("tail", CHILDREN, 19_953, 100_000, 0) == (
        "tail cohort `age in [0, 18)` has 0 positives in 19,953 rows; at least 20 are needed",
    )
    assert guard.size_reasons("head", CHILDREN, 999, 100_000, 19) == (
        "head cohort `age in [0, 18)` has 999 rows; at least 1,000 are needed",
        "head cohort `age in [0, 18)` holds 0.999 % of the rows; at least 1 % is needed",
        "head cohort `age in [0, 18)` has 19 positives in 999 rows; at least 20 are needed",
    )
    assert guard.chance_reasons(0.01, 45) == ()
    (reason,) = guard.chance_reasons(0.0234, 45)
    assert "p = 0.0234, corrected for 45 pairs; at most 0.01 is allowed" in reason


@pytest.mark.parametrize(
    "wrong",
    [{"min_rows": 0}, {"min_positives": -1}, {"min_share": 1.0}, {"max_p_value": 0.0}, {"max_p_value": 1.0}],
)
def test_wrong_dials(wrong):
    (name,) = wrong
    with pytest.raises(ValueError, match=f"Received: .*{name}="):
        Guard(**wrong)
