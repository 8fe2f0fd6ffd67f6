"""Fresh worlds: what is counted, and one run of two small worlds that is not repeated."""

import pytest
import yaml
from c2al_pipelines.experiments import worlds
from c2al_pipelines.experiments.worlds import World, as_markdown, main

from c2al_tf.files import read_json


def world(seed, tail, overlap=(0.99, 0.95), worse=()) -> World:
    return World(
        seed, overlap, {"all": (-0.1, -0.2, 0.1), "head": (0, -1, 1), "tail": tail, "rest": (0, 0, 0)}, worse, 30
    )


def test_a_world_without_a_pair_is_not_found() -> None:
    text = as_markdown([world(1, (-2.0, -3.0, -1.0)), World(2, (0.0, 0.0), {}, (), 0)])
    assert "| 2 | no | - | - | - | - | none |" in text
    assert "found in 1 of 2 worlds" in text
    assert "| mean | | -0.100 |" in text


def test_the_worlds_that_answer_are_counted() -> None:
    found = [
        world(1, (-2.0, -3.0, -1.0)),
        world(2, (-1.0, -2.5, 0.5), (0.99, 0.5)),
        world(3, (-1, -2, -0.1), worse=("a",)),
    ]
    text = as_markdown(found)
    assert "| 2 | no | -0.10 [-0.20, +0.10] | +0.00 [-1.00, +1.00] | -1.00 [-2.50, +0.50] |" in text
    assert "| 3 | yes |" in text
    assert "| mean | | -0.100 | +0.000 | -1.333 | +0.000 | |" in text
    assert "found in 2 of 3 worlds" in text
    assert "interval lies below 0 in 2. The evaluation calls 1 of 90 slices worse." in text


@pytest.mark.slow
def test_a_world_that_is_there_is_kept(small_words, tmp_path, monkeypatch) -> None:
    values: dict = {}
    for word in small_words(tmp_path)[2:]:
        at, (path, value) = values, word[2:].split("=", 1)
        *folders, name = path.split(".")
        for folder in folders:
            at = at.setdefault(folder, {})
        at[name] = yaml.safe_load(value)
    values |= {"title": "Small"}
    values["data"]["name"] = "synthetic_ads"
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(values))
    main(tmp_path / "small.yaml", 2, 5, tmp_path / "worlds")
    found = read_json(tmp_path / "worlds" / "worlds.json")
    assert [entry["seed"] for entry in found] == [5, 6]
    assert found[0]["ne_diff"] != found[1]["ne_diff"]
    assert not (tmp_path / "worlds" / "world_5" / "data").exists()
    assert (tmp_path / "worlds" / "worlds.md").read_text().count("\n| ") >= 3
    values["cohorts"]["lambdas"] = [0.7]
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(ValueError, match="world_5 holds a world of another configuration"):
        main(tmp_path / "other.yaml", 2, 5, tmp_path / "worlds")
    (tmp_path / "arms.yaml").write_text(yaml.safe_dump(values | {"arms": [{"name": "baseline"}]}))
    with pytest.raises(ValueError, match="with two cohorts to be found and without `arms`"):
        main(tmp_path / "arms.yaml", 2, 5, tmp_path / "worlds")
    monkeypatch.setattr(worlds, "run_experiment", None)
    main(tmp_path / "small.yaml", 2, 5, tmp_path / "worlds")
    assert read_json(tmp_path / "worlds" / "worlds.json") == found
