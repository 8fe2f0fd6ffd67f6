"""A gate that a scheduler understands: its status says whether a model may be published."""

import json

import pytest


def write(path, **differences: tuple[float, float, float] | None) -> None:
    ne_diff = {
        name: dict(zip(("percent", "low", "high"), given or (None, None, None), strict=True))
        for name, given in differences.items()
    }
    path.write_text(json.dumps({"arms": {"new": {"ne_diff": ne_diff}}}))


@pytest.mark.parametrize(
    ("words", "status"),
    [
        ([], 3),
        (["--max-worse", "0.5"], 3),
        (["--max-worse=1"], 0),
        (["--slices", "all", "small"], 0),
        (["--slices=a"], 1),
    ],
)
def test_the_status_says_whether_a_slice_got_worse(c2al, tmp_path, words, status) -> None:
    file = tmp_path / "metrics.json"
    write(file, all=(-0.1, -0.2, 0.0), tail=(1.5, 0.9, 2.1), small=None, wide=(3.0, -1.0, 7.0))
    found = c2al("gate", file, *words)
    assert found.status == status
    if status == 3:
        assert found.output.splitlines()[0] == "new: tail: NE_diff +1.500 % [+0.900, +2.100]"
    elif status == 1:
        assert "`slices` must be of all, tail, small, wide. Received: a" in found.error


def test_a_run_s_metrics_are_read(c2al, tmp_path) -> None:
    file = tmp_path / "metrics.json"
    file.write_text(json.dumps({"ne_diff": {"all": {"percent": -1.0, "low": -2.0, "high": -0.5}}}))
    found = c2al("gate", file)
    assert (found.status, found.output) == (0, "Passed: no slice got worse than +0 % beyond chance.\n")
