"""The command's surface: what it says of wrong words, and how little it loads."""

from pathlib import Path

import pytest
from c2al_pipelines import cli

COMMANDS = (
    *("run", "prepare", "train", "discover", "evaluate", "diagnose", "export", "report", "serve", "predict"),
    *("reload-config", "init"),
)
CONFIG = """
title: A run
data: {name: synthetic_ads}
training: {epochs: 2}
"""
MODEL_KEYS = "model.attention", "model.embedding_dim", "model.num_blocks"
TOP_KEYS = "title", "seeds", "first_seed", "unit", "run-dir", "cohorts.axes", "data.files", "training.epochs"


@pytest.fixture
def config(tmp_path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG)
    return path


def keys_of(error: str) -> list[str]:
    return error.split("The keys are:\n")[1].split()


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example(c2al, command) -> None:
    outcome = c2al(command, "--help")
    assert outcome.status == 0
    text = " ".join(outcome.output.split())
    assert f"usage: c2al {command}" in text
    assert f"Example: c2al {command} " in text


def test_the_commands_are_listed(c2al) -> None:
    for words in ((), ("--help",)):
        outcome = c2al(*words)
        assert outcome.status == 0
        assert all(f"\n    {command} " in outcome.output for command in COMMANDS)
        assert "Start with: c2al run pipelines/configs/demo.yaml" in outcome.output


def test_help_loads_no_tensorflow(run_python) -> None:
    code = """
import contextlib, sys
from c2al_pipelines.cli import main
heavy = {"tensorflow", "keras", "pyarrow", "scipy", "sklearn", "matplotlib", "numpy"}
for command in ("serve", "predict", "reload-config", "train", "export"):
    with contextlib.suppress(SystemExit):
        main([command, "--help"])
    print("loaded:", command, sorted(heavy & set(sys.modules)), file=sys.stderr)
"""
    loaded = run_python(code).stderr
    assert loaded.count("loaded: ") == loaded.count(" []\n") == 5, loaded


def test_serve_loads_no_tensorflow(run_python) -> None:
    code = """
import sys
import c2al_serving.server
c2al_serving.server.serve = lambda *_, **__: print("loaded:", sorted({"tensorflow", "keras"} & set(sys.modules)))
from c2al_pipelines.cli import main
main(["serve", "export"])
"""
    assert run_python(code).stdout == "loaded: []\n"


def test_an_unknown_command_lists_the_right_ones(c2al) -> None:
    outcome = c2al("serv", "export")
    assert outcome.status == 2
    assert "invalid choice: 'serv'" in outcome.error
    assert all(f"'{command}'" in outcome.error for command in COMMANDS)


