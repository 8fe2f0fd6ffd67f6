# `make demo` and `make test` set up what they need, alone and on a fresh machine: Python 3.11-3.13, make, a package index.
PYTHON ?= python3
RUN_DIR ?= runs/demo
BENCH_DIR ?= runs/bench
.DEFAULT_GOAL := help
.PHONY: help setup demo bench test check lock clean

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

bench: .venv/installed .venv/bench-installed .venv-bench/installed  ## Measure speed and memory beside plain Keras, keras-rs, TFRS and PyTorch.
	.venv/bin/python -m c2al_pipelines.benchmarks --output $(BENCH_DIR)

# The peers are pinned here, as TFRS is in requirements.txt. What cannot be installed is left out: the tables say so.
.venv/bench-installed: .venv/installed
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps keras-rs==0.4.0 && touch $@ || echo "keras-rs could not be installed"

# PyTorch in an environment of its own, and without the gigabytes of CUDA.
.venv-bench/installed:
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check --extra-index-url https://download.pytorch.org/whl/cpu torch==2.13.0+cpu numpy && touch $@ || echo "PyTorch could not be installed"

test: .venv/installed  ## Run the tests, without those marked slow.
	.venv/bin/python -m pytest --numprocesses auto --dist loadfile

check: .venv/installed  ## Run the linters, the type check and the import contract.
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/lint-imports

lock:  ## Compile requirements.txt from the ranges in pyproject.toml.
	.venv/bin/python -m pip install --quiet uv
	.venv/bin/uv pip compile --quiet --upgrade --universal --python-version 3.11 --extra dev --custom-compile-command "make lock" pyproject.toml -o requirements.txt

clean:  ## Remove .venv and the caches; runs/ stays.
	rm -rf .venv .venv-bench .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis build *.egg-info
