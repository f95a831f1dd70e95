# Everything runs from .venv, which the first target that needs it makes. Another interpreter: make PYTHON=python3.12
PYTHON ?= python3
BIN := .venv/bin
# Tests beside each other, a file at a time. More than cores / 2 is of no use: many tests start processes themselves,
# each of which would otherwise start a thread per core.
TEST_PROCESSES ?= 2
PYTEST := OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadfile
STAMP := .venv/.installed

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all lint notebooks clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## /\1\t/' | expand -t 12

setup: $(STAMP) ## make .venv and install everything into it

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c "import sys; sys.exit('Python 3.11 or newer is needed: make PYTHON=python3.12 ...' if sys.version_info < (3, 11) else 0)"
	@echo "Installing into .venv: PyTorch and the rest, one to a few minutes"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch $@

demo: $(STAMP) ## train on the synthetic street: no download, minutes on a laptop, ends with pictures
	$(BIN)/python -m src.train experiment=demo name=demo
	@echo
	@echo "To look at: runs/train/demo/report.html    Pictures: runs/train/demo/pictures/"
	@echo "Next, the same network evaluated again from its checkpoint, with more pictures:"
	@echo "  $(BIN)/python -m src.eval checkpoint=runs/train/demo/checkpoints/best.ckpt name=demo"

test: $(STAMP) ## the fast tests
	$(PYTEST)

test-all: $(STAMP) ## the slow tests, too
	$(PYTEST) -m ""

lint: $(STAMP) ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

notebooks: $(STAMP) ## run the notebooks as they stand
	$(BIN)/python -m pytest -m "" tests/test_notebooks.py

clean: ## remove caches (not runs/, not .cache/)
	rm -rf .pytest_cache .ruff_cache .mypy_cache *.egg-info
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
