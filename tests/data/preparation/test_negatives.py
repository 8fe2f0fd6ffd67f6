"""Negative sampling: the same rows whoever cuts them, and sums that stay what they are."""

from functools import partial

import numpy as np
import pytest

from c2al_tf.data.columns.raw import concatenate
from c2al_tf.data.columns.readers import read_columns
from c2al_tf.data.columns.shards import split_files
from c2al_tf.data.inputs.priors import count_tasks
from c2al_tf.data.preparation.negatives import WEIGHT
from c2al_tf.data.preparation.prepare import prepare
from c2al_tf.data.preparation.source import FeatureSpec, Source
from c2al_tf.schema import Schema

SHARE = 0.1
ROWS = 60_000
SPECS = (FeatureSpec("row", "numeric", scaling="none"), FeatureSpec("city", "categorical", "string", min_count=20))


def draw(rows, seed):
    """Rows whose number is a column; one in twenty is positive."""
    rng = np.random.default_rng(seed)
    return {
        "row": np.arange(rows, dtype=np.float32),
        "city": rng.choice(np.array(["rome", "oslo", "bonn"], object), rows, p=[0.7, 0.299, 0.001]),
        "label": (rng.random(rows) < 0.05).astype(np.float32),
    }


def cut(columns, size):
    for start in range(0, len(columns["label"]), size):
        yield {name: values[start : start + size] for name, values in columns.items()}


def make_source(size=7000, weights=None, train=None):
    rows = {"train": train or draw(ROWS, 0), "validation": draw(300, 1), "test": draw(200, 2)}
    if weights is not None:
        rows = {name: {**columns, "w": weights(len(columns["label"]))} for name, columns in rows.items()}
    splits = {name: partial(cut, columns, size) for name, columns in rows.items()}
    return Source(SPECS, "label", (("city",),), splits, weight=None if weights is None else "w")


def rows_of(folder, split="train"):
    return concatenate(list(read_columns(split_files(folder, split), Schema.load(folder / "schema.json").columns)))


@pytest.fixture(scope="module")
def sampled(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sampled")
    return prepare(make_source(), folder, negative_sampling=SHARE, progress=False), folder


def test_positives_stay_and_a_share_of_the_negatives_at_the_inverse_weight(sampled):
    schema, folder = sampled
    whole, rows = draw(ROWS, 0), rows_of(folder)
    assert schema.weight == WEIGHT
    positive = rows["label"] == 1
    np.testing.assert_array_equal(rows["row"][positive], np.flatnonzero(whole["label"] == 1))
    negatives = int((whole["label"] == 0).sum())
    deviation = (negatives * SHARE * (1 - SHARE)) ** 0.5
    assert abs((~positive).sum() - SHARE * negatives) < 4 * deviation
    assert set(rows[WEIGHT][positive]) == {1}
    assert set(rows[WEIGHT][~positive]) == {10}
    assert (np.diff(rows["row"]) > 0).all()
    for name, values in rows.items():
        if name != WEIGHT:
            np.testing.assert_array_equal(values, whole[name][rows["row"].astype(int)])


@pytest.mark.parametrize("share", [0.02, 0.1, 0.5])
def test_weighted_sums_are_the_wholes_within_sampling_error(tmp_path, share):
    """Variance of the sum of x w over the kept negatives: (1 - share) / share times the sum of x^2 over all of them."""
    prepare(make_source(), tmp_path, negative_sampling=share, progress=False)
    whole, rows = draw(ROWS, 0), rows_of(tmp_path)
    for of in (
        lambda r: np.ones_like(r["row"]),
        lambda r: r["row"] / ROWS,
        lambda r: (r["city"] == "rome") * 1.0,
        lambda r: np.log1p(r["row"]) * (r["city"] == "oslo"),
    ):
        x = of(whole)
        deviation = ((1 - share) / share * np.square(x[whole["label"] == 0]).sum()) ** 0.5
        assert abs(rows[WEIGHT] @ of(rows) - x.sum()) < 4 * deviation


def test_validation_and_test_rows_stay_whole_at_weight_1(sampled):
    for split, seed, rows in (("validation", 1, 300), ("test", 2, 200)):
        kept = rows_of(sampled[1], split)
        np.testing.assert_array_equal(kept["label"], draw(rows, seed)["label"])
        assert set(kept[WEIGHT]) == {1}


@pytest.mark.parametrize(("size", "rows_per_shard"), [(7000, 1_000_000), (1, 1000), (60_000, 3000), (333, 64)])
def test_neither_batches_nor_shards_choose_the_rows(sampled, tmp_path, size, rows_per_shard):
    few = {name: values[:1000] for name, values in draw(ROWS, 0).items()} if size == 1 else None
    source = make_source(size, train=few)
    schema = prepare(source, tmp_path, rows_per_shard=rows_per_shard, negative_sampling=SHARE, progress=False)
    expected, found = rows_of(sampled[1]), rows_of(tmp_path)
    if few is None:
        assert schema == sampled[0]
    count = len(found["row"])
    assert count == (expected["row"] < 1000).sum() if few else count == len(expected["row"])
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values[:count])


