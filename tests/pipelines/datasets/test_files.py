import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from c2al_pipelines.datasets.files import Files, open_source
from c2al_pipelines.run.config import load_config

from c2al_tf.data.preparation.prepare import prepare
from c2al_tf.data.preparation.source import FeatureSpec
from c2al_tf.schema import CategoricalFeature, Column, NumericFeature, Schema

EXAMPLE = Path(__file__).parents[3] / "pipelines" / "configs" / "files.yaml"

FILES = Files(
    train="train*.parquet",
    test="test.parquet",
    label="click",
    features=(
        FeatureSpec("color", "categorical"),
        FeatureSpec("price", "numeric"),
        FeatureSpec("tags", "categorical", "string", length=2, missing="slot"),
    ),
    axes=(("color",), ("region",)),
    axis_columns=(Column("region", "int64"),),
)


def _table(first, rows):
    index = np.arange(first, first + rows)
    return pa.table(
        {
            "color": [("red", "blue")[i % 2] for i in index],
            "price": index.astype(float),
            "tags": [["a", "b", "c"][: i % 3] for i in index],
            "region": index % 4,
            "click": (index % 5 == 0).astype(int),
            "ignored": index,
        }
    )


@pytest.fixture
def folder(tmp_path):
    pq.write_table(_table(0, 700), tmp_path / "train-0.parquet")
    pq.write_table(_table(700, 300), tmp_path / "train-1.parquet")
    pq.write_table(_table(1000, 50), tmp_path / "test.parquet")
    return tmp_path


def _prices(source, split):
    return np.concatenate([batch["price"] for batch in source.splits[split]()]).tolist()


def test_validation_rows_are_set_aside_from_training(folder):
    source = open_source(folder, FILES)
    train, validation = _prices(source, "train"), _prices(source, "validation")
    assert sorted(train + validation) == list(range(1000))
    assert 60 < len(validation) < 140
    assert _prices(open_source(folder, FILES), "validation") == validation
    assert _prices(source, "test") == list(range(1000, 1050))


def test_the_choice_does_not_depend_on_how_the_rows_are_filed(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    pq.write_table(_table(0, 1000), other / "train.parquet", row_group_size=100)
    pq.write_table(_table(1000, 50), other / "test.parquet")
    assert _prices(open_source(other, FILES), "validation") == _prices(open_source(folder, FILES), "validation")


def test_validation_files(folder):
    pq.write_table(_table(2000, 20), folder / "validation.parquet")
    source = open_source(folder, Files(**{**vars(FILES), "validation": "validation.parquet"}))
    assert _prices(source, "validation") == list(range(2000, 2020))
    assert len(_prices(source, "train")) == 1000


def test_prepare(folder, tmp_path):
    schema = prepare(open_source(folder, FILES), tmp_path / "run", progress=False)
    assert set(schema.columns) == {"color", "price", "tags", "region", "click"}
    assert set(schema.features[0].vocabulary) == {"red", "blue"}
    assert schema.axes == (("color",), ("region",))


def test_weights(folder, tmp_path):
    for path in folder.glob("*.parquet"):
        table = pq.read_table(path)
        weight = np.arange(len(table)) % 2 * np.where(np.arange(len(table)) < 20, 1.0, 0.5)
        pq.write_table(table.append_column("w", pa.array(weight)), path)
    schema = prepare(open_source(folder, Files(**{**vars(FILES), "weight": "w"})), tmp_path / "run", progress=False)
    assert schema.weight == "w"
    assert schema.columns["w"] == Column("w", "float32")
    # Rows of even numbers have weight 0, and red.
    assert schema.features[0].vocabulary == ("blue",)
    assert schema == Schema.load(tmp_path / "run" / "schema.json")


def test_csv(folder):
    for path in list(folder.glob("*.parquet")):
        pacsv.write_csv(pq.read_table(path).drop_columns(["tags"]), path.with_suffix(".csv"))
        path.unlink()
    parameters = {"train": "train*.csv", "test": "test.csv", "features": FILES.features[:2]}
    source = open_source(folder, Files(**{**vars(FILES), **parameters}))
    batch = next(source.splits["test"]())
    assert {name: column.dtype.kind for name, column in batch.items()} == {
        **{"color": "O", "price": "f", "region": "i", "click": "f"}
    }


def test_pattern_without_a_file(folder):
    with pytest.raises(
        ValueError, match=r"no file matches 'x\*\.csv'. Received: \['test\.parquet', 'train-0\.parquet'"
    ):
        open_source(folder, Files(**{**vars(FILES), "test": "x*.csv"}))
    with pytest.raises(ValueError, match="no such folder"):
        open_source(folder / "none", FILES)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"validation_share": 1.0}, "`validation_share` must be between 0 and 1. Received: validation_share=1.0"),
        ({"features": ()}, "`features` must name at least one"),
        ({"axes": ()}, "`axes` must name at least one"),
    ],
)
def test_bad_parameters(changed, message):
    with pytest.raises(ValueError, match=message):
        Files(**{**vars(FILES), **changed})


