"""MovieLens-1M: does a person like a film, that is, rate it 4 or 5 of 5?

Collected by GroupLens Research at the University of Minnesota: https://grouplens.org/datasets/movielens/1m/
"""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from c2al_tf.data.columns.arrow import from_arrow
from c2al_tf.data.preparation.source import FeatureSpec, Source
from c2al_tf.schema import Column
from c2al_tf.types import Array, Columns

from .download import download_members
from .text import check_lines, read_lines, whole_numbers

URL = "https://files.grouplens.org/datasets/movielens/ml-1m.zip"
TERMS = (
    "MovieLens-1M may be used for research. Without GroupLens' permission it may not be redistributed, nor used for "
    "commercial or revenue-bearing purposes. Publications must cite F. M. Harper and J. A. Konstan, The MovieLens "
    "Datasets, ACM TiiS 5(4), 2015, https://doi.org/10.1145/2827872"
)
NUM_RATINGS = 1_000_209
LABEL = "label"
MAX_GENRES = 6
FEATURES = (
    # In the last months most users are new: those rare in training teach the model what to think of them.
    FeatureSpec("user_id", "categorical", "int64", min_count=30),
    FeatureSpec("movie_id", "categorical", "int64", min_count=5),
    FeatureSpec("age", "categorical", "int64"),
    FeatureSpec("occupation", "categorical", "int64"),
    FeatureSpec("gender", "categorical", "string"),
    FeatureSpec("genres", "categorical", "string", length=MAX_GENRES),
    FeatureSpec("release_year", "numeric", "float32", num_buckets=50, missing="slot"),
)

_RATING_FIELDS = ("user_id", "movie_id", "rating", "timestamp")
_USER_FIELDS = ("user_id", "gender", "age", "occupation", "zip_code")
_MOVIE_FIELDS = ("movie_id", "title", "genres")
_COLUMNS = (
    *(Column(name, "int64") for name in ("user_id", "movie_id", "age", "occupation")),
    *(Column("gender", "string"), Column("genres", "string", MAX_GENRES), Column("release_year", "float32")),
    Column(LABEL, "float32"),
)
_BATCH_ROWS = 65_536


def open_source(data: Path | None = None, *, cache: Path | None = None) -> Source:
    """Opens the data set, split by time: the last 20 % of the ratings to test on, the 10 % before them to validate on.

    The axes `user_activity` and `item_popularity` are the numbers of ratings of the user and of the film among the
    training rows, 0 for those that are new.

    Args:
        data: Folder with `ratings.dat`, `users.dat` and `movies.dat`, or these with `.gz`; the ratings may be a part of
            MovieLens-1M. Without it the data set is downloaded.
        cache: Folder for what is downloaded; `~/.cache/c2al/movielens` if not given.

    Raises:
        ValueError: If a file is absent or malformed.
        ConnectionError: If the download fails.
    """
    folder = data or cache or Path.home() / ".cache" / "c2al" / "movielens"
    if data is None:
        print(TERMS, file=sys.stderr)
        download_members(URL, ["ratings.dat", "users.dat", "movies.dat"], folder)
    rows = _rows_in_order(folder)
    count = len(rows[LABEL])
    least = 10 if data else NUM_RATINGS
    if count < least:
        raise ValueError(f"{folder}: must hold at least {least:,} ratings. Received: {count:,}")
    print(f"{folder}: {count:,} of the {NUM_RATINGS:,} ratings of MovieLens-1M", file=sys.stderr)
    train, test = round(0.7 * count), round(0.8 * count)
    rows["user_activity"] = _occurrences(rows["user_id"], train)
    rows["item_popularity"] = _occurrences(rows["movie_id"], train)

    def stream(part: slice) -> Callable[[], Iterator[Columns]]:
        return lambda: _batches({name: column[part] for name, column in rows.items()})

    parts = {"train": slice(0, train), "validation": slice(train, test), "test": slice(test, count)}
    return Source(
        features=FEATURES,
        label=LABEL,
        axes=(("user_activity",), ("item_popularity",), ("age",)),
        axis_columns=(Column("user_activity", "float32"), Column("item_popularity", "float32")),
        splits={name: stream(part) for name, part in parts.items()},
        num_rows={name: part.stop - part.start for name, part in parts.items()},
    )


def _batches(columns: Columns) -> Iterator[Columns]:
    for start in range(0, len(columns[LABEL]), _BATCH_ROWS):
        yield {name: column[start : start + _BATCH_ROWS] for name, column in columns.items()}


def _occurrences(ids: Array, num_training_rows: int) -> Array:
    """How often the id of each row is among the training rows, which come first."""
    values, inverse = np.unique(ids, return_inverse=True)
    return np.bincount(inverse[:num_training_rows], minlength=len(values))[inverse].astype(np.float32)


def _rows_in_order(folder: Path) -> dict[str, Array]:
    """All ratings with what is known of user and film, the earliest first."""
    users, movies = _read_users(_find(folder, "users.dat")), _read_movies(_find(folder, "movies.dat"))
    path = _find(folder, "ratings.dat")
    texts = read_lines(path, _RATING_FIELDS, "::")
    ratings = {name: whole_numbers(texts, name, path) for name in _RATING_FIELDS}
    in_range = pc.and_(pc.greater_equal(ratings["rating"], 1), pc.less_equal(ratings["rating"], 5))
    check_lines(in_range, texts["rating"], path, "`rating` must be from 1 to 5")
    user = _look_up(ratings["user_id"], users["user_id"], path, "`user_id` must be in users.dat")
    movie = _look_up(ratings["movie_id"], movies["movie_id"], path, "`movie_id` must be in movies.dat")
    rows = {name: column.take(user) for name, column in users.items()}
    rows |= {name: column.take(movie) for name, column in movies.items()}
    rows[LABEL] = pc.greater_equal(ratings["rating"], 4)
    order = np.argsort(ratings["timestamp"].to_numpy(), kind="stable")
    return {column.name: from_arrow(rows[column.name], column)[order] for column in _COLUMNS}


def _find(folder: Path, name: str) -> Path:
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    raise ValueError(f"{folder}: must hold {name} or {name}.gz. Fetch and unpack {URL}")


def _read_users(path: Path) -> dict[str, pa.ChunkedArray]:
    texts = read_lines(path, _USER_FIELDS, "::", "latin1")
    numbers = {name: whole_numbers(texts, name, path) for name in ("user_id", "age", "occupation")}
    return {**numbers, "gender": texts["gender"]}


def _read_movies(path: Path) -> dict[str, pa.ChunkedArray]:
    texts = read_lines(path, _MOVIE_FIELDS, "::", "latin1")
    year = pc.extract_regex(texts["title"], r"\((?P<year>\d{4})\)$")
    return {
        "movie_id": whole_numbers(texts, "movie_id", path),
        "genres": pc.split_pattern(texts["genres"], "|"),
        "release_year": pc.struct_field(year, "year").cast(pa.int64()),
    }


def _look_up(ids: pa.ChunkedArray, known: pa.ChunkedArray, path: Path, rule: str) -> pa.ChunkedArray:
    places = pc.index_in(ids, known)
    check_lines(pc.is_valid(places), ids, path, rule)
    return places
