import dataclasses

import numpy as np
import pytest

from c2al_tf.cohorts import Axis, Cohort, Cut, Interval, count_cohorts, count_sizes, cut_axes

COLUMNS = {"sex": np.array(["f", "m", "f", "", "m"], dtype=object), "age": np.array([10, 20, 30, 40, 50])}
PREDICTIONS = np.array([0.0, 0.001, 1.0, 0.5, 0.001])
LABELS = np.array([0, 0, 1, 1, 1], np.float32)
CUTS = cut_axes([Axis(("sex",)), Axis(("age",), edges={"age": (0, 25, 45)})], COLUMNS)


def count(rows=slice(None), labels=LABELS):
    columns = {name: column[rows] for name, column in COLUMNS.items()}
    labels = None if labels is None else labels[rows]
    numbers = np.arange(5)[rows]
    return count_cohorts(PREDICTIONS[rows], columns, CUTS, labels=labels, row_numbers=numbers, num_buckets=4)


def test_by_hand():
    counts = count()
    # Cohorts: sex f, sex m, age [0, 25), age [25, 45). A row of 0.001 lies in the middle: bucket 2 of 0..3.
    assert counts.histograms.shape == (1, 4, counts.num_blocks, 4)
    assert counts.histograms[0].sum(1).tolist() == [[1, 0, 0, 1], [0, 0, 2, 0], [1, 0, 1, 0], [0, 0, 0, 2]]
    assert counts.rows.tolist() == [2, 2, 2, 2]
    assert counts.positives.sum(1).tolist() == [1, 1, 0, 2]
    assert counts.prediction_sums[0].sum(1).tolist() == [1.0, 0.002, 0.001, 1.5]
    assert counts.total_rows == 5


def test_every_baseline_has_its_histograms_and_all_share_the_blocks():
    counts = count_cohorts(np.stack([PREDICTIONS, PREDICTIONS[::-1]]), COLUMNS, CUTS, labels=LABELS, num_buckets=4)
    assert counts.histograms[1].sum(1).tolist() == [[0, 0, 1, 1], [1, 0, 0, 1], [0, 0, 1, 1], [0, 0, 1, 1]]
    np.testing.assert_array_equal(counts.histograms[0].sum(-1), counts.histograms[1].sum(-1))
    np.testing.assert_array_equal(counts.histograms[0], count().histograms[0])


def test_rows_of_a_unit_share_a_block():
    units = np.array(["a", "b", "a", "b", "a"])
    counts = count_cohorts(PREDICTIONS, COLUMNS, CUTS, units=units, num_blocks=97)
    assert (counts.histograms[0].sum(-1) > 0).any(0).sum() == 2
    assert counts.grouped


@pytest.mark.parametrize("labels", [LABELS, None])
def test_counts_of_shards_add_up(labels):
    whole, parts = count(labels=labels), sum([count(slice(0, 2), labels), count(slice(2, 5), labels)])
    assert parts.total_rows == whole.total_rows
    np.testing.assert_array_equal(parts.histograms, whole.histograms)
    np.testing.assert_allclose(parts.prediction_sums, whole.prediction_sums)
    if labels is None:
        assert parts.positives is whole.positives is None
    else:
        np.testing.assert_array_equal(parts.positives, whole.positives)


def test_sums_above_int32_do_not_wrap():
    one = count()
    assert (one + one).histograms.dtype == np.int32
    many = dataclasses.replace(one, histograms=np.where(one.histograms > 0, np.int32(2**31 - 1), np.int32(0)))
    total = sum([many, many, many])
    assert total.histograms.dtype == np.int64
    assert total.histograms.max() == 3 * (2**31 - 1)
    assert total.rows.tolist() == [2 * 3 * (2**31 - 1)] * 4


def test_rows_of_weight_0_are_left_out():
    weights = np.array([1, 0, 0.5, 0, 2])
    counts = count_cohorts(PREDICTIONS, COLUMNS, CUTS, labels=LABELS, weights=weights, num_buckets=4)
    without = count(np.array([0, 2, 4]))
    assert counts.total_rows == without.total_rows == 3
    # A row keeps its number, and so its block.
    np.testing.assert_array_equal(counts.histograms, without.histograms)
    np.testing.assert_array_equal(counts.positives, without.positives)