@pytest.mark.parametrize("words", [("--training.epochz", "3"), ("--seedz=3",), ("--epochs", "3"), ("--no-such-flag",)])
def test_an_unknown_key_on_the_command_line_lists_the_right_ones(c2al, config, tmp_path, words) -> None:
    outcome = c2al("prepare", config, "--run-dir", tmp_path / "run", *words)
    assert outcome.status == 2
    assert words[0].split("=")[0] in outcome.error.splitlines()[0]
    assert set(keys_of(outcome.error)) >= {*MODEL_KEYS, *TOP_KEYS}
    assert not {"help", "config", "cohorts.axes.help", "cohorts.guard"} & set(keys_of(outcome.error))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("old", "new", "named", "right"),
    [
        ("epochs: 2", "epochz: 2", "training.epochz", "training.epochs"),
        ("title:", "seedz: 3\ntitle:", "seedz", "seeds"),
        ("name: synthetic_ads", "name: synthetic_ads, filez: 3", "data.filez", "data.files"),
        ("title:", "cohorts: {axes: [{columns: [age], edgez: 3}]}\ntitle:", "edgez", "edges"),
        ("title:", "cohorts: {guard: {min_rows: 3}}\ntitle:", "cohorts.guard.min_rows", "cohorts.guard.min_positives"),
    ],
)
def test_an_unknown_key_in_the_file_lists_the_right_ones(c2al, config, tmp_path, old, new, named, right) -> None:
    config.write_text(CONFIG.replace(old, new))
    outcome = c2al("prepare", config, "--run-dir", tmp_path / "run")
    assert outcome.status == 2
    assert f"'{named}'" in outcome.error.splitlines()[0]
    assert right in keys_of(outcome.error)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("--training.epochs", "many"),
            r"Parser key \"training.epochs\":\n  Expected a <class 'int'>. Got value: many",
        ),
        (("--data.name", "adds"), "['synthetic_ads', 'census', 'movielens', 'files']. Got value: adds"),
        (("--training.decay", "linear"), "['cosine', 'constant']. Got value: linear"),
        (("--model.shared_units", "[8,x]"), 'Parser key "model.shared_units"'),
        (("--cohorts.divergence", "hellinger"), "['js', 'kl', 'wasserstein', 'cosine']. Got value: hellinger"),
    ],
)
def test_a_wrong_type_names_key_rule_and_value(c2al, config, tmp_path, words, message) -> None:
    outcome = c2al("prepare", config, "--run-dir", tmp_path / "run", *words)
    assert outcome.status == 2
    assert message.replace("\\n", "\n").replace('\\"', '"') in outcome.error
    assert "See `c2al prepare --help`." in outcome.error
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--training.epochs", "0"), "`epochs` must be at least 1. Received: epochs=0"),
        (("--model.dropout", "1"), "`dropout` must be in [0, 1). Received: dropout=1.0"),
        (("--seeds", "0"), "`seeds` must be at least 1. Received: seeds=0"),
        (("--cohorts.lambdas", "[0.1,0.2,0.3]"), "`lambdas` must hold one value, or one for each of the 2 cohorts"),
        (("--data.synthetic_ads.click_rate", "0.9"), "`click_rate` must be in (0, 0.2]. Received: click_rate=0.9"),
        (("--data.name", "files"), "`data.files` must be given with data.name=files"),
        (("--data.name", "census", "--data", "no/such"), "no/such"),
        (
            ("--cohorts.axes", "[{columns: [user_valve]}]"),
            "axis `user_valve` is on a column that the data lack. Received: 'user_valve'; there are ['ad_id'",
        ),
        (
            ("--cohorts.given", "[{name: a, conditions: [{column: user_valve, low: 1}]}]"),
            "cohort `a` is on a column that the data lack. Received: 'user_valve'; there are ['ad_id'",
        ),
        (("--unit", "user"), "`unit` is on a column that the data lack. Received: 'user'; there are ['ad_id'"),
    ],
)
def test_a_value_that_breaks_a_rule_is_one_message(c2al, config, tmp_path, words, message) -> None:
    outcome = c2al("prepare", config, "--run-dir", tmp_path / "run", *words)
    assert outcome.status == 1
    assert outcome.error.count("c2al: ") == 1
    assert message in outcome.error
    assert not (tmp_path / "run" / "data").exists()


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (("prepare", "absent.yaml", "--run-dir", "x"), 2, "File does not exist"),
        (("run", "absent.yaml", "--run-dir", "x"), 2, "absent.yaml"),
        (("serve", "absent/export", "--poll-seconds", "0"), 1, "absent/export: [Errno 2] No such file or directory"),
        (("predict", "absent.csv", "--output", "out.csv"), 1, "absent.csv: no such file"),
        (("train", "--run-dir", "absent", "--arm", "c2al"), 1, "absent/config.json is not there"),
        (("train", "--run-dir", "absent"), 2, "arm"),
        (("diagnose", "--run-dir", "absent"), 1, "absent/config.json is not there"),
        (("prepare",), 2, "run_dir"),
        (("serve", "export", "--grpc-port", "http"), 2, "Expected a <class 'int'>. Got value: http"),
        (("train", "--run-dir", "absent", "--arm", "c2al", "--epochs", "3"), 2, "The keys are:\n  arm\n  run-dir"),
    ],
)
def test_what_is_absent(c2al, tmp_path, monkeypatch, words, status, message) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = c2al(*words)
    assert outcome.status == status
    assert message in outcome.error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "title: [unclosed\n", "just words"])
