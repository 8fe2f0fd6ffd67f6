"""Which crosses of a run's axes are cut beside them."""

from types import SimpleNamespace

import pytest
from c2al_pipelines.run.targets import _crosses

from c2al_tf.cohorts import Axis


def run_of(*axes: Axis) -> SimpleNamespace:
    """A run whose pairs diverge most along the last axes."""
    pairs = [
        SimpleNamespace(axis=axis.name, too_small=False, divergences={"js": 0.1 * number})
        for number, axis in enumerate(axes)
    ]
    discovery = SimpleNamespace(pairs=pairs, divergence="js")
    return SimpleNamespace(config=SimpleNamespace(cohorts=SimpleNamespace(axes=axes)), discovery=discovery)


def test_the_most_divergent_axes_are_crossed_and_no_cross_twice() -> None:
    cuts = {"age": (0.0, 0.1, 1.0)}
    axes = (Axis(("sex",)), Axis(("city",)), Axis(("age",), quantiles=cuts, max_cohorts=30), Axis(("age", "city")))
    first, second = _crosses(run_of(*axes), 2)
    assert (first.columns, first.quantiles, first.max_cohorts) == (("age", "sex"), cuts, 30)
    assert second.columns == ("city", "sex")
    with pytest.raises(ValueError, match="`crosses` must be at most 2: .* Received: crosses=3"):
        _crosses(run_of(*axes), 3)


def test_two_axes_on_one_column_are_not_crossed() -> None:
    axes = (Axis(("age",)), Axis(("age",), quantiles={"age": (0.0, 0.5, 1.0)}, name="halves"), Axis(("city",)))
    (cross,) = _crosses(run_of(*axes), 1)
    assert cross.columns == ("age", "city")