def test_counts_that_do_not_add_up():
    other = count_cohorts(PREDICTIONS, COLUMNS, CUTS[:1], labels=LABELS, num_buckets=4)
    with pytest.raises(ValueError, match="same cuts, seeds, blocks and buckets"):
        count() + other
    other = count_cohorts(PREDICTIONS, COLUMNS, CUTS, labels=LABELS, units=LABELS, num_buckets=4)
    with pytest.raises(ValueError, match=r"grouped, seed = \(False, 0\) and \(True, 0\)"):
        count() + other
    with pytest.raises(ValueError, match="labels to all shards or none"):
        count() + count(labels=None)


def test_cohorts_may_overlap():
    both = (Cohort("a", (Interval("age", 0, 30),)), Cohort("b", (Interval("age", 20, 40),)))
    assert count_cohorts(PREDICTIONS, COLUMNS, [Cut("given", both)]).rows.tolist() == [2, 2]


def test_sizes_by_hand_and_their_sum():
    weights = np.array([1, 1, 0, 1, 1])
    whole = count_sizes(COLUMNS, CUTS, labels=LABELS, weights=weights)
    assert (whole.total_rows, whole.rows.tolist(), whole.positives.tolist()) == (4, [1, 2, 2, 1], [0, 1, 0, 1])
    parts = [
        count_sizes({n: c[i] for n, c in COLUMNS.items()}, CUTS, labels=LABELS[i], weights=weights[i])
        for i in (slice(0, 2), slice(2, 5))
    ]
    assert sum(parts).rows.tolist() == whole.rows.tolist()
    assert sum(parts).positives.tolist() == whole.positives.tolist()
    with pytest.raises(ValueError, match="same cuts, with labels in all shards or in none"):
        whole + count_sizes(COLUMNS, CUTS)
    with pytest.raises(ValueError, match="Received: neither"):
        count_sizes(COLUMNS, ())
    with pytest.raises(ValueError, match="No column `sex` in the data. Columns there: age"):
        count_sizes({"age": COLUMNS["age"]}, CUTS)
    with pytest.raises(ValueError, match=r"^Training rows, .* Received: 5 training rows, but labels of length 3"):
        count_sizes(COLUMNS, CUTS, labels=LABELS[:3])


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"predictions": PREDICTIONS[:3]}, "Received: 3 predictions, but column `sex` of length 5"),
        ({"labels": LABELS[:3]}, "Received: 5 predictions, but labels of length 3"),
        ({"weights": -LABELS}, "Weights must be finite and at least 0. Received: -1.0 in row 2"),
        ({"weights": LABELS[:3]}, r"must have shape \(5,\), as the rows. Received: shape \(3,\)"),
        ({"labels": LABELS + 1}, "Labels must be 0 or 1. Received: 2.0 in row 2"),
        ({"labels": LABELS * np.nan}, "Labels must be 0 or 1. Received: nan in row 0"),
        ({"predictions": PREDICTIONS * 2}, "Received: 2.0 in row 2"),
        ({"predictions": PREDICTIONS[:, None, None]}, r"Received: shape \(5, 1, 1\)"),
        (
            {"predictions": [PREDICTIONS, 2 * PREDICTIONS]},
            "Received: 2.0 in row 2 of seed 1; 1 of 10 predictions",
        ),
        ({"units": LABELS[:3]}, "but units of length 3"),
        ({"row_numbers": LABELS[:3]}, "but row_numbers of length 3"),
        ({"num_blocks": 1}, "`num_blocks` must be at least 2. Received: num_blocks=1"),
        ({"columns": {"sex": COLUMNS["sex"]}}, "No column `age` in the data. Columns there: sex"),
    ],
)
def test_bad_input(change, match):
    arguments = {"predictions": PREDICTIONS, "columns": COLUMNS, "cuts": CUTS, "labels": LABELS, **change}
    with pytest.raises(ValueError, match=match):
        count_cohorts(**arguments)
