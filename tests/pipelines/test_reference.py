"""Every public name is on a page of the API reference; `make docs` builds it and finds what is wrong in docstrings."""

import importlib
import re
import runpy
from pathlib import Path

import pytest

import c2al_tf

SCRIPT = Path(__file__).parents[2] / "pipelines" / "reference" / "pages.py"


@pytest.fixture(scope="module")
def script():
    return runpy.run_path(str(SCRIPT))


@pytest.fixture(scope="module")
def pages(script):
    return list(script["pages"]())


def test_each_public_name_is_on_one_page(pages) -> None:
    names = [name for page in pages for name in page.names]
    assert sorted(name.removeprefix("c2al_tf.") for name in names if name.count(".") == 1) == c2al_tf.__all__
    assert len(names) == len(set(names))


def test_what_pages_name_is_there(pages) -> None:
    for page in pages:
        if page.module == "c2al_tf.integrations.tfrs":  # Keras 2
            continue
        for name in (*page.names, *page.further):
            module, _, attribute = name.rpartition(".")
            assert hasattr(importlib.import_module(module), attribute), name


def test_the_index_leads_to_every_page(script, pages, tmp_path) -> None:
    script["write_pages"](tmp_path / "reference")
    index = (tmp_path / "reference" / "index.md").read_text()
    files = {path.relative_to(tmp_path / "reference").as_posix() for path in tmp_path.rglob("*.md")}
    assert {*re.findall(r"\]\(([^)#]*)", index), "index.md"} == files == {page.file for page in pages} | {"index.md"}
