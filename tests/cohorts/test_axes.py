import json
import math

import numpy as np
import pytest

from c2al_tf.cohorts import Axis, Cohort, Interval, Values, cut_axes
from c2al_tf.types import MISSING_INT


def cut(axis, **columns):
    (only,) = cut_axes([axis], columns)
    return only.cohorts


def test_values_with_the_most_rows():
    column = np.array(["b", "a", "b", "", "c", "a", "d"], dtype=object)
    assert cut(Axis(("x",), max_cohorts=3), x=column) == (
        Cohort("x_a", (Values("x", ("a",)),)),
        Cohort("x_b", (Values("x", ("b",)),)),
        Cohort("x_c", (Values("x", ("c",)),)),
    )


def test_integers_are_cut_at_quantiles_unless_they_are_categories():
    column = np.array([7, 7, MISSING_INT, -1])
    assert [c.name for c in cut(Axis(("x",), categories=("x",)), x=column)] == ["x_7", "x_-1"]
    ages = np.append(np.arange(18, 98), MISSING_INT)
    cohorts = cut(Axis(("x",)), x=ages)
    assert [c.name for c in cohorts] == ["x_bottom_5", "x_5_25", "x_25_75", "x_75_95", "x_top_5"]
    assert [np.count_nonzero(c.contains({"x": ages})) for c in cohorts] == [4, 16, 40, 16, 4]
    halves = cut(Axis(("x",), quantiles={"x": (0, 0.5, 1)}), x=np.arange(10))
    assert [str(c) for c in halves] == ["x in bottom 50 % (below 5)", "x in top 50 % (from 5)"]


def test_floats_are_cut_at_quantiles():
    column = np.append(np.random.default_rng(0).permutation(1000), np.nan).astype(np.float32)
    cohorts = cut(Axis(("x",)), x=column)
    assert [c.name for c in cohorts] == ["x_bottom_5", "x_5_25", "x_25_75", "x_75_95", "x_top_5"]
    assert [np.count_nonzero(c.contains({"x": column})) for c in cohorts] == [50, 200, 500, 200, 50]
    # The outer intervals are open: a larger value of tomorrow is in the top too.
    assert cohorts[-1].contains({"x": np.array([1e9], np.float32)}).all()


def test_booleans_are_two_categories():
    column = np.array([True, False, True])
    yes, no = cut(Axis(("x",)), x=column)
    assert (str(yes), str(no)) == ("x is True", "x is False")
    assert Cohort.from_json(json.loads(json.dumps(yes.to_json()))) == yes


@pytest.mark.parametrize("share", [0.01, 0.2])
def test_infinite_values_are_in_the_outer_cohorts(share):
    finite = np.random.default_rng(0).permutation(1000)
    ends = np.full(int(1000 * share), np.inf)
    column = np.concatenate([-ends, finite, ends, [np.nan]]).astype(np.float32)
    masks = [c.contains({"x": column}) for c in cut(Axis(("x",)), x=column)]
    assert np.sum(masks, axis=0).tolist() == [1] * (len(column) - 1) + [0]
    assert masks[0][column == -np.inf].all()
    assert masks[-1][column == np.inf].all()
    assert all(mask[np.isfinite(column)].any() for mask in masks)


def test_equal_quantiles_fall_together():
    # 60 % zeros: no bottom 5 % can be told apart, so the lowest cohort reaches up to the quantile 75 %.
    column = np.concatenate([np.zeros(60), np.arange(1, 41)]).astype(np.float32)
    cohorts = cut(Axis(("x",)), x=column)
    assert [c.conditions[0].quantiles for c in cohorts] == [(0, 0.75), (0.75, 0.95), (0.95, 1)]
    assert sum(c.contains({"x": column}).sum() for c in cohorts) == 100


def test_a_constant_column_has_one_cohort():
    assert [str(c) for c in cut(Axis(("x",)), x=np.ones(5, np.float32))] == ["x present"]


