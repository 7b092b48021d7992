# `make search` and `make test` need nothing but Python >= 3.11 and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# The installed layout as links, for tools that do not ask Python where a package lies (pyright, import-linter).
TREE := $(VENV)/src/mgnas
ROOMS := models space search reports cli
# Tests with Ray wait for processes most of the time, so three at a time keep two cores busy.
PYTEST := $(BIN)/python -m pytest --numprocesses 3 --dist worksteal

.PHONY: help install links search test test-slow lint coverage format clean

help:
	@echo "make search     install, search on scikit-learn's digits, write the report (minutes)"
	@echo "make test       install, run the test suite"
	@echo "make test-slow  the slow tests too"
	@echo "make lint       ruff, import rules, types"
	@echo "make coverage   the test suite with line coverage"

install: $(STAMP)

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "mgnas needs Python 3.11 or newer; name one with make PYTHON=..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	touch $@
	$(MAKE) links

links:
	@mkdir -p $(TREE)
	@ln -sfn $(addprefix ../../../,$(ROOMS) $(wildcard mgnas/*.py) mgnas/py.typed) $(TREE)

search: install
	$(BIN)/mgnas search configs/digits.yaml

test: install
	$(PYTEST)

test-slow: install
	$(BIN)/python -m pytest -m 'slow or not slow'

lint: install links
	$(BIN)/ruff check --no-cache .
	$(BIN)/ruff format --no-cache --check .
	cd $(VENV)/src && $(CURDIR)/$(BIN)/lint-imports --no-cache --no-logo $(CURDIR)/pyproject.toml
	$(BIN)/pyright

coverage: install
	$(PYTEST) --cov --cov-report=term --cov-report=html:build/coverage

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
