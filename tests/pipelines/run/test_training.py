"""What is left of a model that was trained otherwise."""

from pathlib import Path

import pytest
from c2al_pipelines.run.arms import Arm
from c2al_pipelines.run.recipe import Trained
from c2al_pipelines.run.training import _begin

from c2al_tf.files import read_json


@pytest.mark.parametrize(("digest", "kept"), [("same", {"checkpoints"}), ("other", set())])
def test_a_model_to_come_keeps_nothing_but_its_own_checkpoints(tmp_path: Path, digest: str, kept: set[str]) -> None:
    folder = tmp_path / "seeds" / "0" / "arm"
    _begin(folder, Trained(Arm("arm"), (), {}, "same", "graph"))
    (folder / "checkpoints").mkdir()
    for name in ("validation_logits.npy", "test_logits.npy", "test_counts.npz", "probe.json"):
        (folder / name).write_bytes(b"of another model")
    _begin(folder, Trained(Arm("arm"), (), {}, digest, "graph"))
    assert {path.name for path in folder.iterdir()} == {"trained.json", *kept}
    assert read_json(folder / "trained.json") == {"arm": "arm", "digest": digest}
