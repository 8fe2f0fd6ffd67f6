"""The package's table of contents: complete, right, and light."""

import ast
import importlib
from collections.abc import Callable
from pathlib import Path

import pytest

import c2al_tf


def typed_names() -> dict[str, str]:
    """Name to module of what type checkers see."""
    tree = ast.parse(Path(c2al_tf.__file__).read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    names = {}
    for statement in block.body:
        assert isinstance(statement, ast.ImportFrom)
        assert statement.level == 1
        for alias in statement.names:
            assert alias.asname == alias.name, "without `as` a type checker takes the import for private"
            names[alias.name] = statement.module
    return names


def test_type_checkers_see_what_is_imported() -> None:
    assert typed_names() == c2al_tf._HOME
    assert sum(map(len, c2al_tf._MODULES.values())) == len(c2al_tf._HOME)


def test_all_lists_every_name_once() -> None:
    assert c2al_tf.__all__ == sorted(c2al_tf._HOME) == dir(c2al_tf)
    assert [name for name in c2al_tf.__all__ if name.startswith("_")] == []


@pytest.mark.parametrize("name", c2al_tf.__all__)
def test_every_name_is_what_its_module_has(name) -> None:
    value = getattr(c2al_tf, name)
    assert value is getattr(importlib.import_module(f"c2al_tf.{c2al_tf._HOME[name]}"), name)
    assert value.__doc__


def test_an_unknown_name_lists_the_right_ones() -> None:
    with pytest.raises(AttributeError, match=r"module 'c2al_tf' has no attribute 'DHEN'; there are .*'DHENBlock'"):
        c2al_tf.DHEN  # noqa: B018
    with pytest.raises(ImportError, match="DHEN"):
        from c2al_tf import DHEN  # noqa: F401


@pytest.fixture
def loaded_after(run_python) -> Callable[[str], set[str]]:
    """`loaded_after(code)`: the distributions that are loaded then, in a process of its own."""
    return lambda code: set(
        run_python(code + "\nimport sys; print(*{name.partition('.')[0] for name in sys.modules})").stdout.split()
    )


def test_the_package_itself_loads_nothing(loaded_after) -> None:
    heavy = {"tensorflow", "keras", "numpy", "scipy", "pyarrow", "grpc", "jsonargparse"}
    assert heavy & loaded_after("import c2al_tf; dir(c2al_tf); c2al_tf.__all__") == set()


def test_what_needs_no_tensorflow_does_not_load_it(loaded_after) -> None:
    names = "Cohort, discover_cohorts, evaluate_by_cohort, slice_metrics, Schema, make_schema, ModelConfig, SavedModel"
    assert {"tensorflow", "keras"} & loaded_after(f"from c2al_tf import {names}") == set()
