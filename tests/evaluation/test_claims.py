import numpy as np
import pytest
from scipy import stats

from c2al_tf.blocks import Variation, resample_counts
from c2al_tf.evaluation.claims import claim, p_values
from c2al_tf.evaluation.intervals import NEDifference, ne_differences


def difference(percent, seeds=1e-4, each=1e-4, num_seeds=3):
    variation = Variation(num_seeds, 1000, seeds, each, each / num_seeds)
    margin = 100 * variation.margin
    return NEDifference(percent, percent - margin, percent + margin, (percent,) * num_seeds, variation)


def test_a_slice_whose_seeds_agree_by_chance_has_the_variance_of_the_others():
    """3 % where the seeds of 20 other slices differ by 1 %: nothing, however well its own agree."""
    differences = {f"slice {n}": difference(0.1) for n in range(20)}
    differences["lucky"] = difference(-1.0, seeds=1e-9)
    own = differences["lucky"].variation
    alone = 2 * stats.t.sf(0.01 / own.variance**0.5, own.degrees_of_freedom)
    typical = difference(-1.0).variation
    together = p_values(differences)["lucky"]
    assert together == pytest.approx(2 * stats.t.sf(0.01 / typical.variance**0.5, 21), rel=0.05)
    assert together > alone
    # Slices on which nothing differs do not make the others' variances small.
    differences |= {"equal": difference(0.0, 0.0, 0.0), "nearly": difference(0.0, 1e-12, 1e-12)}
    assert p_values(differences)["lucky"] == pytest.approx(together, rel=0.2)


def test_a_slice_with_more_variance_than_the_others_keeps_its_own():
    differences = {f"slice {n}": difference(0.1) for n in range(20)}
    differences["restless"] = difference(-3.0, seeds=1e-2)
    assert p_values(differences)["restless"] > 0.5


def test_slices_with_few_rows_have_more_variance_over_seeds():
    rng = np.random.default_rng(0)
    each = np.geomspace(1e-5, 1e-2, 60)
    seeds = (2e-4 + 0.5 * each) * rng.chisquare(4, 60) / 4
    differences = {str(n): difference(0.0, s, e, 5) for n, (s, e) in enumerate(zip(seeds, each, strict=True))}
    differences |= {"large": difference(2.0, 0.0, 1e-5, 5), "small": difference(2.0, 0.0, 1e-2, 5)}
    found = p_values(differences)
    for name, size in (("large", 1e-5), ("small", 1e-2)):
        expected = Variation(5, 1000, 2e-4 + 0.5 * size, size, size / 5)
        assert found[name] == pytest.approx(2 * stats.norm.sf(0.02 / expected.variance**0.5), rel=0.5, abs=1e-4)


def test_benjamini_and_hochberg_by_hand(monkeypatch):
    ps = {"a": 0.001, "b": 0.02, "c": 0.04, "d": 0.9, "named": 0.9}
    differences = {name: difference(1.0 if name != "b" else -2.0) for name in ps}
    differences["named"] = NEDifference(-0.5, -0.8, -0.2, (), None)
    monkeypatch.setattr("c2al_tf.evaluation.claims.p_values", lambda _: ps)
    found = claim(differences, ["named"])
    assert found.q_values == pytest.approx({"a": 0.004, "b": 0.04, "c": 0.16 / 3, "d": 0.9})
    assert (found.better, found.worse) == (("b", "named"), ("a",))


def test_slices_without_an_interval_are_never_called_anything():
    nothing = NEDifference(None, None, None, (None, None))
    few = NEDifference(-50.0, None, None, (-50.0, -50.0))
    assert claim({"all": nothing, "few": few}, ["all"]) == claim({}, [])


def test_where_nothing_varies_only_what_differs_is_called():
    differences = {"same": difference(0.0, 0.0, 0.0), "worse": difference(1.0, 0.0, 0.0)}
    assert claim(differences, []).worse == ("worse",)


@pytest.mark.parametrize(("common", "own"), [(0.0, 0.01), (0.01, 0.002)])
@pytest.mark.parametrize("num_seeds", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_of_sixty_slices_without_a_difference_none_is_called(num_seeds, common, own):
    """Models that a seed makes better or worse as a whole, or by slice: own intervals would call some in many tries."""
    called = {"together": 0, "alone": 0}
    counts = resample_counts(100, 100)
    for seed in range(10):
        rng = np.random.default_rng(seed)
        size = rng.uniform(20, 500, (60, 1))
        reference = rng.gamma(size / 20, 1.0, (60, 100)) + 0.01
        noise = own * rng.normal(size=(num_seeds, 60, 1)) + common * rng.normal(size=(num_seeds, 1, 1))
        noise = noise + rng.normal(size=(1, 60, 100)) / size**0.5 / 5
        parts = reference * (1 + noise)
        arm, base = (np.concatenate([x.sum(-2, keepdims=True), x], axis=-2) for x in (parts, reference))
        found = ne_differences(arm, np.repeat(base[None], num_seeds, 0), counts)
        differences = {"all" if n == 0 else str(n): d for n, d in enumerate(found)}
        claims = claim(differences, ["all"])
        called["together"] += bool({*claims.better, *claims.worse} - {"all"})
        called["alone"] += any(d.low > 0 or d.high < 0 for d in found[1:])
    assert called["together"] <= 1  # 0.5 is expected at most
    assert called["alone"] > 2