def test_equal_rows_are_kept_one_by_one(tmp_path):
    columns = {"row": np.zeros(ROWS), "city": np.full(ROWS, "rome", object), "label": np.zeros(ROWS)}
    columns["label"][::100] = 1
    prepare(make_source(train=columns), tmp_path, negative_sampling=SHARE, progress=False)
    assert 0.095 < (rows_of(tmp_path)["label"] == 0).sum() / (columns["label"] == 0).sum() < 0.105


def test_weights_of_ones_own_multiply(tmp_path):
    def weights(rows):
        return np.resize(np.float32([0, 1, 2.5]), rows)

    schema = prepare(make_source(weights=weights), tmp_path, negative_sampling=SHARE, progress=False)
    assert (schema.weight, WEIGHT in schema.columns) == ("w", False)
    rows = rows_of(tmp_path)
    own = weights(ROWS)[rows["row"].astype(int)]
    np.testing.assert_array_equal(rows["w"], np.where(rows["label"] == 1, own, 10 * own))
    np.testing.assert_array_equal(rows_of(tmp_path, "test")["w"], weights(200))


def test_priors_are_those_of_the_whole(sampled):
    schema, folder = sampled
    counts = count_tasks(split_files(folder, "train"), schema)
    whole = draw(ROWS, 0)["label"]
    assert counts.positives["primary"] == whole.sum()
    assert counts.rows < 0.2 * ROWS
    assert counts.priors["primary"] == pytest.approx(whole.mean(), rel=0.05)


def test_the_schema_is_learnt_from_the_rows_that_are_kept(sampled, tmp_path):
    """`bonn` is in 60 rows, of which a tenth stay: fewer than `min_count`."""
    assert sampled[0].features[1].vocabulary == ("rome", "oslo")
    assert prepare(make_source(), tmp_path, progress=False).features[1].vocabulary == ("rome", "oslo", "bonn")


def test_a_share_of_1_keeps_all_at_weight_1(tmp_path):
    prepare(make_source(), tmp_path, negative_sampling=1.0, progress=False)
    rows = rows_of(tmp_path)
    assert len(rows["row"]) == ROWS
    assert set(rows[WEIGHT]) == {1}


@pytest.mark.parametrize("share", [0, -0.1, 1.01, float("nan"), float("inf")])
def test_a_share_that_is_none(tmp_path, share):
    with pytest.raises(ValueError, match=rf"`negative_sampling` must be in \(0, 1\].* negative_sampling={share}"):
        prepare(make_source(), tmp_path, negative_sampling=share, progress=False)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("label", "says"),
    [(lambda y: 1 - y, r"Received: 56,952 positives in 60,000 rows \(94.9%\)"), (lambda y: 0 * y, "Received: 0 ")],
)
def test_negatives_that_are_not_the_many(tmp_path, label, says):
    columns = draw(ROWS, 0)
    columns["label"] = label(columns["label"])
    with pytest.raises(ValueError, match=f"at most half, of the training rows. {says}"):
        prepare(make_source(train=columns), tmp_path, negative_sampling=SHARE, progress=False)
    assert not list(tmp_path.iterdir())


def test_a_bad_row_that_would_not_be_kept_is_an_error_all_the_same(sampled, tmp_path):
    columns = draw(ROWS, 0)
    dropped = int(np.setdiff1d(columns["row"], rows_of(sampled[1])["row"])[-1])
    columns["row"][dropped] = np.inf
    with pytest.raises(ValueError, match=f"train: row {dropped}: feature `row` must be finite"):
        prepare(make_source(train=columns), tmp_path, negative_sampling=SHARE, progress=False)


# Dies once the training rows are written, before the folder has its name.
KILLED = """
import importlib.util, os, signal, sys
spec = importlib.util.spec_from_file_location("rows", sys.argv[1])
rows = importlib.util.module_from_spec(spec)
spec.loader.exec_module(rows)
source = rows.make_source()
source.splits["validation"] = lambda: os.kill(os.getpid(), signal.SIGKILL)
rows.prepare(source, sys.argv[2], negative_sampling=rows.SHARE, progress=False)
"""


def test_after_a_kill_the_same_call_gives_the_same_files(sampled, tmp_path, run_python):
    with pytest.raises(AssertionError):
        run_python(KILLED, __file__, tmp_path)
    assert [path.name.startswith(".partial-") for path in tmp_path.iterdir()] == [True]
    assert prepare(make_source(), tmp_path, negative_sampling=SHARE, progress=False) == sampled[0]
    for split in ("train", "validation", "test"):
        (expected,), (found,) = (split_files(folder, split) for folder in (sampled[1], tmp_path))
        assert found.read_bytes() == expected.read_bytes()
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["data", "schema.json"]
