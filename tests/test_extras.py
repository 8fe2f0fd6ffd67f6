"""The extras: each holds what its code imports, and what is missing is said with the extra that has it."""

import ast
import importlib.metadata
import json
import re
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from packaging.requirements import Requirement

from c2al_tf import extras

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PROVIDERS = importlib.metadata.packages_distributions()
# Modules that a declared distribution exposes as its own.
PARTS = {"markupsafe": "jinja2", "jaxlib": "jax"}


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def providers(module: str) -> set[str]:
    """Distributions that have the module; by its name if it is not installed."""
    top = module.partition(".")[0]
    return set(map(normalized, PROVIDERS.get(top, [top]) if top not in PARTS else [PARTS[top]]))


def declared(extra: str) -> list[Requirement]:
    """The requirements of an extra, or of every install (""), with those of the extras that it includes."""
    lines = PROJECT["optional-dependencies"][extra] if extra else PROJECT["dependencies"]
    requirements = []
    for each in map(Requirement, lines):
        requirements += [r for name in each.extras for r in declared(name)] if each.name == "c2al_tf" else [each]
    return requirements


def own_names(extra: str) -> set[str]:
    """What an extra adds to those with modules of their own in `extras.MODULES` that it includes."""
    included = {name for line in PROJECT["optional-dependencies"][extra] for name in Requirement(line).extras}
    inherited = {r.name for name in included & set(extras.MODULES) for r in declared(name)}
    names = {normalized(r.name) for r in declared(extra)}
    return names - set(map(normalized, inherited)) | (names & {"tensorflow"} if "tensorflow" in included else set())


def closure(requirements: list[Requirement]) -> set[str]:
    """All distributions that pip installs for them, of those that are installed here."""
    found: set[str] = set()
    queue = [(normalized(r.name), frozenset(r.extras)) for r in requirements]
    seen = set(queue)
    while queue:
        name, of = queue.pop()
        found.add(name)
        for needed in map(Requirement, importlib.metadata.requires(name) or ()):
            item = normalized(needed.name), frozenset(needed.extras)
            marked = needed.marker is None or any(needed.marker.evaluate({"extra": e}) for e in of or {""})
            if marked and item not in seen:
                seen.add(item)
                queue.append(item)
    return found


# Hides what is not installed: as in a clean environment, `find_spec` gives None and `import` fails.
HIDE = """
import importlib.machinery, json, sys
HIDDEN = set(json.loads(sys.argv[1]))

class Finder(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in HIDDEN else super().find_spec(name, path, target)

sys.meta_path = [Finder if each is importlib.machinery.PathFinder else each for each in sys.meta_path]
"""


@pytest.fixture
def installed(run_python) -> Callable[..., "CompletedProcess[str]"]:
    """`installed(names, code)`: runs code where only these extras are installed."""

    def run(names: str, code: str, check: bool = True) -> "CompletedProcess[str]":
        there = closure([r for name in ("", *names.split()) for r in declared(name)])
        ours = {"c2al_tf", "c2al_serving", "c2al_pipelines"}
        hidden = [m for m in PROVIDERS if m not in ours and not providers(m) & there]
        return run_python(HIDE + code, json.dumps(hidden), check=check)

    return run


@pytest.mark.parametrize("extra", extras.MODULES)
def test_the_modules_are_those_of_pyproject(extra) -> None:
    names = own_names(extra)
    found = [providers(module) & names for module in extras.MODULES[extra]]
    assert all(found)
    assert set.union(*found) == names


