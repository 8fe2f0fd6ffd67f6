"""A gate that a scheduler understands: its status says whether a model may be published."""

import json

import numpy as np
import pytest

from c2al_tf.evaluation.gate import worse_slices


def write(path, **differences: tuple[float, float, float] | None) -> None:
    ne_diff = {
        name: dict(zip(("percent", "low", "high"), given or (None, None, None), strict=True))
        for name, given in differences.items()
    }
    path.write_text(json.dumps({"arms": {"new": {"ne_diff": ne_diff}}}))


@pytest.mark.parametrize(
    ("words", "status"),
    [([], 3), (["--max-worse", "0.5"], 3), (["--max-worse=1"], 0), (["--slices", "all", "wide"], 0)],
)
def test_the_status_says_whether_a_slice_got_worse(c2al, tmp_path, words, status) -> None:
    file = tmp_path / "metrics.json"
    write(file, all=(-0.1, -0.2, 0.0), tail=(1.5, 0.9, 2.1), small=None, wide=(3.0, -1.0, 7.0))
    found = c2al("gate", file, *words)
    assert found.status == status
    if status:
        assert found.output.splitlines()[0] == "new: tail: NE_diff +1.500 % [+0.900, +2.100]"


@pytest.mark.parametrize(
    ("content", "words", "error"),
    [
        ({}, [], "no `arms` and no `ne_diff`"),
        ({"arms": {}}, [], "no `arms` and no `ne_diff`"),
        ({"ne_diff": {}}, [], "without an NE_diff and its interval. Received: none of 'all'"),
        ({"ne_diff": {"all": {"percent": None, "low": None, "high": None}}}, [], "none of 'all'"),
        ({"ne_diff": {"all": {"percent": 0, "low": -1, "high": 1}}}, ["--slices=a"], "must be of all. Received: a"),
    ],
)
def test_what_cannot_be_judged_does_not_pass(c2al, tmp_path, content, words, error) -> None:
    file = tmp_path / "metrics.json"
    file.write_text(json.dumps(content))
    found = c2al("gate", file, *words)
    assert found.status == 1
    assert error in found.error


def test_many_equal_models_pass_mostly() -> None:
    """Of forty slices that differ by chance, one is refused in 2.5 % of gates, not in nearly all."""
    drawn = np.random.default_rng(0).normal(size=(1000, 40)).tolist()
    slices = [{str(s): {"percent": z, "low": z - 1.96, "high": z + 1.96} for s, z in enumerate(row)} for row in drawn]
    refused = sum(bool(worse_slices({"all": differences["0"], **differences})) for differences in slices)
    assert 10 <= refused <= 50


def test_a_run_s_metrics_are_read(c2al, tmp_path) -> None:
    file = tmp_path / "metrics.json"
    file.write_text(json.dumps({"ne_diff": {"all": {"percent": -1.0, "low": -2.0, "high": -0.5}}}))
    found = c2al("gate", file)
    assert (found.status, found.output) == (0, "Passed: no slice got more than 0 % worse beyond chance.\n")
