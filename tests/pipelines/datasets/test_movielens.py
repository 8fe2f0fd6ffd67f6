import gzip

import numpy as np
import pytest
from c2al_pipelines.datasets.movielens import open_source

USERS = ["1::F::25::10::48067", "2::M::56::16::70072"]
MOVIES = ["7::Café: the Film (1995)::Animation|Children's|Comedy", "9::No Year::Drama"]
# (user, film, rating, time): the last two are the test split, the one before them is the validation split.
RATINGS = [
    *("2::7::5::800", "1::9::4::900", "1::7::3::1000"),
    *("1::7::4::100", "1::9::1::200", "1::7::2::300", "1::7::5::400", "1::7::3::500", "1::7::3::600", "1::9::3::700"),
]


def _write(folder, ratings=RATINGS, users=USERS, movies=MOVIES):
    for name, lines in (("ratings", ratings), ("users", users), ("movies", movies)):
        (folder / f"{name}.dat").write_bytes("".join(f"{line}\n" for line in lines).encode("latin1"))
    return folder


def _rows(source, split):
    batches = list(source.splits[split]())
    return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}


def test_rows_in_the_order_of_time(tmp_path):
    source = open_source(_write(tmp_path))
    assert source.num_rows == {"train": 7, "validation": 1, "test": 2}
    train, validation, test = (_rows(source, split) for split in ("train", "validation", "test"))
    assert train["label"].tolist() == [1, 0, 0, 1, 0, 0, 0]
    assert train["movie_id"].tolist() == [7, 9, 7, 7, 7, 7, 9]
    assert (validation["user_id"].tolist(), validation["label"].tolist()) == ([2], [1])
    assert (test["user_id"].tolist(), test["movie_id"].tolist(), test["label"].tolist()) == ([1, 1], [9, 7], [1, 0])


def test_what_is_known_of_user_and_film(tmp_path):
    rows = _rows(open_source(_write(tmp_path)), "validation")
    assert rows["genres"].tolist() == [["Animation", "Children's", "Comedy", "", "", ""]]
    assert rows["release_year"].tolist() == [1995.0]
    assert rows["gender"].tolist() == ["M"]
    assert (rows["age"].tolist(), rows["occupation"].tolist()) == ([56], [16])
    assert np.isnan(_rows(open_source(tmp_path), "test")["release_year"]).tolist() == [True, False]


def test_activity_and_popularity_count_training_rows_only(tmp_path):
    source = open_source(_write(tmp_path))
    train, validation, test = (_rows(source, split) for split in ("train", "validation", "test"))
    assert set(train["user_activity"]) == {7.0}
    assert train["item_popularity"].tolist() == [5, 2, 5, 5, 5, 5, 2]
    assert (validation["user_activity"].tolist(), validation["item_popularity"].tolist()) == ([0], [5])
    assert (test["user_activity"].tolist(), test["item_popularity"].tolist()) == ([7, 7], [2, 5])


def test_source_names_every_column(tmp_path):
    source = open_source(_write(tmp_path))
    columns = {feature.name for feature in source.features} | {column.name for column in source.axis_columns}
    assert set(_rows(source, "train")) == columns | {"label"}
    assert {name for axis in source.axes for name in axis} <= columns


def test_compressed_ratings_and_the_number_is_said(tmp_path, capsys):
    ratings = _write(tmp_path) / "ratings.dat"
    (tmp_path / "ratings.dat.gz").write_bytes(gzip.compress(ratings.read_bytes()))
    ratings.unlink()
    assert len(_rows(open_source(tmp_path), "train")["label"]) == 7
    assert "10 of the 1,000,209 ratings" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1::7::4", r"line 11 must have 4 fields, separated by `::`. Received: 3 fields: '1::7::4'"),
        ("1::7::6::5", r"line 11: `rating` must be from 1 to 5. Received: '6'"),
        ("1::7::good::5", r"line 11: `rating` must be a whole number. Received: 'good'"),
        ("3::7::5::5", r"line 11: `user_id` must be in users\.dat. Received: 3"),
        ("1::8::5::5", r"line 11: `movie_id` must be in movies\.dat. Received: 8"),
    ],
)
def test_malformed_line_is_named(tmp_path, line, message):
    with pytest.raises(ValueError, match=rf"ratings\.dat: {message}"):
        open_source(_write(tmp_path, [*RATINGS, line]))


def test_too_few_ratings(tmp_path):
    with pytest.raises(ValueError, match=r"must hold at least 10 ratings. Received: 9"):
        open_source(_write(tmp_path, RATINGS[:9]))


def test_absent_file(tmp_path):
    (_write(tmp_path) / "users.dat").unlink()
    with pytest.raises(ValueError, match=r"must hold users\.dat or users\.dat\.gz. Fetch and unpack https://files"):
        open_source(tmp_path)


def test_real_files(real_data):
    source = open_source(real_data / "movielens_1m_first_half")
    assert sum(source.num_rows.values()) == 487_650
    splits = {name: _rows(source, name) for name in source.splits}
    positives = sum(rows["label"].sum() for rows in splits.values())
    assert positives / 487_650 == pytest.approx(0.57, abs=0.005)
    users, counts = np.unique(splits["train"]["user_id"], return_counts=True)
    activity = dict(zip(users, counts, strict=True))
    for rows in splits.values():
        assert rows["user_activity"].tolist() == [activity.get(user, 0) for user in rows["user_id"]]