def test_edges():
    axis = Axis(("age",), edges={"age": (0, 18, 65.5, math.inf)})
    cohorts = cut(axis, age=np.array([5, 70]))
    assert [c.name for c in cohorts] == ["age_0_18", "age_18_65_5", "age_from_65_5"]
    assert cohorts[0].conditions == (Interval("age", 0, 18),)


def test_a_cross_keeps_the_combinations_with_the_most_rows():
    age = np.array([10, 10, 10, 70, 70, 70, 70])
    sex = np.array(["f", "f", "m", "m", "m", "m", ""], dtype=object)
    axis = Axis(("age", "sex"), edges={"age": (0, 65, 100)}, max_cohorts=2)
    assert axis.name == "age x sex"
    cohorts = cut(axis, age=age, sex=sex)
    assert [str(c) for c in cohorts] == ["age in [65, 100) and sex is m", "age in [0, 65) and sex is f"]
    assert cohorts[0].name == "age_65_100_x_sex_m"


def test_names_are_unique_over_all_axes():
    column = np.array(["x y", "x-y", "x_y", "値", "价"], dtype=object)
    cuts = cut_axes([Axis(("a",)), Axis(("a",), name="again")], {"a": column})
    names = [cohort.name for only in cuts for cohort in only.cohorts]
    assert len(set(names)) == 10
    with pytest.raises(ValueError, match="Received twice: a"):
        cut_axes([Axis(("a",)), Axis(("a",))], {"a": column})


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"columns": "age"}, "tuple of one or two names"),
        ({"columns": ()}, "tuple of one or two names"),
        ({"columns": ("a", "b", "c")}, "tuple of one or two names"),
        ({"columns": ("a", "a")}, "tuple of one or two names"),
        ({"columns": ("a",), "edges": {"b": (0, 1)}}, "its own columns a at most once"),
        ({"columns": ("a",), "edges": {"a": (0, 1)}, "quantiles": {"a": (0, 1)}}, "at most once"),
        ({"columns": ("a",), "edges": {"a": (0, 1)}, "categories": ("a",)}, "at most once"),
        ({"columns": ("a",), "edges": {"a": (1, 0)}}, "`edges` of column `a` must be two or more rising"),
        ({"columns": ("a",), "edges": {"a": (1,)}}, "two or more"),
        ({"columns": ("a",), "edges": {"a": (0, math.nan)}}, "rising"),
        ({"columns": ("a",), "quantiles": {"a": (0, 1.5)}}, r"rising numbers in \[0, 1\]"),
        ({"columns": ("a",), "max_cohorts": 1}, "at least 2"),
        ({"columns": ("given",)}, "'given' is .* give yours another `name`"),
    ],
)
def test_wrong_axes(arguments, match):
    with pytest.raises(ValueError, match=match):
        Axis(**arguments)


def test_columns_that_cannot_be_cut():
    with pytest.raises(ValueError, match=r"No column `b` in the data. Columns there: a"):
        cut(Axis(("b",)), a=np.arange(3))
    with pytest.raises(ValueError, match="must cut column `a` into values: it holds string values. Received: edges"):
        cut(Axis(("a",), edges={"a": (0, 1)}), a=np.array(["x"], dtype=object))
    with pytest.raises(ValueError, match="it holds boolean values. Received: quantiles"):
        cut(Axis(("a",), quantiles={"a": (0, 1)}), a=np.array([True]))
    with pytest.raises(ValueError, match="must cut column `a` by `edges` or `quantiles`: it holds float values"):
        cut(Axis(("a",), categories=("a",)), a=np.array([0.5]))
    with pytest.raises(ValueError, match="column `a` with missing values only"):
        cut(Axis(("a",)), a=np.array([np.nan], np.float32))
    with pytest.raises(ValueError, match="one value per row"):
        cut(Axis(("a",)), a=np.zeros((2, 2)))
    with pytest.raises(ValueError, match="Column `a` must hold .* all of one type. Received: int, str"):
        cut(Axis(("a",)), a=np.array(["x", 1], dtype=object))
