# Every target that a person types has its `##` text; `make help` prints them.
# `make` turns any failure into exit code 2: a pipeline that needs the exact code calls `.venv/bin/ragline`.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RAGLINE := $(BIN)/ragline
export DO_NOT_TRACK := 1
export PREFECT_SERVER_ANALYTICS_ENABLED := false
UV := $(BIN)/uv pip install --quiet --python $(BIN)/python

.PHONY: help setup index eval ask test check fix bench server clean lock

help: ## This list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | awk -F '\t' '{ printf "  make %-8s %s\n", $$1, $$2 }'

setup: $(VENV)/.ready ## Make .venv and install exactly what requirements.lock says

$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' || \
	  { echo "ragline needs Python 3.11 to 3.13, and $(PYTHON) is $$($(PYTHON) --version 2>&1): make setup PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -m venv --clear $(VENV) || { echo "making .venv failed; on Debian: apt-get install python3-venv" >&2; exit 1; }
	@echo "installing into $(VENV) (once; most of it is download)" >&2
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --require-hashes -r requirements-setup.lock
	@touch $@

$(VENV)/.ready: requirements.lock pyproject.toml $(VENV)/.python
	@$(UV) --require-hashes --no-deps --compile-bytecode -r requirements.lock
	@$(UV) --no-deps --no-build-isolation --editable .
	@echo "the command is $(RAGLINE); 'source $(BIN)/activate' puts it on the PATH" >&2
	@touch $@

$(VENV)/.ready-test: requirements-test.lock $(VENV)/.ready
	@$(UV) --require-hashes --no-deps --compile-bytecode -r requirements-test.lock
	@touch $@

index: setup ## Re-index data/corpus and publish; pays nothing twice
	@$(RAGLINE) index --runner prefect

eval: setup ## Index the shipped corpus, ask the shipped questions (or DATASET=path), score them, write Parquet and HTML
	@$(RAGLINE) eval --reindex --runner prefect $(if $(DATASET),"$$DATASET")

ask: setup ## Ask: make ask Q="Who reopens the line?"
	@$(RAGLINE) ask "$${Q:?write make ask Q=\"your question\"}"

# compiled modules are kept, whatever the shell says: without them each run compiles every test again
test check: export PYTHONDONTWRITEBYTECODE =

test: $(VENV)/.ready-test ## All tests: fast ones in parallel, then real servers, kills and Prefect
	@$(BIN)/python -m pytest -q -n 2 --dist worksteal

check: $(VENV)/.ready-test ## Format, lint, types, import contracts and the fast tests, in a minute or two
	@$(BIN)/ruff format --check --quiet . || { echo "run: make fix" >&2; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy --no-error-summary & types=$$!; tests=0; \
	  $(BIN)/python -m pytest -q -n 2 --dist worksteal -m "not slow and not server and not prefect" || tests=$$?; \
	  wait $$types && exit $$tests

fix: $(VENV)/.ready-test ## Format, and mend what the linter can
	@$(BIN)/ruff format --quiet . && $(BIN)/ruff check --quiet --fix .

bench: $(VENV)/.ready-test ## Measure against the physical limits; writes benchmarks/results
	@for script in benchmarks/bench_*.py; do echo "== $$script" >&2; PYTHONPATH=. $(BIN)/python $$script; done

server: setup ## A local Prefect server with its UI, for a history that lasts
	@$(BIN)/prefect server start

clean: ## Remove .venv and caches; data/store stays
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist build

lock: setup ## Choose new versions for the lock files (needs the package index)
	@printf 'uv\nhatchling>=1.28\neditables>=0.5\n' | $(LOCK) - -o requirements-setup.lock
	@$(LOCK) pyproject.toml --extra anthropic --extra documents -o requirements.lock
	@$(LOCK) pyproject.toml --extra anthropic --extra documents --extra minilm --group dev \
	  --override requirements-overrides.txt -c requirements.lock -o requirements-test.lock
LOCK = $(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-header --no-annotate
