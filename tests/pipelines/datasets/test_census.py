import shutil

import numpy as np
import pytest
from c2al_pipelines.datasets import census
from c2al_pipelines.datasets.census import LABEL, TEXT_COLUMNS, Census, open_source, read_text

from c2al_tf.schema import Column

LINE = (
    " 38, Private, 6, 36, Children , 0, Not in universe, Divorced, Retail trade, Sales, White, NA, Female, No, No, PT,"
    " 0, 0, 12, Single, ?, ?, Householder, Householder, 1032.38, ?, ?, ?, No, ?, 4, No, Mexico, Mexico, ?, Native, 0,"
    " No, 2, 12, 95, 50000+."
)


def _write(tmp_path, *lines, name="census-income.test"):
    path = tmp_path / name
    path.write_text("\n".join(lines) + "\n")
    return path


def _concatenated(batches):
    batches = list(batches)
    return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}


@pytest.fixture
def folder(real_data):
    return real_data / "census_income_kdd"


def test_a_line_of_text(tmp_path):
    path = _write(tmp_path, LINE, LINE.replace("50000+.", "- 50000."))
    columns = {
        "age": Column("age", "float32"),
        "det_occ_code": Column("det_occ_code", "int64"),
        "education": Column("education", "string"),
        "hisp_origin": Column("hisp_origin", "string"),
        "region_prev_res": Column("region_prev_res", "string"),
        LABEL: Column(LABEL, "float32"),
    }
    rows = read_text(path, columns)
    assert {name: column.tolist() for name, column in rows.items()} == {
        "age": [38.0, 38.0],
        "det_occ_code": [36, 36],
        "education": ["Children", "Children"],
        "hisp_origin": ["", ""],
        "region_prev_res": ["", ""],
        LABEL: [1.0, 0.0],
    }
    assert rows["age"].dtype == rows[LABEL].dtype == np.float32


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (" 38,", " old,", "line 2: `age` must be a whole number. Received: 'old'"),
        ("50000+.", "60000.", "line 2: the label must be one of .'- 50000.', '50000\\+.'.. Received: '60000.'"),
        (" 38,", " 3, 8,", "line 2 must have 42 fields, separated by `,`. Received: 43 fields"),
    ],
)
def test_malformed_line_is_named(tmp_path, old, new, message):
    path = _write(tmp_path, LINE, LINE.replace(old, new))
    columns = {"age": Column("age", "float32"), LABEL: Column(LABEL, "float32")}
    with pytest.raises(ValueError, match=rf"census-income\.test: {message}"):
        read_text(path, columns)


def test_wrong_counts_name_the_file_and_both_numbers(tmp_path):
    _write(tmp_path, LINE)
    with pytest.raises(ValueError, match=r"census-income\.test: .* 99,762 rows, 6,186 .* Received: 1 rows, 1 positive"):
        next(open_source(tmp_path).splits["test"]())


def test_folder_without_a_split(tmp_path):
    with pytest.raises(
        ValueError, match=r"must hold one of train\.parquet, census-income\.data, census-income\.data\.gz"
    ):
        next(open_source(tmp_path).splits["train"]())


def test_features_are_all_columns_but_the_survey_weight():
    names = [feature.name for feature in census.FEATURES]
    assert len(names) == len(set(names)) == 40
    assert set(TEXT_COLUMNS) - set(names) == {"instance_weight", LABEL}
    assert set(census.AXES) <= set(names)


def test_official_counts_and_a_fixed_validation_part(folder):
    source = open_source(folder)
    splits = {name: _concatenated(stream()) for name, stream in source.splits.items()}
    assert {name: len(rows[LABEL]) for name, rows in splits.items()} == source.num_rows
    assert source.num_rows == {"train": 179_570, "validation": 19_953, "test": 99_762}
    assert splits["train"][LABEL].sum() + splits["validation"][LABEL].sum() == 12_382
    assert splits["test"][LABEL].sum() == 6_186
    again = _concatenated(open_source(folder).splits["validation"]())
    assert all(np.array_equal(again[name], splits["validation"][name]) for name in again)


def test_text_gives_the_rows_of_the_parquet(folder, tmp_path):
    shutil.copy(folder / "census-income.test.gz", tmp_path)
    text = _concatenated(open_source(tmp_path).splits["test"]())
    parquet = _concatenated(open_source(folder).splits["test"]())
    assert text.keys() == parquet.keys()
    for name, column in parquet.items():
        assert text[name].dtype == column.dtype
        np.testing.assert_array_equal(text[name], column, err_msg=name)


def test_amounts_have_as_many_buckets_as_wanted():
    buckets = {feature.name: feature.num_buckets for feature in Census(amount_buckets=7).features}
    assert [name for name, number in buckets.items() if number == 7] == list(census._AMOUNTS)
    assert list(buckets) == [feature.name for feature in census.FEATURES]
    with pytest.raises(ValueError, match="`amount_buckets` must be at least 1. Received: amount_buckets=0"):
        Census(amount_buckets=0)
