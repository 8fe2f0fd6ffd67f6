import numpy as np
import pytest

from c2al_tf.cohorts import Axis, cut_axes, sample_rows

ROWS = 50_000


@pytest.fixture(scope="module")
def columns():
    rng = np.random.default_rng(0)
    return {
        "value": rng.lognormal(size=ROWS).astype(np.float32),
        "country": rng.choice(np.array(list("abcdef"), dtype=object), ROWS, p=[0.4, 0.2, 0.1, 0.1, 0.1, 0.1]),
        "age": rng.integers(18, 80, ROWS),
    }


def part(columns, numbers, **settings):
    return sample_rows({name: column[numbers] for name, column in columns.items()}, row_numbers=numbers, **settings)


def equal(a, b):
    return all(np.array_equal(a.columns[name], b.columns[name]) for name in a.columns)


SHARDINGS = {
    "runs of rows": np.split(np.arange(ROWS), [10, 20_000, 20_000]),
    "every third": [np.arange(i, ROWS, 3) for i in range(3)],
    "backwards": [np.arange(ROWS)[::-1]],
}


@pytest.mark.parametrize("shards", SHARDINGS.values(), ids=SHARDINGS)
@pytest.mark.parametrize("size", [1, 1000, 10 * ROWS])
def test_the_sample_does_not_depend_on_the_shards(columns, shards, size):
    whole = sample_rows(columns, size=size)
    assert len(whole.columns["age"]) == min(size, ROWS)
    assert equal(sum(part(columns, numbers, size=size) for numbers in shards), whole)


def test_every_row_is_as_likely_and_comes_once(columns):
    numbers = {"number": np.arange(ROWS)}
    drawn = np.concatenate([sample_rows(numbers, size=ROWS // 10, seed=seed).columns["number"] for seed in range(20)])
    assert len(np.unique(drawn[: ROWS // 10])) == ROWS // 10
    # Of 20 samples of a tenth a row is in two on average; the deciles of the rows are drawn alike.
    assert np.bincount(np.bincount(drawn, minlength=ROWS))[0] / ROWS == pytest.approx(0.9**20, abs=0.01)
    np.testing.assert_allclose(np.bincount(drawn * 10 // ROWS) / len(drawn), 0.1, rtol=0.05)


def test_a_sample_of_all_rows_cuts_as_the_rows_do(columns):
    axes = [Axis(("value",)), Axis(("country", "age"), quantiles={"age": (0, 0.3, 1)}, max_cohorts=5)]
    shards = [part(columns, numbers) for numbers in SHARDINGS["every third"]]
    assert cut_axes(axes, sum(shards).columns) == cut_axes(axes, columns)


def test_a_smaller_sample_cuts_nearly_there(columns):
    (cut,) = cut_axes([Axis(("value",))], sample_rows(columns, size=10_000).columns)
    shares = [cohort.contains(columns).mean() for cohort in cut.cohorts]
    # Standard deviation of the 5 % quantile of 10,000 rows: 0.2 %.
    np.testing.assert_allclose(shares, [0.05, 0.2, 0.5, 0.2, 0.05], atol=0.015)


@pytest.mark.parametrize(
    ("columns", "settings", "message"),
    [
        ({"a": np.arange(3)}, {"size": 0}, "`size` must be at least 1. Received: size=0"),
        ({}, {}, "`columns` must hold at least one"),
        ({"a": np.arange(3), "b": np.arange(4)}, {}, r"all of one length. Received lengths: \{'a': 3, 'b': 4\}"),
        ({"a": np.arange(3)}, {"row_numbers": np.arange(4)}, r"Received lengths: \{'a': 3, 'row_numbers': 4\}"),
    ],
)
def test_bad_input(columns, settings, message):
    with pytest.raises(ValueError, match=message):
        sample_rows(columns, **settings)


@pytest.mark.parametrize(("other", "settings"), [("a", {"size": 5}), ("a", {"seed": 1}), ("b", {})])
def test_samples_that_do_not_add_up(other, settings):
    with pytest.raises(ValueError, match="only if size, seed and columns are the same"):
        sample_rows({"a": np.arange(3)}, size=4) + sample_rows({other: np.arange(3)}, **({"size": 4} | settings))