def _example_rows(rows):
    rng = np.random.default_rng(0)
    return pa.table(
        {
            "country": pa.array(rng.choice(["fr", "de"], rows), mask=rng.random(rows) < 0.1),
            "ad_id": rng.integers(0, 5, rows),
            "user_id": [f"user {i}" for i in rng.integers(0, 9, rows)],
            "interests": [["ski", "chess", "go"][:i] for i in rng.integers(0, 4, rows)],
            "age": pa.array(rng.integers(18, 80, rows), mask=rng.random(rows) < 0.1),
            "price": pa.array(rng.lognormal(size=rows), mask=rng.random(rows) < 0.1),
            "user_value": rng.lognormal(size=rows),
            "click": rng.integers(0, 2, rows),
        }
    )


def test_the_example_configuration_prepares_rows_of_its_kind(c2al, tmp_path):
    for split, rows in (("train", 400), ("test", 50)):
        (tmp_path / split).mkdir()
        pq.write_table(_example_rows(rows), tmp_path / split / "a.parquet")
    outcome = c2al("prepare", EXAMPLE, "--data", tmp_path, "--run-dir", tmp_path / "run")
    assert outcome.status == 0, outcome.error
    country, ad, user, interests, age, price = Schema.load(tmp_path / "run" / "schema.json").features
    assert set(country.vocabulary) == {"fr", "de"}
    assert len(ad.vocabulary) == 5
    assert user == CategoricalFeature("user_id", "string", num_hash_buckets=100_000)
    assert (interests.length, set(interests.vocabulary)) == (5, {"ski", "chess", "go"})
    assert len(age.boundaries) == 19
    assert isinstance(price, NumericFeature)
    assert (price.scaling, price.default) == ("log", 0.0)


def test_what_the_example_configuration_comments_out_is_right_too(tmp_path):
    text, count = re.subn(
        r"# (?=validation:|csv:|weight:|axes:|given:|  - \{(columns|name: (new|big)))", "", EXAMPLE.read_text()
    )
    assert count == 11
    (tmp_path / "all.yaml").write_text(text)
    config = load_config(tmp_path / "all.yaml")
    assert config.data.files.validation == "validation/*.parquet"
    assert config.data.files.weight == "row_weight"
    assert config.data.files.csv.delimiter == ";"
    assert config.data.files.csv.quote_char is None
    assert config.data.files.csv.null_values == ("\\N", "NULL")
    assert [axis.columns for axis in config.cohorts.axes] == [("age",), ("user_value",), ("country",), ("ad_id",)]
    assert [cohort.name for cohort in config.cohorts.given] == ["newcomers", "big_spenders"]


def test_a_column_is_read_under_the_name_that_is_given(tmp_path):
    """Not under the one that it has as an input, where a file has both; the data folder's name is no pattern."""
    folder = tmp_path / "my [data]"
    folder.mkdir()
    header = "label,_label,Price (EUR),Price_EUR,user-id"
    for split in ("train", "test"):
        (folder / f"{split}.csv").write_text(f"{header}\n1,0,2.5,9,7\n0,1,3.5,9,8\n")
    features = (FeatureSpec("Price (EUR)", "numeric"), FeatureSpec("user-id", "categorical", "int64"))
    files = Files("*n.csv", "test.csv", "_label", features, (("Price (EUR)",),), validation="test.csv")
    source = open_source(folder, files)
    (batch,) = source.splits["train"]()
    assert {name: values.tolist() for name, values in batch.items()} == {
        "Price_EUR": [2.5, 3.5],
        "user_id": [7, 8],
        "_label": [0, 1],
    }
    assert source.axes == (("Price_EUR",),)


def test_bad_rows_of_several_batches_are_named_together(tmp_path):
    rows = [f"{int(row in (3, 70_000))}.{5 if row in (3, 70_000) else 0}" for row in range(140_000)]
    (tmp_path / "a.csv").write_text("y,x\n" + "".join(f"{y},1\n" for y in rows))
    files = Files("a.csv", "a.csv", "y", (FeatureSpec("x", "numeric"),), (("x",),), validation="a.csv")
    with pytest.raises(ValueError, match=r"row 3: label `y` must be 0 or 1. Received: 1\.5 \(row 70000 too\)"):
        list(open_source(tmp_path, files).splits["train"]())
