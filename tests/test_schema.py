import json

import pytest

from c2al_tf.names import input_name
from c2al_tf.schema import CategoricalFeature, Column, NumericFeature, Schema

SCHEMA = Schema(
    features=(
        CategoricalFeature("color", "string", vocabulary=("red", "blue"), missing="slot"),
        CategoricalFeature("user", "int64", num_hash_buckets=10, missing="default", default=3),
        CategoricalFeature("tags", "string", vocabulary=("a",), length=4, combiner="sum"),
        NumericFeature("age", "log", mean=1.0, std=2.0, boundaries=(1.0, 5.0)),
        NumericFeature("rank"),
    ),
    axes=(("age",), ("color", "surface")),
    axis_columns=(Column("surface", "string"),),
    weight="weight",
)


def test_inputs_and_columns() -> None:
    assert list(SCHEMA.inputs) == ["color", "user", "tags", "age", "age_value", "rank"]
    assert SCHEMA.inputs["tags"] == Column("tags", "int64", 4)
    assert list(SCHEMA.columns) == ["color", "user", "tags", "age", "rank", "surface", "label", "weight"]


def test_number_of_ids() -> None:
    # no value, out of vocabulary, two values; no value, ten buckets; ...; no value, three buckets; no value, one bucket
    assert [feature.num_ids for feature in SCHEMA.features] == [4, 11, 3, 4, 2]


def test_round_trip(tmp_path) -> None:
    assert Schema.from_json(json.loads(json.dumps(SCHEMA.to_json()))) == SCHEMA
    SCHEMA.save(tmp_path / "schema.json")
    assert Schema.load(tmp_path / "schema.json") == SCHEMA


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: CategoricalFeature("a", "string"), "`a` needs exactly one of `vocabulary` and `num_hash_buckets`"),
        (lambda: CategoricalFeature("a", "string", ("x",), 5), "needs exactly one of"),
        (
            lambda: CategoricalFeature("a", "string", ("x",), missing="default"),
            "needs a `default` with missing='default'",
        ),
        (lambda: CategoricalFeature("a", "string", ("x",), default="x"), "and only then"),
        (
            lambda: NumericFeature("a", boundaries=(2.0, 1.0)),
            r"`boundaries` of feature `a` must increase. Received: \(2.0, 1.0\)",
        ),
        (lambda: NumericFeature("a", std=0.0), "`std` of feature `a` must be above 0. Received: 0.0"),
        (lambda: Schema((NumericFeature("a"), NumericFeature("a"))), r"Received twice: \['a'\]"),
        (lambda: Schema((NumericFeature("a", "log"), NumericFeature("a_value"))), r"Received twice: \['a_value'\]"),
        (lambda: Schema((NumericFeature("label"),)), r"Received twice: \['label'\]"),
        (
            lambda: Schema((NumericFeature("a"),), axes=(("b",),)),
            r"Axis `b` names no column. Received: 'b'; there are \['a'",
        ),
        (
            lambda: Schema((CategoricalFeature("a", "string", ("x",), shares="b"),)),
            r"`shares` of feature `a` must name a categorical feature.*Received: shares='b'; there are \[\]",
        ),
        (
            lambda: Schema(
                (CategoricalFeature("a", "string", ("x",)), CategoricalFeature("b", "string", ("y",), shares="a"))
            ),
            r"Feature `b` must have the dtype and the vocabulary.*of `a`.*Received: \('string', \('y',\), None\) and",
        ),
        (lambda: Schema.from_json({"feature": []}), r"Unknown keys for Schema. Received: \['feature'\]; there are"),
        (
            lambda: Schema.from_json({"features": [{"kind": "text"}]}),
            r"`kind` must be one of \['categorical', 'numeric'\]",
        ),
        (
            lambda: Schema.from_json({"features": [{"kind": "numeric", "name": "a", "size": 1}]}),
            r"Unknown keys for NumericFeature. Received: \['size'\]",
        ),
    ],
)
def test_errors_say_what_would_be_right(build, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"vocabulary": ("x", "y", "x")}, "`vocabulary` of feature `a` must hold distinct values.*Received: 'x' twice"),
        ({"vocabulary": ("x", "")}, "each a string other than \"\", which stands for a null. Received: ''"),
        ({"vocabulary": ("x", 1)}, "each a string.*Received: 1"),
        ({"dtype": "int64", "vocabulary": (1, -(2**63))}, "each an integer of 64 bits.*Received: -9223372036854775808"),
        ({"dtype": "int64", "vocabulary": (2**63,)}, "each an integer of 64 bits"),
        ({"dtype": "int64", "vocabulary": (1, True)}, "Received: True"),
        ({"dtype": "float32"}, "`dtype` of feature `a` must be one of string, int64. Received: dtype='float32'"),
        ({"missing": "none"}, "`missing` of feature `a` must be one of error, slot, default. Received: missing='none'"),
        ({"combiner": "max"}, "`combiner` of feature `a` must be one of mean, sum. Received: combiner='max'"),
        ({"length": 0}, "`length` of feature `a` must be a whole number of at least 1. Received: length=0"),
        ({"vocabulary": None, "num_hash_buckets": 0}, "`num_hash_buckets` of feature `a` must be a whole number of at"),
        ({"vocabulary": None, "num_hash_buckets": 2.5}, "Received: num_hash_buckets=2.5"),
        ({"missing": "default", "default": 5}, "`default` of feature `a` must be a string.*Received: 5"),
        ({"missing": "default", "default": ""}, "`default` of feature `a` must be a string other than"),
        (
            {"dtype": "int64", "vocabulary": (1,), "missing": "default", "default": "5"},
            "`default` of feature `a` must be an integer of 64 bits.*Received: '5'",
        ),
    ],
)
def test_categorical_features_that_cannot_be(fields, message: str) -> None:
    good = {"dtype": "string", "vocabulary": ("x", "y")}
    CategoricalFeature("a", **good)
    with pytest.raises(ValueError, match=message):
        CategoricalFeature("a", **{**good, **fields})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"scaling": "minmax"}, "`scaling` of feature `a` must be one of none, standard, log. Received: scaling='min"),
        ({"missing": "skip"}, "`missing` of feature `a` must be one of error, slot, default"),
        ({"missing": "default", "default": "0"}, "`default` of feature `a` must be a finite number. Received: '0'"),
        ({"missing": "default", "default": float("nan")}, "must be a finite number. Received: nan"),
    ],
)
def test_numeric_features_that_cannot_be(fields, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NumericFeature("a", **fields)


@pytest.mark.parametrize(
    "name", ["user id", "capital-gain", "a.b", "1x", "_x", "class", "self", "Gr\u00f6\u00dfe", "", "x\n"]
)
def test_names_that_no_served_model_could_have_as_an_input(name: str) -> None:
    with pytest.raises(ValueError, match="A feature's name must begin with a letter") as error:
        Schema((NumericFeature("fine"), NumericFeature(name)))
    assert str(error.value).endswith(f"makes, too: {[input_name(name)]}. Received: {[name]}")
    # Labels, weights and columns of axes alone are no inputs.
    Schema((NumericFeature("fine"),), labels=(name + "2",), axis_columns=(Column(name, "string"),))
