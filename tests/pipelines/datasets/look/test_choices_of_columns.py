import datetime

import numpy as np
import pyarrow as pa
import pytest
from c2al_pipelines.datasets.look.axes import choose_axes, gives_answer_away
from c2al_pipelines.datasets.look.choices import choose_roles, find_unit
from c2al_pipelines.datasets.look.column_names import words_of
from c2al_pipelines.datasets.look.columns import look_at

ROWS = 2000
INDEX = np.arange(ROWS)
RNG = np.random.default_rng(0)
LABEL = pa.array((INDEX % 4 == 0).astype(int))


def _choice(name, values, *, num_rows=ROWS, is_whole=True, **others):
    columns = {"label": LABEL, name: pa.array(values), **others}
    seen = [look_at(key, column) for key, column in columns.items()]
    choices = choose_roles(seen, None, num_rows, is_whole)
    return next(choice for choice in choices if choice.column.name == name)


def _label(columns, wanted=None):
    return next(
        c for c in choose_roles([look_at(n, pa.array(v)) for n, v in columns.items()], wanted) if c.role == "label"
    )


ZEROS_AND_ONES = (INDEX % 2).astype(int)


@pytest.mark.parametrize("values", [ZEROS_AND_ONES, ZEROS_AND_ONES.astype(float), ZEROS_AND_ONES == 1])
def test_a_column_of_zeros_and_ones_is_the_label(values) -> None:
    choice = _label({"a": INDEX, "b": values})
    assert choice.column.name == "b"
    assert choice.reason == "50.0% of the rows are 0, 50.0% are 1"


def test_the_label_is_known_by_its_name_and_a_guess_lists_the_others() -> None:
    columns = {"mobile": ZEROS_AND_ONES, "is_click": ZEROS_AND_ONES, "vip": ZEROS_AND_ONES}
    choice = _label(columns)
    assert choice.column.name == "is_click"
    assert "GUESS" not in choice.reason
    guess = _label({"mobile": ZEROS_AND_ONES, "vip": ZEROS_AND_ONES})
    assert guess.column.name == "vip"
    assert "A GUESS: these hold 0 and 1 too: mobile; say which with --label" in guess.reason
    two_named = _label(columns | {"converted": ZEROS_AND_ONES})
    assert "A GUESS: these hold 0 and 1 too: converted, vip, mobile" in two_named.reason
    assert _label(columns, "vip").column.name == "vip"


def test_a_label_has_no_nulls() -> None:
    with pytest.raises(ValueError, match=r"A column must be the label.*columns of two values are \[.b \(string, most"):
        _label({"a": [0, 1, 2], "b": ["yes", "no", "no"]})


@pytest.mark.parametrize(("wanted", "message"), [("none", "no such column"), ("a", "`a`: 2,000 distinct values")])
def test_a_wrong_label_names_the_right_ones(wanted, message) -> None:
    with pytest.raises(ValueError, match=rf"`label` must be .*Received: {message}.*Such columns are \['b'\]"):
        _label({"a": INDEX, "b": ZEROS_AND_ONES}, wanted)


def _texts(number):
    return [f"v{i % number}" for i in INDEX]


