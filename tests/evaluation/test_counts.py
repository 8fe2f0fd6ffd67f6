import dataclasses
import functools

import numpy as np
import pytest

from c2al_tf.evaluation import add_label, compare_arms, count_arms, evaluate_by_cohort, join_arms, join_slices

ROWS, SEEDS = 6000, 3


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    labels = (rng.random(ROWS) < 0.2).astype(np.float32)
    group = rng.integers(3, size=ROWS)
    base = rng.normal(size=(SEEDS, ROWS)) + labels - 1.5
    logits = {"baseline": base, "c2al": base + 0.1 * rng.normal(size=(SEEDS, ROWS)), "other": 1.1 * base}
    slices = {f"group_{g}": group == g for g in range(3)} | {"nobody": np.zeros(ROWS, bool), "clicks": labels == 1}
    weights = np.where(rng.random(ROWS) < 0.1, 0.0, rng.random(ROWS))
    return logits, labels, slices, weights, rng.integers(500, size=ROWS)


def shard(data, rows, weighted, grouped, numbered=True, **settings):
    logits, labels, slices, weights, users = data
    return count_arms(
        {arm: z[:, rows] for arm, z in logits.items()},
        labels[rows],
        {name: mask[rows] for name, mask in slices.items()},
        weights=weights[rows] if weighted else None,
        units=users[rows] if grouped else None,
        row_numbers=rows if numbered else None,
        **settings,
    )


SHARDINGS = {
    "runs of rows": np.split(np.arange(ROWS), [7, 2500, 2500]),
    "every third": [np.arange(i, ROWS, 3) for i in range(3)],
    "sorted by label": lambda labels: np.split(np.argsort(labels, kind="stable"), 2),
}


@pytest.fixture(scope="module")
def whole_of(data):
    """The evaluation of all rows at once, weighted or not, grouped or not."""
    logits, labels, slices, weights, users = data

    @functools.cache
    def evaluate(weighted, grouped):
        given = {"weights": weights if weighted else None, "units": users if grouped else None}
        return evaluate_by_cohort(logits, labels, slices, **given)

    return evaluate


@pytest.mark.parametrize(
    ("shards", "weighted", "grouped"),
    [
        ("runs of rows", False, False),
        ("runs of rows", True, True),
        ("every third", True, False),
        ("every third", False, True),
        ("sorted by label", True, True),
    ],
)
def test_merged_shards_are_all_rows_at_once(data, whole_of, shards, weighted, grouped):
    whole, shards = whole_of(weighted, grouped), SHARDINGS[shards]
    shards = shards(data[1]) if callable(shards) else shards
    merged = compare_arms(sum(shard(data, rows, weighted, grouped) for rows in shards))
    assert merged.interval == whole.interval
    assert 0 < merged.auc_error < 1e-3
    assert whole.auc_error == 0
    for arm, by_slice in whole.metrics.items():
        for name, seeds in by_slice.items():
            for expected, found in zip(seeds, merged.metrics[arm][name], strict=True):
                assert_close(found, expected, rel=1e-12, besides={"auc": merged.auc_error})
    for arm, by_slice in whole.ne_diff.items():
        for name, difference in by_slice.items():
            found, expected = vars(merged.ne_diff[arm][name]), vars(difference)
            # In percent, and 0 where nothing differs.
            alone = {"by_seed": 0, "variation": 0}
            assert_close({**found, **alone}, {**expected, **alone}, rel=1e-11, abs=1e-11)
            assert_close(*(dict(enumerate(d["by_seed"])) for d in (found, expected)), rel=1e-11, abs=1e-11)


def assert_close(found, expected, besides=None, **tolerance):
    assert {name for name, value in found.items() if value is None} == {n for n, v in expected.items() if v is None}
    for name, value in expected.items():
        if value is not None:
            error = {"abs": besides[name]} if besides and name in besides else tolerance
            assert found[name] == pytest.approx(value, **error)


def test_by_hand():
    # The losses of logit 0 are log 2, whatever the label; the middle row weighs nothing.
    logits = {"a": np.array([0.0, 5.0, 0.0]), "b": np.array([0.0, 5.0, np.log(3)])}
    counts = count_arms(logits, [0, 1, 1], {"last": [False, False, True]}, weights=[2, 0, 1], num_blocks=2)
    assert (counts.arms, counts.slices, counts.num_seeds, counts.num_blocks) == (("a", "b"), ("all", "last"), 1, 2)
    assert counts.rows.tolist() == [2, 1]
    assert counts.positives.tolist() == [1, 1]
    assert counts.weight.tolist() == [3, 1]
    assert counts.positive_weight.tolist() == [1, 1]
    assert counts.block_rows.sum() == 2
    np.testing.assert_allclose(counts.losses.sum(-1)[:, 0], [[3 * np.log(2), np.log(2)], np.log([2**2 * 4 / 3, 4 / 3])])
    np.testing.assert_allclose(counts.predictions[:, 0], [[1.5, 0.5], [1.75, 0.75]])
    assert counts.scores.sum((1, 4)).tolist() == [[[2, 1], [0, 1]]] * 2


def test_a_shard_without_rows_adds_nothing(data):
    nothing, rows = np.array([], np.int64), np.arange(100)
    merged = sum([shard(data, nothing, True, True), shard(data, rows, True, True)])
    assert compare_arms(merged) == compare_arms(shard(data, rows, True, True))


