# The common tasks. Each works alone in a fresh clone: it makes the environment it needs, once.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
WORKERS ?= 2
AUDIT_ARGS ?=
TEST_ARGS ?=
BENCH_ARGS ?=
PAPER ?= gradient-misalignment
REPRODUCE_ARGS ?= --tier cpu --write

VENV := .venv
BENCH := .venv-bench
PIP := -m pip --disable-pip-version-check --no-input install --quiet -c constraints.txt
KERNEL := $(wildcard src/assay/watermark/kernel/csrc/*.[ch])
TREE := src tests docs benchmarks reproductions

.PHONY: help audit test lint docs docs-outputs reproduce bench bench-environment clean

help:  ## print this list
	@echo "usage: make TARGET"
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)/  \1|\2/p' Makefile | awk -F'|' '{printf "%-20s %s\n", $$1, $$2}'
	@echo 'variables: AUDIT_ARGS="--suite quick", TEST_ARGS="-k claims", WORKERS=4, PYTHON=python3.12'

audit: $(VENV)/.installed  ## examine a model: assay audit $(AUDIT_ARGS)
	@$(VENV)/bin/assay audit $(AUDIT_ARGS)

test: $(VENV)/.installed-dev  ## run the tests
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -n $(WORKERS) $(TEST_ARGS)

lint: $(VENV)/.installed-dev  ## style and types
	$(VENV)/bin/ruff check $(TREE)
	$(VENV)/bin/ruff format --check $(TREE)
	$(VENV)/bin/mypy

docs: $(VENV)/.installed-dev  ## build the user guide into docs/_build/html, without the network
	@$(VENV)/bin/python -m sphinx -q -W --keep-going -b html docs docs/_build/html
	@echo "Guide: docs/_build/html/index.html"

docs-outputs: $(VENV)/.installed-dev  ## run the commands of the guide again and renew their outputs
	$(VENV)/bin/python docs/refresh.py

reproduce: $(VENV)/.installed-dev  ## reproduce a paper: make reproduce PAPER=dp-cert REPRODUCE_ARGS="--tier cpu --write"
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m reproductions $(PAPER) $(REPRODUCE_ARGS)

bench: $(BENCH)/.installed  ## compare with foolbox, torchattacks and ART
	$(BENCH)/bin/python benchmarks/run.py $(BENCH_ARGS)

bench-environment: $(BENCH)/.installed

clean:  ## remove environments, caches and built pages; runs stay
	rm -rf $(VENV) $(BENCH) build dist docs/_build src/*.egg-info .mypy_cache .ruff_cache .hypothesis
	rm -f src/assay/watermark/kernel/_native.*
	find $(TREE) -name __pycache__ -type d -prune -exec rm -rf {} +

# pyproject.toml, constraints.txt and the C kernel decide what is installed; a change of any installs again.

$(VENV)/.installed: pyproject.toml constraints.txt $(KERNEL) | $(VENV)/bin/python
	@echo "Installing assay into $(VENV) (once; the first time this downloads PyTorch) ..."
	@$(VENV)/bin/python $(PIP) -e .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt $(KERNEL) | $(VENV)/bin/python
	@echo "Installing assay and its development tools into $(VENV) (once; the first time this downloads PyTorch) ..."
	@$(VENV)/bin/python $(PIP) -e '.[dev]'
	@touch $(VENV)/.installed $@

# torchattacks declares torchvision, which nothing that is measured needs.
$(BENCH)/.installed: pyproject.toml constraints.txt $(KERNEL) | $(BENCH)/bin/python
	@echo "Installing assay and its peers into $(BENCH) (once) ..."
	@$(BENCH)/bin/python $(PIP) -e '.[bench]'
	@$(BENCH)/bin/python $(PIP) --no-deps torchattacks
	@touch $@

$(VENV)/bin/python $(BENCH)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "Assay needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) --version 2>/dev/null || echo not there)." >&2; \
	  echo "Name another one: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -m venv $(@D)/.. || { \
	  echo "The virtual environment could not be made; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
