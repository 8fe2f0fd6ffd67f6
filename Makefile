# `make demo` and `make test` set up what they need, alone and on a fresh machine: Python 3.11-3.13, make, a package index.
PYTHON ?= python3
RUN_DIR ?= runs/demo
.DEFAULT_GOAL := help
.PHONY: help setup demo test check lock clean

help:  ## List the targets.
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

setup: .venv/installed  ## Install everything into .venv.

.venv/installed: requirements.txt pyproject.toml
	$(PYTHON) -c "import sys; v = sys.version_info[:2]; sys.exit(None if (3, 11) <= v <= (3, 13) else f'Python 3.11 to 3.13 is needed. Received: {sys.version.split()[0]}; choose one with make PYTHON=python3.12')"
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --requirement requirements.txt
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

demo: .venv/installed  ## Run the main job on synthetic ad clicks, offline; it resumes where it was left.
	.venv/bin/c2al run pipelines/configs/demo.yaml --run-dir $(RUN_DIR)

test: .venv/installed  ## Run the tests, without those marked slow.
	.venv/bin/python -m pytest

check: .venv/installed  ## Run the linters, the type check and the import contract.
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/lint-imports

lock:  ## Compile requirements.txt from the ranges in pyproject.toml.
	.venv/bin/python -m pip install --quiet uv
	.venv/bin/uv pip compile --quiet --upgrade --universal --python-version 3.11 --extra dev --custom-compile-command "make lock" pyproject.toml -o requirements.txt

clean:  ## Remove .venv and the caches; runs/ stays.
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis build *.egg-info
