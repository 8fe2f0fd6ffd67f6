"""Worlds in which `c2al tune` answers: when an answer is wrong, the table, and one small world that is kept."""

import pytest
import yaml
from c2al_pipelines.tuning.worlds import TunedWorld, as_markdown, main

from c2al_tf.files import read_json

GAIN, NONE = (-0.2, -0.3, -0.1), (-0.1, -0.3, 0.1)


def world(seed, answer="use", gains=("all",), many=GAIN, expected=-0.2, planted=True):
    differences = {"all": many, "head": NONE, "tail": NONE, "rest": NONE}
    ne = {"baseline": 0.9, "c2al": 0.89, "truth": 0.85}
    return TunedWorld(seed, planted, answer, gains, ("a", "b"), "learnt", differences, differences, expected, ne)


def test_an_answer_is_wrong_if_many_seeds_or_the_truth_show_no_gain() -> None:
    assert not world(1).wrong
    assert world(2, many=NONE).wrong
    assert world(3, expected=0.1).wrong
    assert world(4, gains=("tail",)).wrong, "the tail's interval holds 0"
    assert not world(5, answer="undecided", gains=(), many=NONE, expected=0.1).wrong


def test_the_table_counts_the_answers() -> None:
    text = as_markdown([world(1), world(2, many=NONE, planted=False), TunedWorld(3, False, "do not use")], 20)
    assert "| 1 | yes | use | learnt | -0.20 [-0.30, -0.10] |" in text
    assert "| 3 | no | do not use | - | - | - | - | - | - | - |" in text
    assert "`use` in 2 of 3 worlds, 1 of them planted. 1 of these answers are wrong" in text


@pytest.mark.slow
def test_a_world_is_measured_and_kept(small_words, tmp_path) -> None:
    values: dict = {"title": "Small", "tune": {"budget": 1, "search_seeds": 1}, "data": {"name": "synthetic_ads"}}
    for word in small_words(tmp_path)[2:]:
        at, (path, value) = values, word[2:].split("=", 1)
        *folders, name = path.split(".")
        for folder in folders:
            at = at.setdefault(folder, {})
        at[name] = yaml.safe_load(value)
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(values))
    main(tmp_path / "small.yaml", 2, 5, 3, tmp_path / "worlds")
    found = read_json(tmp_path / "worlds" / "worlds.json")
    assert [(entry["seed"], entry["planted"]) for entry in found] == [(5, True), (6, False)]
    assert found[0]["ne"]["truth"] < found[0]["ne"]["baseline"]
    assert not (tmp_path / "worlds" / "world_5" / "seeds").exists()
    main(tmp_path / "small.yaml", 2, 5, 3, tmp_path / "worlds")
    assert read_json(tmp_path / "worlds" / "worlds.json") == found