def test_a_file_that_is_no_configuration(c2al, config, tmp_path, text) -> None:
    config.write_text(text)
    outcome = c2al("prepare", config, "--run-dir", tmp_path / "run")
    assert outcome.status == 2
    assert outcome.error.startswith("c2al: ")
    assert "config" in outcome.error
    assert not (tmp_path / "run").exists()


def replace_call(monkeypatch, call) -> None:
    from c2al_pipelines.run import steps

    monkeypatch.setattr(steps, "prepare_run", call)


def test_what_is_configured_reaches_the_step(c2al, config, tmp_path, monkeypatch) -> None:
    """The file, `--data`, and keys of the command line, which win."""
    runs = []
    replace_call(monkeypatch, runs.append)
    words = ("--data", "folder", "--training.epochs=5", "--model.shared_units", "[3,4]", "--cohorts.lambdas=[0.5]")
    assert c2al("prepare", config, "--run-dir", tmp_path / "run", *words).status == 0
    assert c2al("prepare", config, "--run-dir", tmp_path / "run", "--data=folder", *words[2:]).status == 0
    assert runs[0] == runs[1]
    run = runs[0].config
    assert (run.title, run.training.epochs, run.model.shared_units) == ("A run", 5, (3, 4))
    assert (run.data.path, run.cohorts.lambdas, run.seeds) == (Path("folder"), (0.5,), 3)


def test_an_interruption_says_how_to_go_on(c2al, config, tmp_path, monkeypatch) -> None:
    def interrupt(run):
        raise KeyboardInterrupt

    replace_call(monkeypatch, interrupt)
    outcome = c2al("prepare", config, "--run-dir", tmp_path / "run")
    assert outcome.status == 1
    assert outcome.error == "c2al: interrupted. The same command keeps what is finished and does the rest."


@pytest.mark.parametrize("kind", [KeyError, TypeError, RuntimeError])
def test_a_mistake_of_ours_keeps_its_traceback(c2al, config, tmp_path, monkeypatch, kind) -> None:
    def fail(run):
        raise kind("ours")

    replace_call(monkeypatch, fail)
    with pytest.raises(kind, match="ours"):
        c2al("prepare", config, "--run-dir", tmp_path / "run")


def test_the_traceback_can_be_had(c2al, config, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("C2AL_TRACEBACK", "1")
    with pytest.raises(ValueError, match="`epochs` must be at least 1"):
        cli.main(["prepare", str(config), f"--run-dir={tmp_path}", "--training.epochs=0"])


def test_an_error_inside_tf_data_is_shown_as_ours() -> None:
    import tensorflow as tf

    def rows():
        yield 1
        raise ValueError("train.parquet: row 7: label `y` must be 0 or 1. Received: 2")

    batches = tf.data.Dataset.from_generator(rows, output_signature=tf.TensorSpec((), tf.int64))
    with pytest.raises(tf.errors.InvalidArgumentError) as error:
        list(batches)
    assert cli._message(error.value) == "train.parquet: row 7: label `y` must be 0 or 1. Received: 2"


def test_an_error_inside_a_graph_is_shown_without_its_node() -> None:
    error = RuntimeError(
        "2 root error(s) found.\n  (0) UNKNOWN:  ValueError: a message\non two lines\n\n\t [[{{node PyFunc}}]]"
    )
    assert cli._message(error) == "a message\non two lines"


@pytest.mark.parametrize("command", ["run", "prepare", "discover", "evaluate", "export"])
def test_what_one_process_does_is_refused_to_workers(c2al, config, tmp_path, monkeypatch, command) -> None:
    cluster = '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 0}}'
    monkeypatch.setenv("TF_CONFIG", cluster)
    words = (config,) if command in ("run", "prepare") else ()
    outcome = c2al(command, *words, "--run-dir", tmp_path / "run")
    assert outcome.status == 1
    assert (
        f"`c2al {command}` runs in one process, without TF_CONFIG. Received: TF_CONFIG with 2 workers" in outcome.error
    )
    assert "`c2al train --run-dir DIR --arm baseline` on all" in outcome.error
    assert not (tmp_path / "run").exists()
