import json

import pytest

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
            r"`boundaries` of `a` must increase. Received: \(2.0, 1.0\)",
        ),
        (lambda: NumericFeature("a", std=0.0), "`std` of `a` must be above 0. Received: 0.0"),
        (lambda: Schema((NumericFeature("a"), NumericFeature("a"))), r"Received twice: \['a'\]"),
        (lambda: Schema((NumericFeature("a", "log"), NumericFeature("a_value"))), r"Received twice: \['a_value'\]"),
        (lambda: Schema((NumericFeature("label"),)), r"Received twice: \['label'\]"),
        (
            lambda: Schema((NumericFeature("a"),), axes=(("b",),)),
            r"Axis `b` names no column. Received: 'b'; there are \['a'",
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
