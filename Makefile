# `make demo` and `make test` set up what they need, alone and on a fresh machine: Python 3.11-3.13, make, a package index.
PYTHON ?= python3
RUN_DIR ?= runs/demo
BENCH_DIR ?= runs/bench
.DEFAULT_GOAL := help
.PHONY: help setup demo bench test test-jax test-lowest check docs lock clean

help:  ## List the targets.
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 13

setup: .venv/installed  ## Install everything into .venv.

.venv/installed: requirements.txt pyproject.toml
	$(PYTHON) -c "import sys; v = sys.version_info[:2]; sys.exit(None if (3, 11) <= v <= (3, 13) else f'Python 3.11 to 3.13 is needed. Received: {sys.version.split()[0]}; choose one with make PYTHON=python3.12')"
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --requirement requirements.txt
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

demo: .venv/installed  ## Run the main job on synthetic ad clicks, offline; it resumes where it was left.
	.venv/bin/c2al run pipelines/configs/demo.yaml --run-dir $(RUN_DIR)

bench: .venv/installed .venv/bench-installed .venv-bench/torch-installed .venv-bench/jax-installed  ## Measure speed and memory beside plain Keras, keras-rs, TFRS, PyTorch and JAX.
	.venv/bin/python -m c2al_pipelines.benchmarks --output $(BENCH_DIR)

# The peers are pinned here, as TFRS is in requirements.txt. What cannot be installed is left out: the tables say so.
.venv/bench-installed: .venv/installed
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps keras-rs==0.4.0 && touch $@ || echo "keras-rs could not be installed"

# PyTorch and JAX in an environment of their own, and without the gigabytes of CUDA.
.venv-bench/torch-installed:
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check --extra-index-url https://download.pytorch.org/whl/cpu torch==2.13.0+cpu numpy && touch $@ || echo "PyTorch could not be installed"

.venv-bench/jax-installed: | .venv-bench/torch-installed
	.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check jax==0.10.2 && touch $@ || echo "JAX could not be installed"

# One process a core is enough: with a thread a core in each of them they wait for each other, a fifth of the time.
test test-lowest: export OPENBLAS_NUM_THREADS = 1
test test-lowest: export OMP_NUM_THREADS = 1

test: .venv/installed  ## Run the tests, without those marked slow.
	.venv/bin/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder

# JAX beside the environment, not in it: what it needs is there already.
JAX_TESTS = tests/layers tests/test_losses.py tests/test_metrics.py tests/test_model.py \
	$(addprefix tests/pipelines/benchmarks/test_device_,rows.py grid.py step.py)

test-jax: .venv-jax/installed  ## Run the tests of layers, losses, metrics, models and device benchmarks with Keras on JAX.
	KERAS_BACKEND=jax PYTHONPATH=.venv-jax .venv/bin/python -m pytest $(JAX_TESTS)

.venv-jax/installed: .venv/installed
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --target .venv-jax jax==0.10.2 jaxlib==0.10.2
	touch $@

# `make test-lowest` leaves out what is long: statistics, trained models, benchmarks. The rest touches every package.
LONG_TESTS = tests/cohorts/test_chance.py tests/cohorts/test_discovery.py tests/evaluation/test_claims.py \
	tests/optimizers/test_sparse_optimizer.py tests/pipelines/benchmarks tests/pipelines/commands tests/pipelines/run \
	tests/pipelines/test_census_run.py tests/training/test_checkpoint.py tests/training/test_distribution.py

test-lowest: .venv-lowest/installed  ## Run the quick tests with the lowest versions that pyproject.toml allows.
	.venv-lowest/bin/python -m pytest --numprocesses auto --dist loadfile $(LONG_TESTS:%=--ignore=%)

# Direct dependencies at their lowest versions that have wheels, what these need at the newest. A new environment each
# time: uv keeps an installed version that satisfies the ranges.
.venv-lowest/installed: pyproject.toml
	$(PYTHON) -m venv --clear .venv-lowest
	.venv-lowest/bin/python -m pip install --quiet --disable-pip-version-check uv
	.venv-lowest/bin/uv pip install --quiet --python .venv-lowest/bin/python --resolution lowest-direct --only-binary :all: --compile-bytecode --editable '.[dev]'
	touch $@

check: .venv/installed  ## Run the linters, the type check and the import contract.
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/lint-imports

docs: .venv-docs/installed  ## Build the API reference from the docstrings into build/docs; a warning is an error.
	.venv-docs/bin/python pipelines/reference/pages.py build/reference
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/python -m mkdocs build --strict

.venv-docs/installed: pyproject.toml
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python -m pip install --quiet --disable-pip-version-check mkdocs==1.6.1 mkdocs-material==9.8.2 mkdocstrings==1.0.8 mkdocstrings-python==2.0.11 ruff==0.17.6
	.venv-docs/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[client]'
	touch $@

lock:  ## Compile requirements.txt from the ranges in pyproject.toml.
	.venv/bin/python -m pip install --quiet uv
	.venv/bin/uv pip compile --quiet --upgrade --universal --python-version 3.11 --extra dev --custom-compile-command "make lock" pyproject.toml -o requirements.txt

clean:  ## Remove the environments and the caches; runs/ stays.
	rm -rf .venv .venv-bench .venv-docs .venv-jax .venv-lowest .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis build *.egg-info
