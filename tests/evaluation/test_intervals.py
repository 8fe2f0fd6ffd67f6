import numpy as np
import pytest

from c2al_tf.blocks import resample_counts
from c2al_tf.evaluation.intervals import ne_differences

NUM_BLOCKS = 300
TRUE_PERCENT = -1.0


def simulate(num_seeds, num_trials, seed_noise=0.0, row_noise=0.0, both_noise=0.0):
    """Block losses of trials (as slices) whose NE_diff varies with seeds, rows, and rows in each seed's own way."""
    rng = np.random.default_rng(num_seeds)
    of_seed, of_row, of_both = (
        (num_seeds, num_trials, 1),
        (1, num_trials, NUM_BLOCKS),
        (num_seeds, num_trials, NUM_BLOCKS),
    )
    reference = rng.gamma(2.0, size=of_row) * np.exp(0.05 * rng.normal(size=of_seed) + 0.1 * rng.normal(size=of_both))
    relative = TRUE_PERCENT / 100 + seed_noise * rng.normal(size=of_seed)
    # A mean over blocks varies by 1 / sqrt(blocks) of what a block does.
    relative = relative + row_noise * NUM_BLOCKS**0.5 * rng.normal(size=of_row)
    relative = relative + both_noise * NUM_BLOCKS**0.5 * rng.normal(size=of_both)
    return reference * (1 + relative), reference


def coverage(losses, reference):
    differences = ne_differences(losses, reference, resample_counts(NUM_BLOCKS, 400))
    return np.mean([d.low <= TRUE_PERCENT <= d.high for d in differences])


@pytest.mark.parametrize("num_seeds", [3, 6])
@pytest.mark.parametrize(
    "noise",
    [
        {"seed_noise": 3e-3, "row_noise": 3e-4, "both_noise": 3e-4},
        {"seed_noise": 3e-4, "row_noise": 3e-3, "both_noise": 3e-4},
        {"seed_noise": 3e-3, "row_noise": 3e-3, "both_noise": 3e-3},
        {"seed_noise": 3e-3, "both_noise": 3e-3},
        # Counted twice, this noise would make intervals that cover 99.8 %.
        {"both_noise": 3e-3},
    ],
    ids=["seeds", "rows", "all", "no shared rows", "each seed's rows"],
)
def test_interval_covers_the_truth(num_seeds, noise):
    # The standard error of a coverage of 95 % over 1,000 trials is 0.7 %.
    assert 0.925 <= coverage(*simulate(num_seeds, 1000, **noise)) <= 0.99


def test_rows_alone_do_not_cover_where_seeds_differ():
    losses, reference = simulate(1, 1000, seed_noise=3e-3, row_noise=1e-3, both_noise=1e-3)
    assert coverage(losses, reference) < 0.85
    losses, reference = simulate(1, 1000, row_noise=1e-3, both_noise=1e-3)
    assert coverage(losses, reference) > 0.925


def test_percentile_bootstrap_over_few_seeds_would_be_too_narrow():
    losses, reference = simulate(3, 1000, seed_noise=3e-3, row_noise=3e-4)
    by_seed = 100 * (losses.sum(-1) / reference.sum(-1) - 1)
    drawn = np.random.default_rng(0).integers(3, size=(400, 3))
    low, high = np.quantile(by_seed[drawn].mean(axis=1), [0.025, 0.975], axis=0)
    assert np.mean((low <= TRUE_PERCENT) & (high >= TRUE_PERCENT)) < 0.85


def test_figure_is_the_mean_of_the_seeds():
    losses, reference = np.array([[[1.0, 2.0]], [[3.0, 3.0]]]), np.array([[[2.0, 2.0]], [[2.0, 3.0]]])
    (difference,) = ne_differences(losses, reference, resample_counts(2))
    assert difference.by_seed == pytest.approx((-25.0, 20.0))
    assert difference.percent == pytest.approx(-2.5)
    assert difference.low < difference.percent < difference.high


def test_equal_arms_differ_by_nothing():
    reference = np.random.default_rng(0).gamma(2.0, size=(3, 1, 50))
    (difference,) = ne_differences(reference, reference, resample_counts(50))
    assert (difference.percent, difference.low, difference.high) == (0.0, 0.0, 0.0)


def test_tiny_slices_have_no_interval():
    reference = np.zeros((2, 2, 10))
    reference[:, 1, 3] = 1.0
    empty, one_block = ne_differences(0.9 * reference, reference, resample_counts(10))
    assert (empty.percent, empty.low, empty.high, empty.by_seed) == (None, None, None, (None, None))
    assert one_block.percent == pytest.approx(-10)
    assert (one_block.low, one_block.high) == (None, None)


def test_never_narrower_than_rows_alone():
    # Seeds that happen to agree do not take away what the rows leave open.
    rng = np.random.default_rng(0)
    reference = np.ones((2, 1, 200))
    first = 0.1 * rng.normal(size=200)
    losses = reference + np.stack([first, rng.permutation(first)])[:, None]
    (both,) = ne_differences(losses, reference, resample_counts(200))
    each = [ne_differences(losses[k : k + 1], reference[:1], resample_counts(200))[0] for k in range(2)]
    rows_alone = np.mean([d.high - d.low for d in each]) / 2**0.5
    assert both.by_seed[0] == pytest.approx(both.by_seed[1])
    assert both.high - both.low > 0.9 * rows_alone


def test_bad_input():
    with pytest.raises(ValueError, match=r"must have one shape"):
        ne_differences(np.ones((1, 1, 4)), np.ones((2, 1, 4)), resample_counts(4))