@pytest.mark.parametrize(
    ("name", "values", "spec"),
    [
        ("color", _texts(3), {"kind": "categorical", "dtype": "string"}),
        ("color", [*_texts(3)[1:], None], {"kind": "categorical", "dtype": "string", "missing": "slot"}),
        ("color", pa.array(_texts(3)).dictionary_encode(), {"kind": "categorical", "dtype": "string"}),
        ("flag", INDEX % 3 == 0, {"kind": "categorical", "dtype": "int64"}),
        ("grade", INDEX % 7, {"kind": "categorical", "dtype": "int64"}),
        ("num_kids", INDEX % 7, {"kind": "numeric", "num_buckets": 20}),
        ("points", INDEX % 300, {"kind": "numeric", "num_buckets": 20}),
        ("ad_id", INDEX % 300, {"kind": "categorical", "dtype": "int64"}),
        ("userId", INDEX % 300, {"kind": "categorical", "dtype": "int64"}),
        ("hour", INDEX % 24, {"kind": "categorical", "dtype": "int64"}),
        ("C14", INDEX % 40 + 10**10, {"kind": "categorical", "dtype": "int64"}),
        ("price", RNG.normal(size=ROWS), {"kind": "numeric", "num_buckets": 20}),
        ("price", np.where(INDEX == 3, np.nan, INDEX), {"kind": "numeric", "num_buckets": 20, "missing": "slot"}),
        ("spent", np.exp(3 * RNG.normal(size=ROWS)), {"kind": "numeric", "num_buckets": 20, "scaling": "log"}),
        (
            "gains",
            np.where(INDEX % 10 == 0, INDEX, 0),
            {"kind": "numeric", "num_buckets": 10_000, "scaling": "log"},
        ),
        ("query", _texts(1500), {"kind": "categorical", "dtype": "string", "num_hash_buckets": 5000}),
        (
            "city",
            [f"v{i % 100 if i % 2 else i}" for i in INDEX % 800],
            {"kind": "categorical", "dtype": "string", "min_count": 5},
        ),
        (
            "tags",
            [["a", "b", "c"][: i % 4] for i in INDEX],
            {"kind": "categorical", "dtype": "string", "length": 3, "combiner": "mean", "missing": "slot"},
        ),
        ("last_ads", [[1, 2]] * ROWS, {"kind": "categorical", "dtype": "int64", "length": 2, "combiner": "mean"}),
    ],
)
def test_features(name, values, spec) -> None:
    choice = _choice(name, values)
    assert (choice.role, choice.spec) == ("feature", {"name": name, **spec}), choice.reason
    assert "distinct value" in choice.reason


def test_the_length_is_one_that_nearly_all_rows_keep() -> None:
    choice = _choice("tags", [["a", "b", "c", *"d" * 27][: 30 if i == 7 else 1 + i % 3] for i in INDEX])
    assert choice.spec["length"] == 3
    assert "up to 30 a row" in choice.reason


def test_a_part_of_the_rows_tells_how_many_values_all_have() -> None:
    users = RNG.integers(0, 1_000_000, ROWS)
    choice = _choice("user_id", users, num_rows=10_000_000, is_whole=False)
    assert choice.spec["num_hash_buckets"] == 1_000_000
    assert "in all rows: too many for a vocabulary, so hashed" in choice.reason


def test_a_scaled_value_does_not_take_another_columns_name() -> None:
    choice = _choice("user", RNG.normal(size=ROWS) + 0.5, user_value=pa.array(INDEX))
    assert choice.role == "left out"  # an id by its name
    choice = _choice("gain", RNG.normal(size=ROWS), gain_value=pa.array(INDEX % 300))
    assert choice.spec["scaling"] == "none"


@pytest.mark.parametrize(
    ("name", "values", "reason"),
    [
        ("constant", [7] * ROWS, "every row has the value '7'"),
        ("empty", pa.nulls(ROWS, pa.string()), "no row has a value"),
        ("seen", [datetime.datetime(2024, 1, 1)] * ROWS, "a date or time"),
        ("seen", [f"2024-01-{i % 28 + 1:02}" for i in INDEX], "a date or time"),
        ("timestamp", INDEX + 1_700_000_000, "a date or time"),
        ("hour", 24010100 + INDEX % 24, "a date or time"),
        ("row", INDEX, "the number of the row"),
        ("request", [f"r{i}" for i in INDEX], "nearly every row has a value of its own"),
        ("embedding", [[0.5, 1.5]] * ROWS, "lists of numbers cannot be a feature"),
        ("ratio", np.where(INDEX == 3, np.inf, INDEX), "it holds infinite numbers"),
        ("ratio", np.where(INDEX == 3, 1e39, INDEX), "it holds infinite numbers, or numbers too large for float32"),
        (
            "code",
            (INDEX % 50).astype(np.uint64) + np.uint64(2**63),
            "it holds infinite numbers, or numbers too large for int64",
        ),
        ("nested", [{"a": 1}] * ROWS, "of type struct<a: int64>"),
        ("converted", ZEROS_AND_ONES, "another label, by its name"),
        ("instance_weight", RNG.random(ROWS), "write `weight: instance_weight`"),
        ("item_id", (INDEX % 50).astype(float), "an id by its name, stored as double"),
    ],
)
def test_what_is_left_out_and_why(name, values, reason) -> None:
    choice = _choice(name, values)
    assert choice.role == "left out"
    assert choice.reason.startswith(reason) or reason in choice.reason


