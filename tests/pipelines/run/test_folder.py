import dataclasses
import json

import numpy as np
import pytest
from c2al_pipelines.run.arms import Arm
from c2al_pipelines.run.config import CohortsConfig, DataConfig, RunConfig
from c2al_pipelines.run.folder import RunFolder, save_array

from c2al_tf.cohorts import Axis, Discovery
from c2al_tf.config import TrainingConfig
from c2al_tf.files import read_json, write_json

AXIS = Axis(("age",), {"age": (0.0, 18.0, float("inf"))})
DISCOVERY = [field.name for field in dataclasses.fields(Discovery)]
CONFIG = RunConfig("a run", DataConfig("synthetic_ads"), cohorts=CohortsConfig(axes=(AXIS,)), seeds=3, first_seed=5)


def test_starting_writes_the_configuration(tmp_path) -> None:
    run = RunFolder.start(tmp_path / "runs" / "new", CONFIG)
    assert read_json(run.path / "config.json") == CONFIG.to_json()
    assert run.seeds == [5, 6, 7]
    assert run.model_folder(6, "c2al") == run.path / "seeds" / "6" / "c2al"


def test_the_same_configuration_goes_on(tmp_path) -> None:
    run = RunFolder.start(tmp_path, CONFIG)
    (run.path / "schema.json").touch()
    assert RunFolder.start(tmp_path, CONFIG) == run


def test_whether_xla_compiles_may_change(tmp_path) -> None:
    run = RunFolder.start(tmp_path, CONFIG)
    (run.path / "schema.json").touch()
    training = dataclasses.replace(CONFIG.training, jit_compile=True)
    assert RunFolder.start(tmp_path, dataclasses.replace(CONFIG, training=training)).jit_compile is True


def test_another_configuration_is_an_error_that_names_every_difference(tmp_path) -> None:
    RunFolder.start(tmp_path, CONFIG)
    (tmp_path / "schema.json").touch()
    before = (tmp_path / "config.json").read_bytes()
    training = dataclasses.replace(CONFIG.training, epochs=9)
    cohorts = dataclasses.replace(CONFIG.cohorts, divergence="kl")
    with pytest.raises(ValueError, match="holds a run of another configuration") as error:
        RunFolder.start(tmp_path, dataclasses.replace(CONFIG, training=training, cohorts=cohorts, unit="user"))
    assert (
        "[\"cohorts.divergence ('js' there, 'kl' now)\", 'training.epochs (1 there, 9 now)', "
        "\"unit (None there, 'user' now)\"]. Choose another --run-dir, or remove the folder to start over"
    ) in str(error.value)
    assert (tmp_path / "config.json").read_bytes() == before


def test_other_lambdas_and_arms_go_on(tmp_path) -> None:
    """Models are known by what their training read."""
    RunFolder.start(tmp_path, CONFIG)
    (tmp_path / "schema.json").touch()
    cohorts = dataclasses.replace(CONFIG.cohorts, lambdas=(0.5,))
    arms = (Arm("baseline"), Arm("static", model={"attention": "static"}))
    run = RunFolder.start(tmp_path, dataclasses.replace(CONFIG, cohorts=cohorts, arms=arms))
    assert list(run.arms) == ["baseline", "static"]


def test_arms_that_train_alike_share_a_folder(tmp_path) -> None:
    run = RunFolder.start(tmp_path, CONFIG)
    run.claim_folder("c2al", "digest-one")
    assert run.model_folder(6, "c2al") == tmp_path / "seeds" / "6" / "c2al"
    run.claim_folder("again", "digest-one")
    assert run.model_folder(6, "again") == tmp_path / "seeds" / "6" / "c2al"
    run.claim_folder("c2al", "digest-two")
    assert run.model_folder(6, "c2al") == tmp_path / "seeds" / "6" / "c2al-digest-t"
    run.claim_folder("c2al", "digest-one")
    assert run.model_folder(6, "c2al") == tmp_path / "seeds" / "6" / "c2al"


def test_models_of_unknown_training_are_not_taken_over(tmp_path) -> None:
    """A model without the digest of its training, or with another one, is no model of this arm."""
    run = RunFolder.start(tmp_path, CONFIG)
    model = tmp_path / "seeds" / "5" / "c2al" / "model.keras"
    model.parent.mkdir(parents=True)
    model.touch()
    run.claim_folder("c2al", "digest-one")
    assert run.model_folder(5, "c2al").name == "c2al-digest-o"
    (tmp_path / "arms.json").unlink()
    write_json(model.with_name("trained.json"), {"digest": "digest-two"})
    run.claim_folder("c2al", "digest-one")
    assert run.model_folder(5, "c2al").name == "c2al-digest-o"
    (tmp_path / "arms.json").unlink()
    run.claim_folder("c2al", "digest-two")
    assert run.model_folder(5, "c2al").name == "c2al"


def test_another_baseline_needs_another_folder(tmp_path) -> None:
    """The cohorts were found in its predictions."""
    RunFolder.start(tmp_path, CONFIG)
    (tmp_path / "schema.json").touch()
    arms = (Arm("baseline", model={"attention": "static"}), Arm("other"))
    with pytest.raises(ValueError, match="they differ in .*baseline.model"):
        RunFolder.start(tmp_path, dataclasses.replace(CONFIG, arms=arms))


