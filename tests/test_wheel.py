"""The built wheel in clean environments. It needs a package index, and gigabytes of room for a while."""

import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
PARTS = "c2al_tf", "serving", "pipelines", "pyproject.toml", "README.md", "LICENSE"
CLIENT = """
import sys, time
start = time.perf_counter()
import c2al_tf
assert time.perf_counter() - start < 0.5
import importlib.util
import numpy as np
assert importlib.util.find_spec("tensorflow") is None
from c2al_serving.client import PredictClient, PredictError
with PredictClient("127.0.0.1:1", "ranker", cast=False, retries=0) as client:
    try:
        outputs = client.predict({"x": np.float32([1, 2])})
    except PredictError as error:
        assert error.code.name == "UNAVAILABLE" and "ranker" in str(error)
    else:
        raise AssertionError(outputs)
"""
LIBRARY = """
import sys, time
start = time.perf_counter()
import c2al_tf
assert time.perf_counter() - start < 0.5
assert "tensorflow" not in sys.modules
import keras
import numpy as np
inputs = keras.Input((3,))
hidden = keras.layers.Dense(4, name="hidden")(inputs)
model = c2al_tf.add_cohort_heads(keras.Model(inputs, keras.layers.Dense(1)(hidden)), "hidden", ["head", "tail"])
assert set(model(np.ones((2, 3), "float32"))) == {"primary", "head", "tail"}
c2al_tf.export_for_serving, c2al_tf.train
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    for name in PARTS:  # a build leaves folders beside its sources
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / name)
    _pip(sys.executable, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder / "dist", folder)
    (built,) = (folder / "dist").glob("*.whl")
    return built


@pytest.fixture
def install(wheel, tmp_path) -> Callable[[str], Path]:
    """`install("[client]")`: the folder of the commands of a new environment that has the wheel with this extra."""

    def in_new_environment(extra: str) -> Path:
        subprocess.run([sys.executable, "-m", "venv", tmp_path / "env"], check=True)
        _pip(tmp_path / "env/bin/python", "install", f"{wheel}{extra}")
        return tmp_path / "env" / "bin"

    return in_new_environment


def _pip(python: str | Path, *words: str | Path) -> None:
    subprocess.run([python, "-m", "pip", "--quiet", "--disable-pip-version-check", *words], check=True)


def _run(*command: str | Path, cwd: Path) -> str:
    """Isolated from this checkout: another folder, and no PYTHONPATH."""
    return subprocess.run(command, check=True, cwd=cwd, env={}, stdout=subprocess.PIPE, text=True).stdout


def test_the_wheel_is_small_and_holds_no_tests(wheel) -> None:
    assert wheel.stat().st_size < 1e6
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0] for name in names if "dist-info" not in name} == {
        *("c2al_tf", "c2al_serving", "c2al_pipelines")
    }


@pytest.mark.parametrize(("extra", "code"), [("", "import c2al_tf"), ("[client]", CLIENT), ("[train]", LIBRARY)])
def test_an_installed_wheel_works(install, tmp_path, extra, code) -> None:
    folder = install(extra)
    _run(folder / "python", "-c", code, cwd=tmp_path)
    assert "Start with: c2al run" in _run(folder / "c2al", "--help", cwd=tmp_path)