def test_without_row_numbers_a_shard_is_taken_for_all_rows(data):
    whole = shard(data, np.arange(ROWS), False, False)
    unnumbered = shard(data, np.arange(ROWS), False, False, numbered=False)
    np.testing.assert_array_equal(whole.losses, unnumbered.losses)
    later = np.arange(3000, ROWS)
    numbered, unnumbered = (shard(data, later, False, False, numbered) for numbered in (True, False))
    assert not np.array_equal(numbered.block_rows, unnumbered.block_rows)


def test_counts_that_do_not_add_up(data):
    counts = shard(data, np.arange(9), False, False)
    logits, labels, slices, _, _ = data
    with pytest.raises(ValueError, match="only over the same slices. Received: .*'group_0'.* and .'all',."):
        counts + count_arms(logits, labels, {})
    with pytest.raises(ValueError, match="only over the same num_seeds. Received: 3 and 1"):
        counts + count_arms({arm: z[0] for arm, z in logits.items()}, labels, slices)
    with pytest.raises(ValueError, match="only over the same grouped. Received: False and True"):
        counts + shard(data, np.arange(9), False, True)
    with pytest.raises(ValueError, match="only over the same num_blocks. Received: 1000 and 10"):
        counts + shard(data, np.arange(9), False, False, num_blocks=10)
    with pytest.raises(ValueError, match="only over the same seed. Received: 0 and 1"):
        counts + shard(data, np.arange(9), False, False, seed=1)


def test_bad_input(data):
    logits, labels, slices, _, _ = data
    with pytest.raises(ValueError, match="`logits` must hold at least one arm"):
        count_arms({}, labels, slices)
    with pytest.raises(ValueError, match=r"`row_numbers` must have one id per row, shape \(6000,\). Received: shape"):
        count_arms(logits, labels, slices, row_numbers=np.arange(3))
    with pytest.raises(ValueError, match=r"`reference` must name an arm. Received: 'none'; there are \['baseline', "):
        compare_arms(count_arms(logits, labels, slices), reference="none")


def test_models_that_are_counted_one_by_one_join_to_arms(data, whole_of):
    logits, labels, slices, weights, users = data
    parts = {
        arm: [count_arms({arm: z}, labels, slices, weights=weights, units=users, exact=True) for z in seeds]
        for arm, seeds in logits.items()
    }
    assert compare_arms(join_arms(parts)) == whole_of(True, True)
    with pytest.raises(
        ValueError, match="every arm needs the same number of them. Received: {'baseline': 3, 'c2al': 2"
    ):
        join_arms(parts | {"c2al": parts["c2al"][:2]})
    parts["other"][1] = count_arms({"other": logits["other"][1]}, labels, slices, weights=weights, exact=True)
    with pytest.raises(ValueError, match="on the same rows and slices. Received: others for arm 'other'"):
        join_arms(parts)


@pytest.mark.parametrize("exact", [False, True])
def test_slices_that_are_counted_one_by_one_join(data, exact):
    logits, labels, slices, weights, users = data
    count = functools.partial(count_arms, logits, labels, weights=weights, units=users, exact=exact)
    whole, parts = count(slices), [count({name: mask}) for name, mask in slices.items()]
    joined = join_slices(parts, whole.slices)
    for field in dataclasses.fields(whole):
        np.testing.assert_array_equal(getattr(joined, field.name), getattr(whole, field.name))
    some = list(whole.slices)[::2]
    np.testing.assert_array_equal(join_slices([whole], some).losses, whole.losses[:, :, ::2])
    other = {"group_0": ~slices["group_0"]}
    first = join_slices([count(other), whole], whole.slices)
    assert first.rows[first.slices.index("group_0")] == np.count_nonzero(other["group_0"] & (weights > 0))
    with pytest.raises(ValueError, match="`slices` must be of .*, 'all' first. Received: .'all', 'none'"):
        join_slices(parts, ["all", "none"])
    with pytest.raises(ValueError, match="for the same arms and rows"):
        join_slices([whole, count_arms(logits, labels, slices, exact=exact)], whole.slices)
    others = count_arms(logits, 1 - labels, slices, weights=weights, units=users, exact=exact)
    with pytest.raises(ValueError, match="for the same arms and rows"):
        join_slices([whole, others], whole.slices)


@pytest.mark.parametrize("exact", [False, True])
def test_another_label_is_further_slices(data, exact):
    logits, labels, slices, weights, users = data
    count = functools.partial(count_arms, weights=weights, units=users, exact=exact)
    other = {arm: -seeds for arm, seeds in logits.items()}, 1 - labels
    both = compare_arms(
        add_label(count(logits, labels, slices), "bought", count(*other, {"group_0": slices["group_0"]}))
    )
    alone = compare_arms(count(*other, slices))
    for arm, found in alone.metrics.items():
        assert both.metrics[arm]["bought"] == found["all"]
        assert both.metrics[arm]["bought, group_0"] == found["group_0"]
    assert both.ne_diff["c2al"]["bought"] == alone.ne_diff["c2al"]["all"]
    assert both.metrics["c2al"]["all"] == compare_arms(count(logits, labels, slices)).metrics["c2al"]["all"]
    with pytest.raises(ValueError, match="on the same arms and rows. Received: others for 'bought'"):
        add_label(count(logits, labels, {}), "bought", count_arms(*other, {}, exact=exact))


def test_exact_counts_are_of_all_rows(data):
    logits, labels, slices, _, _ = data
    counts = count_arms(logits, labels, slices, exact=True)
    assert counts.scores.size == 0, "no histogram is kept that nobody reads"
    with pytest.raises(ValueError, match="Counts with exact AUCs are of all rows and do not add up"):
        counts + counts