def test_every_import_is_declared() -> None:
    names = {normalized(r.name) for extra in ("", "beam", "bench") for r in declared(extra)}
    undeclared = {}
    for file in (each for folder in ("c2al_tf", "serving", "pipelines") for each in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                modules = [str(node.module)]
            for top in {module.partition(".")[0] for module in modules} - sys.stdlib_module_names:
                if not top.startswith("c2al_") and not providers(top) & names:
                    undeclared[top] = str(file)
    assert undeclared == {}


CLIENT = """
import numpy as np
from c2al_serving.admin import reload_config
from c2al_serving.async_client import AsyncPredictClient
from c2al_serving.client import PredictClient, PredictError
with PredictClient("127.0.0.1:1", "ranker", cast=False, retries=0) as client:
    try:
        outputs = client.predict({"x": np.float32([1, 2])})
    except PredictError as error:
        assert error.code.name == "UNAVAILABLE" and "ranker" in str(error)
    else:
        raise AssertionError(outputs)
"""
NAMES = """
import c2al_tf
for name in c2al_tf.__all__:
    getattr(c2al_tf, name)
"""


@pytest.mark.parametrize(
    ("names", "code"),
    [
        ("", "import c2al_tf; c2al_tf.Schema, c2al_tf.ModelConfig"),
        ("client", CLIENT),
        ("cohorts", "from c2al_tf import discover_cohorts, evaluate_by_cohort, prepare, read_columns, slice_metrics"),
        ("cohorts", "import c2al_pipelines.datasets.generate, c2al_pipelines.datasets.truth_table"),
        ("client cohorts", "import c2al_pipelines.prediction.predict"),
        ("serving", "import c2al_serving.server, c2al_serving.servable.loading"),
        ("train", NAMES),
        ("train report", "import c2al_pipelines.report.report, c2al_pipelines.run.details"),
    ],
)
def test_an_extra_is_enough(installed, names, code) -> None:
    installed(names, code)


def test_the_command_helps_in_the_smallest_install(installed) -> None:
    output = installed("", 'from c2al_pipelines.cli import main; main(["--help"])', check=False).stdout
    assert "Start with: c2al run" in output


@pytest.mark.parametrize(
    ("names", "words", "message"),
    [
        ("", "run a.yaml --run-dir r", "not installed: optuna, sklearn, tensorboard.*'c2al_tf[experiments]'"),
        ("train", "report --run-dir r", "not installed: jinja2, matplotlib.*'c2al_tf[report]'"),
        ("", "predict a.parquet --output b.csv", "not installed: google.protobuf, grpc, .*'c2al_tf[client,cohorts]'"),
        (
            "cohorts",
            "generate --output d --format tfrecord --num-rows 9",
            "not installed: tensorflow.*'c2al_tf[train]'",
        ),
    ],
)
def test_a_command_names_the_extra_that_is_missing(installed, tmp_path, names, words, message) -> None:
    code = f"import os; from c2al_pipelines.cli import main; os.chdir({str(tmp_path)!r}); main({words.split()})"
    *before, error = installed(names, code, check=False).stderr.splitlines()
    start, end = message.split(".*")
    assert error.startswith(f"c2al: {start}")
    assert error.endswith(f"Install with: pip install {end}")
    assert "Traceback" not in "".join(before)


@pytest.mark.parametrize(
    ("names", "code", "extra"),
    [
        ("", "c2al_tf.discover_cohorts", "cohorts"),
        ("cohorts", "c2al_tf.build_model", "train"),
        ("", "import c2al_serving.client", "client"),
    ],
)
def test_an_import_names_the_extra_that_is_missing(installed, names, code, extra) -> None:
    error = installed(names, f"import c2al_tf; {code}", check=False).stderr.splitlines()[-1]
    assert error.startswith("c2al_tf.extras.MissingExtraError: not installed: ")
    assert error.endswith(f"pip install 'c2al_tf[{extra}]'")


def test_an_error_that_no_extra_mends_stays_what_it_is() -> None:
    assert extras.as_missing_extra(ModuleNotFoundError("no", name="tensorflow.python.absent")) is None
    assert extras.as_missing_extra(ModuleNotFoundError("no")) is None
    assert extras.as_missing_extra(ModuleNotFoundError("no", name="google")).name == "google"
