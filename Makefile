# Python 3.11 or 3.12 and pip are all that must be there.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# Two workers of one thread each; a file's tests stay together, because they share what they train.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

.PHONY: help install test test-slow lint size demo clean

help: ## what can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

install: $(INSTALLED) ## a .venv with the package and what developing it needs

$(INSTALLED): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' \
		|| { echo "gnvc-vd needs Python 3.11 or 3.12; say PYTHON=python3.11"; exit 2; }
	$(PYTHON) -m venv $(VENV) 2>/dev/null || { $(PYTHON) -m pip install -q virtualenv && $(PYTHON) -m virtualenv -q $(VENV); }
	$(BIN)/python -m pip install -q -e '.[dev]'
	@touch $@

lint: install ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint ## install, style, types, and every test that is fast
	$(PYTEST)

test-slow: install ## the full counts: mutations, kills, process matrices
	$(PYTEST) -m slow

size: install ## lines of code in the package, by room, and whether they are within its budget
	$(BIN)/python -m lab.size

demo: install ## the whole method on a shipped clip
	$(BIN)/gnvc-vd demo

clean: ## everything that make made
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
