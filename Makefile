# Everything runs in .venv. PYTHON is the interpreter it is made with, ARGS are handed on: make train ARGS="model=dcunet"
PYTHON ?= python3
BIN := .venv/bin
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: help setup train test test-all test-exhaustive check docs clean
.DEFAULT_GOAL := help

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

setup: .venv/.installed  ## make .venv with the exact versions of constraints.txt; a second call does nothing

.venv/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check --no-input --quiet -c constraints.txt -e '.[dev]'
	@touch $@

train: setup  ## train U-Net on synthetic crack photos; ARGS="key=value ..." changes anything
	$(BIN)/python src/train.py data.root=phantom $(ARGS)

check: setup  ## lint, types, import contracts, notebooks without output
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/codespell
	$(BIN)/mypy --strict src
	$(BIN)/lint-imports
	$(BIN)/nbstripout --verify notebooks/*.ipynb

test: check  ## check, then the fast tests
	$(PYTEST)

test-all: check  ## check, then the tests of all lanes: fast, slow and ddp
	$(PYTEST) -m "not exhaustive"

test-exhaustive: setup  ## the lane that CI leaves out: every network compiled and exported, an hour or more
	$(PYTEST) -m exhaustive

docs: setup  ## build the documentation as a site into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

clean:  ## remove caches of tools; .venv, runs/ and cache/ stay
	rm -rf .pytest_cache .mypy_cache .ruff_cache .import_linter_cache build dist site
	find . -name __pycache__ -type d -not -path './.venv/*' -prune -exec rm -rf {} +
