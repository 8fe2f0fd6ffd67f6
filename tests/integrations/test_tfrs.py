"""TFRS runs on Keras 2, in processes of its own: each case of `tfrs_cases.py` is a test here."""

import ast
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

import pytest

CASES = Path(__file__).with_name("tfrs_cases.py")
REPOSITORY = Path(__file__).parents[2]
SCRIPT = REPOSITORY / "pipelines" / "examples" / "tfrs_ranking.py"
KEYS = [each.name for each in ast.parse(CASES.read_text()).body if getattr(each, "name", "").startswith("test_")]
KERAS_2 = {**os.environ, "TF_USE_LEGACY_KERAS": "1"}


@pytest.fixture(scope="module")
def outcomes(start_process, tmp_path_factory) -> Mapping[str, list[str]]:
    """What each case found: for each of its parameters the failure, empty where it passed."""
    report = tmp_path_factory.mktemp("cases") / "report.xml"
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:xdist",
        "-p",
        "no:cacheprovider",
        f"--junitxml={report}",
        CASES,
    ]
    with start_process(command, env=KERAS_2, cwd=REPOSITORY) as process:
        output, error = process.communicate()
    assert report.is_file(), output + error
    found: dict[str, list[str]] = {}
    for case in ElementTree.parse(report).iter("testcase"):
        problem = next(iter(case), None)
        text = "" if problem is None else f"{case.get('name')}: {problem.tag}\n{problem.text}"
        found.setdefault(case.get("name", "").partition("[")[0], []).append(text)
    assert {*found} == {*KEYS}, output + error
    return found


@pytest.mark.parametrize("case", KEYS)
def test_case(case, outcomes) -> None:
    assert "\n".join(outcomes[case]).strip() == ""


def test_keras_3_is_told_what_to_set() -> None:
    with pytest.raises(ImportError, match=r"set TF_USE_LEGACY_KERAS=1 .*Received: TF_USE_LEGACY_KERAS=None, .*Keras 3"):
        import c2al_tf.integrations.tfrs  # noqa: F401


def test_the_script_runs_as_written(start_process, tmp_path) -> None:
    """Half of its rows: it finds the age groups that its ratings differ by, and exports nothing of them."""
    command = [sys.executable, SCRIPT, "--rows", "20000", "--seeds", "1", "--output", tmp_path / "export"]
    with start_process(command, env=KERAS_2, cwd=tmp_path) as process:
        output, error = process.communicate()
    assert process.returncode == 0, error
    assert re.search(r"- age is \d+\n- age is \d+\n", output), output
    exported = output.partition("variables of the export:")[2]
    assert exported.count("\n- ") == 8, "two tables, three kernels, three biases"
    assert "task_" not in exported
    assert "NE_diff, all" in output


def test_few_lines_of_the_script_change() -> None:
    assert 0 < SCRIPT.read_text().count("# C2AL\n") <= 10