def test_an_id_of_each_row_that_was_read_may_have_others() -> None:
    assert _choice("user_id", [f"u{i}" for i in INDEX], is_whole=False).role == "feature"


@pytest.mark.parametrize(
    ("values", "role"), [(RNG.random(ROWS), "weight"), (RNG.random(ROWS) - 0.5, "left out"), ([None] * 9, "left out")]
)
def test_row_weights_are_at_least_0(values, role) -> None:
    assert _choice("sample_weight", values).role == role


def test_the_unit_is_a_person_with_several_rows() -> None:
    columns = {"label": LABEL, "ad_id": INDEX % 100, "user_id": INDEX % 300, "device_type": _texts(60)}
    choices = choose_roles([look_at(name, pa.array(values)) for name, values in columns.items()])
    assert find_unit(choices, True) == "user_id"
    assert find_unit([c for c in choices if c.column.name != "user_id"], True) is None


def _axes(**columns):
    columns = {name: pa.array(values) for name, values in columns.items()} | {"label": LABEL}
    choices = choose_roles([look_at(name, values) for name, values in columns.items()])
    return choose_axes(choices, columns, "label")


def test_axes_are_ranked_by_how_far_the_rates_of_their_cells_lie_apart() -> None:
    axes = _axes(
        same=_texts(3),
        parts=[("a", "b")[int(i % 4 == 0 or i % 5 == 0)] for i in INDEX],
        age=INDEX % 97 + 100 * (INDEX % 4 == 0),
        user_id=INDEX % 300,
    )
    assert [axis.columns for axis in axes] == [("age",), ("parts",), ("same",), ("age", "parts"), ("parts", "same")]
    parts = axes[1]
    assert parts.lowest == 0
    assert parts.highest == pytest.approx(500 / 800)


def test_of_many_axes_the_weakest_are_not_proposed() -> None:
    axes = _axes(**{f"field_{i}": _texts(i + 2) for i in range(14)})
    assert [axis.proposed for axis in axes if len(axis.columns) == 1] == [True] * 10 + [False] * 4
    axes = _axes(**{f"field_{i}": _texts(4) for i in range(12)}, sex=_texts(3))  # 4 divides the rows as the label does
    assert axes[-1].columns == ("sex",)
    assert axes[-1].proposed


def test_without_an_axis_the_columns_are_named() -> None:
    with pytest.raises(ValueError, match=r"At least one feature must be an axis.*\('user_id', 'feature'\)"):
        _axes(user_id=INDEX % 300)


def test_a_column_whose_values_each_have_one_label_gives_the_answer_away() -> None:
    assert gives_answer_away(pa.array(INDEX % 4), LABEL, 4)
    assert not gives_answer_away(pa.array(INDEX % 3), LABEL, 3)


@pytest.mark.parametrize(
    ("name", "words"),
    [("userId", ["user", "id"]), ("user_id", ["user", "id"]), ("USER_ID", ["user", "id"]), ("ad2", ["ad"]), ("1", [])],
)
def test_words_of_a_name(name, words) -> None:
    assert words_of(name) == words