def test_as_long_as_no_rows_are_prepared_the_configuration_may_change(tmp_path) -> None:
    """Else a data set that was described wrongly could not be described rightly."""
    RunFolder.start(tmp_path, CONFIG)
    changed = dataclasses.replace(CONFIG, seeds=1)
    assert RunFolder.start(tmp_path, changed).config == changed
    assert read_json(tmp_path / "config.json")["seeds"] == 1


def test_the_number_of_seeds_may_change(tmp_path) -> None:
    """What is trained stays of use."""
    RunFolder.start(tmp_path, CONFIG)
    (tmp_path / "schema.json").touch()
    assert RunFolder.start(tmp_path, dataclasses.replace(CONFIG, seeds=5)).seeds == [5, 6, 7, 8, 9]
    assert read_json(tmp_path / "config.json")["seeds"] == 5
    with pytest.raises(ValueError, match=r"first_seed \(5 there, 0 now\)"):
        RunFolder.start(tmp_path, dataclasses.replace(CONFIG, seeds=5, first_seed=0))


def test_an_older_configuration_has_the_defaults_of_the_keys_that_it_lacks(tmp_path) -> None:
    RunFolder.start(tmp_path, CONFIG)
    (tmp_path / "schema.json").touch()
    older = CONFIG.to_json()
    del older["cohorts"]["given"], older["unit"]
    write_json(tmp_path / "config.json", older)
    assert RunFolder.start(tmp_path, CONFIG).config == CONFIG
    write_json(tmp_path / "config.json", older)
    with pytest.raises(ValueError, match=r"they differ in \[\"unit \(None there, 'user' now\)\"\]"):
        RunFolder.start(tmp_path, dataclasses.replace(CONFIG, unit="user"))


def test_a_configuration_of_another_version_is_named(c2al, tmp_path) -> None:
    RunFolder.start(tmp_path, CONFIG)
    (tmp_path / "schema.json").touch()
    older = CONFIG.to_json()
    older["cohorts"]["guard"]["min_rows"] = 100
    write_json(tmp_path / "config.json", older)
    with pytest.raises(ValueError, match=rf"{tmp_path}/config.json was written by another version") as error:
        RunFolder.start(tmp_path, CONFIG)
    assert "min_rows" in str(error.value)
    assert str(error.value).endswith("Choose another --run-dir, or remove the folder to start over")
    outcome = c2al("discover", "--run-dir", tmp_path)
    assert (outcome.status, outcome.error) == (1, f"c2al: {error.value}")


@pytest.mark.parametrize(
    "json", [{"best": None, "pairs": ["x" * 2000]}, {**dict.fromkeys(DISCOVERY), "guard": {"min_rows": 5}}, []]
)
def test_cohorts_of_another_version_name_file_and_remedy(tmp_path, json) -> None:
    write_json(tmp_path / "cohorts.json", json)
    with pytest.raises(ValueError, match=rf"^{tmp_path}/cohorts.json was written by another version \(") as error:
        _ = RunFolder(tmp_path, CONFIG).discovery
    assert "Remove it, then run the same command again" in str(error.value)
    assert len(str(error.value)) < 600 + 2 * len(str(tmp_path))


def test_a_damaged_configuration_is_named(tmp_path) -> None:
    RunFolder.start(tmp_path, CONFIG)
    (tmp_path / "schema.json").touch()
    (tmp_path / "config.json").write_text('{"title":')
    with pytest.raises(ValueError, match=r"config\.json: not valid JSON"):
        RunFolder.start(tmp_path, CONFIG)


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("schema.json", "prepare CONFIG"),
        ("cohorts.json", "discover"),
        ("metrics.json", "evaluate"),
        ("export.json", "export"),
    ],
)
def test_an_absent_file_names_the_step_that_writes_it(tmp_path, name, step) -> None:
    run = RunFolder(tmp_path, CONFIG)
    with pytest.raises(ValueError, match=rf"{name} is not there yet. Run `c2al {step} --run-dir {tmp_path}` first"):
        run.file(name)
    (tmp_path / name).touch()
    assert run.file(name) == tmp_path / name


def test_an_absent_model_names_the_step(tmp_path) -> None:
    with pytest.raises(ValueError, match=rf"Run `c2al train --run-dir {tmp_path} --arm baseline` first"):
        RunFolder(tmp_path, CONFIG).model_file(5, "baseline")


def test_an_array_is_there_whole_or_not_at_all(tmp_path) -> None:
    save_array(tmp_path / "new" / "logits.npy", np.arange(3, dtype=np.float32))
    np.testing.assert_array_equal(np.load(tmp_path / "new" / "logits.npy"), np.arange(3, dtype=np.float32))
    with pytest.raises(ValueError, match="allow_pickle"):
        save_array(tmp_path / "objects.npy", np.array(["text", None], object))
    assert [path.name for path in tmp_path.rglob("*")] == ["new", "logits.npy"]


def test_the_configuration_survives_json() -> None:
    config = dataclasses.replace(CONFIG, training=TrainingConfig(clip_norm=1.5))
    value = json.loads(json.dumps(config.to_json()))
    assert value == config.to_json()
    assert value["cohorts"]["axes"][0]["edges"] == {"age": [0.0, 18.0, ".inf"]}
