"""What an exported step is, and that what is drawn for it fits."""

import json
from pathlib import Path

import numpy as np
import pytest
from c2al_pipelines.benchmarks import device_step


def test_every_argument_of_the_program_is_described(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_step, "CASES", {"batch 8, two cohort heads": (8, 2, False)})
    device_step.export(tmp_path)
    (case,) = json.loads((tmp_path / "cases.json").read_text()).values()
    assert (tmp_path / case["file"]).stat().st_size > 10_000
    kinds = [kind for kind, *_ in case["arguments"]]
    # 26 columns, three labels, a weight.
    assert kinds.count("row") == 30
    rng = np.random.default_rng(0)
    for kind, dtype, shape in case["arguments"]:
        drawn = device_step._draw(rng, kind, dtype, shape)
        assert (drawn.dtype.name, list(drawn.shape)) == (dtype, shape)
        assert np.all(drawn >= 0)
